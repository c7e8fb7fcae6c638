//! UPDATE, and everything that ends in one: patch, apply, status, scale. One optimistic loop for all.
//!
//! A write starts from the cache. When the cache was behind, what etcd holds takes its place and the write is worked out again; an error
//! is only believed when it was found against etcd's own state.

use api::field::{Errors, Path};
use api::object::Meta as _;
use api::status::Status;
use serde_json::Value;

use super::options::WriteOptions;
use super::projection::{self, Part, project};
use super::write::{Current, MAX_TRIES};
use super::{Call, Reply, create, metadata, ownership, write};
use crate::admission::{Admission, Operation};
use crate::resource::{Deletion, Subresource};
use crate::storage::{Expect, Outcome};

/// Works out what is submitted, in the row's version, from the object as it is, in the worked form. Of `scale`, a Scale is submitted.
pub type Compute<'a> = &'a (dyn Fn(Option<&Value>) -> Result<Value, Status> + Sync);

/// What happens when there is no such object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// 404.
    NotFound,
    /// It is created.
    Create,
}

enum Attempt {
    Done(Reply),
    Stale(Option<Current>),
}

/// Changes the object of the call.
///
/// # Errors
/// What is wrong with the change, or that it lost against others too often.
pub async fn update(
    call: &Call,
    part: Part<'_>,
    absent: Absent,
    options: &WriteOptions,
    warnings: Vec<String>,
    compute: Compute<'_>,
) -> Result<Reply, Status> {
    let name = call.info.name.clone();
    let mut fresh = false;
    let mut current = call.current(&name, false).await?;
    for _ in 0..MAX_TRIES {
        if current.is_none() && !fresh {
            fresh = true;
            current = call.current(&name, true).await?;
        }
        let Some(found) = &current else {
            if absent == Absent::NotFound {
                return Err(call.not_found());
            }
            return create::create(call, compute(None)?, options, warnings).await;
        };
        match attempt(call, part, found, options, warnings.clone(), compute).await {
            Ok(Attempt::Done(reply)) => return Ok(reply),
            Ok(Attempt::Stale(now)) => {
                fresh = true;
                current = now;
            }
            Err(status) if fresh => return Err(status),
            Err(status) => {
                let now = call.current(&name, true).await?;
                if now.as_ref().map(|n| n.revision) == Some(found.revision) {
                    return Err(status);
                }
                fresh = true;
                current = now;
            }
        }
    }
    Err(Status::modified(&call.row.group, &call.row.plural, &name))
}

async fn attempt(
    call: &Call,
    part: Part<'_>,
    current: &Current,
    options: &WriteOptions,
    mut warnings: Vec<String>,
    compute: Compute<'_>,
) -> Result<Attempt, Status> {
    let row = &call.row;
    let old = &current.tree;
    let scale = projection::scale_of(part, old)?;
    let admission =
        Admission { old: Some(scale.as_ref().unwrap_or(old)), ..Admission::new(call, Operation::Update, part.name(), options.dry_run) };
    let mut submitted = compute(Some(old))?;
    let mut new = if let Part::Sub(Subresource::Scale { spec, .. }) = part {
        admission.admit(&mut submitted, &mut warnings).await?;
        projection::rescaled(old, &submitted, spec, &call.info.name)?
    } else {
        write::identify(call, &mut submitted)?;
        project(part, call.worked(submitted)?, old, row.has_status())
    };
    preconditions(call, &mut new, old)?;
    write::default(call, &mut new)?;
    if scale.is_none() {
        admission.admit(&mut new, &mut warnings).await?;
    }
    metadata::carry_over(&mut new, old);
    let mut errors = Errors::new();
    metadata::validate_update(&new, old, &mut errors);
    let rules = match part {
        Part::Whole => row.hooks.update_and_warn(&mut new, old, call.cx(), &mut warnings),
        Part::Sub(Subresource::Scale { .. }) => row.hooks.update(&mut new, old, call.cx()),
        Part::Sub(sub) => row.hooks.update_part(sub.name(), &mut new, old, call.cx()),
    };
    errors.0.extend(rules.map_err(|e| call.unfit(&e))?.0);
    if part.name() != "status" {
        metadata::count_generation(&mut new, old, row);
    }
    write::check(call, &new, errors)?;
    ownership::updated(call, part, options, old, &mut new);
    let key = call.key(new.name());
    let mut taken = call.taken();
    let mut worked_out = new;
    for _ in 0..MAX_TRIES {
        // Only what takes values out of pools may have to start over from here.
        let mut new = if row.reserve.is_some() { worked_out.clone() } else { std::mem::take(&mut worked_out) };
        let extras = match (&row.reserve, part) {
            (Some(reserve), Part::Whole) => reserve.reserve(Some(&mut new), Some(old), &taken, rand::random())?,
            _ => vec![],
        };
        let scale = projection::scale_of(part, &new)?;
        admission.validate(scale.as_ref().unwrap_or(&new), &mut warnings).await?;
        new.set_meta("resourceVersion", current.revision.to_string().into());
        if new == *old && !current.outdated {
            return Ok(Attempt::Done(call.written(200, new, current.revision, warnings)?));
        }
        if is_released(call, &mut new)? {
            return remove(call, new, current, options, warnings).await;
        }
        if options.dry_run {
            return Ok(Attempt::Done(call.written(200, new, current.revision, warnings)?));
        }
        let plain = call.plain(&new).await?;
        let value = call.seal(&key, plain.clone())?;
        match call.commit(&key, Expect::Revision(current.revision), Some(value), &extras).await? {
            Outcome::Done(revision) => return Ok(Attempt::Done(call.stored(200, new, &plain, revision, warnings))),
            Outcome::Stale(now) => return Ok(Attempt::Stale(call.decode(now).await?)),
            Outcome::Taken(pool_key) => call.look_again(&mut taken, &pool_key).await?,
        }
    }
    Err(Status::internal("no free value was found in the pool; try again"))
}

/// A change of the system's own, which the kind's rules for clients do not apply to (binding a pod, spending a budget).
///
/// # Errors
/// What `change` finds, 404, or that it lost against others too often.
pub async fn rewrite(
    call: &Call,
    options: &WriteOptions,
    change: &(dyn Fn(&Value) -> Result<Value, Status> + Sync),
) -> Result<Reply, Status> {
    let name = &call.info.name;
    let mut current = call.current(name, true).await?;
    for _ in 0..MAX_TRIES {
        let found = current.as_ref().ok_or_else(|| call.not_found())?;
        let mut new = change(&found.tree)?;
        ownership::updated(call, Part::Whole, options, &found.tree, &mut new);
        if options.dry_run {
            return call.written(200, new, found.revision, vec![]);
        }
        let key = call.key(name);
        let value = call.encode(&key, &new).await?;
        match call.commit(&key, Expect::Revision(found.revision), Some(value), &[]).await? {
            Outcome::Done(revision) => return call.written(200, new, revision, vec![]),
            Outcome::Stale(now) => current = call.decode(now).await?,
            Outcome::Taken(_) => return Err(Status::internal("nothing was to be taken")),
        }
    }
    Err(Status::modified(&call.row.group, &call.row.plural, name))
}

/// Whether nothing holds an object that is being deleted any longer.
fn is_released(call: &Call, new: &mut Value) -> Result<bool, Status> {
    if !new.is_deleting() || !new.finalizers().is_empty() {
        return Ok(false);
    }
    let grace = new.meta().and_then(|m| m.get("deletionGracePeriodSeconds")).and_then(Value::as_i64).unwrap_or(0);
    let how = call.row.hooks.deletion(new, Some(0), call.cx()).map_err(|e| call.unfit(&e))?;
    Ok(grace == 0 && how != Deletion::Finalized)
}

async fn remove(call: &Call, new: Value, current: &Current, options: &WriteOptions, warnings: Vec<String>) -> Result<Attempt, Status> {
    if options.dry_run {
        return Ok(Attempt::Done(call.written(200, new, current.revision, warnings)?));
    }
    let extras = call.released(&current.tree)?;
    match call.commit(&call.key(new.name()), Expect::Revision(current.revision), None, &extras).await? {
        Outcome::Done(revision) => Ok(Attempt::Done(call.written(200, new, revision, warnings)?)),
        Outcome::Stale(now) => Ok(Attempt::Stale(call.decode(now).await?)),
        Outcome::Taken(_) => Err(Status::internal("a removal takes nothing")),
    }
}

/// The uid and resourceVersion that the client believes in have to be the object's.
fn preconditions(call: &Call, new: &mut Value, old: &Value) -> Result<(), Status> {
    let (row, name) = (&call.row, old.name());
    let uid = new.uid();
    if !uid.is_empty() && uid != old.uid() {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.uid());
        return Err(Status::conflict(&row.group, &row.plural, name, &why));
    }
    match new.resource_version() {
        // Zero says nothing: upstream reads no version as that number.
        "" | "0" if !row.unconditional_update => {
            let mut errors = Errors::new();
            errors.0.push(api::field::Error {
                path: Path::new("metadata").child("resourceVersion"),
                kind: api::field::Kind::Invalid,
                body: "Invalid value: 0x0: must be specified for an update".to_owned(),
            });
            Err(Status::invalid(&row.group, &row.kind, name, &errors))
        }
        "" | "0" => Ok(()),
        version if version == old.resource_version() => Ok(()),
        version if version.parse::<u64>().is_err() => {
            Err(Status::bad_request(format!("Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax")))
        }
        _ => Err(Status::modified(&row.group, &row.plural, name)),
    }
}
