//! DELETE of one object or of a selection: at once, after a grace period, or when finalizers let go.

use api::object::Meta as _;
use api::status::Status;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::options::{DeleteOptions, Propagation};
use super::write::{Current, MAX_TRIES};
use super::{Body, Call, Reply, list, metadata};
use crate::admission::{Admission, Operation};
use crate::resource::Deletion;
use crate::storage::{Expect, Outcome};

/// How one deletion ended.
enum Ended {
    /// The object is gone; this was its last state.
    Removed(Value),
    /// It will go; this is its state now.
    Pending(Value),
}

/// Deletes the object of the call.
///
/// # Errors
/// 404, a precondition that does not hold, an admission step that says no.
pub async fn delete(call: &Call, options: &DeleteOptions) -> Result<Reply, Status> {
    let mut warnings = vec![];
    let ended = one(call, &call.info.name, options, &mut warnings).await?;
    let code = match &ended {
        Ended::Pending(_) if options.cascades => 202,
        _ => 200,
    };
    let body = match ended {
        Ended::Pending(object) => Body::Object(object),
        Ended::Removed(object) if call.row.returns_deleted => Body::Object(object),
        Ended::Removed(object) => {
            let mut details = json!({"name": object.name(), "kind": call.row.plural, "uid": object.uid()});
            if !call.row.group.is_empty() {
                details["group"] = call.row.group.as_ref().into();
            }
            Body::Tree(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}))
        }
    };
    Ok(Reply { code, body, warnings })
}

/// Deletes a selection of objects.
///
/// # Errors
/// The first deletion that failed for another reason than that the object is gone.
pub async fn collection(call: &Call, options: &DeleteOptions) -> Result<Reply, Status> {
    let mut warnings = vec![];
    let mut items = vec![];
    let mut call = call.clone();
    for entry in list::select(&call).await? {
        call.info.namespace = entry.namespace().to_owned();
        match one(&call, entry.name(), options, &mut warnings).await {
            Ok(Ended::Removed(object) | Ended::Pending(object)) => items.push(call.shown(object)?),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let list = list::list_object(&call.row, items, call.server.hub.seen());
    Ok(Reply { code: 200, body: Body::Tree(list), warnings })
}

async fn one(call: &Call, name: &str, options: &DeleteOptions, warnings: &mut Vec<String>) -> Result<Ended, Status> {
    let missing = || Status::not_found(&call.row.group, &call.row.plural, name);
    let mut fresh = false;
    let mut current = call.current(name, false).await?;
    for _ in 0..MAX_TRIES {
        if current.is_none() && !fresh {
            fresh = true;
            current = call.current(name, true).await?;
        }
        let found = current.as_ref().ok_or_else(missing)?;
        match attempt(call, name, found, options, warnings).await {
            Ok(Ok(ended)) => return Ok(ended),
            Ok(Err(now)) => {
                fresh = true;
                current = now;
            }
            Err(status) if fresh => return Err(status),
            Err(status) => {
                let now = call.current(name, true).await?;
                if now.as_ref().map(|n| n.revision) == Some(found.revision) {
                    return Err(status);
                }
                fresh = true;
                current = now;
            }
        }
    }
    Err(Status::modified(&call.row.group, &call.row.plural, name))
}

/// One try; the inner error is the object's newer state, to try again with.
async fn attempt(
    call: &Call,
    name: &str,
    current: &Current,
    options: &DeleteOptions,
    warnings: &mut Vec<String>,
) -> Result<Result<Ended, Option<Current>>, Status> {
    let row = &call.row;
    let old = &current.tree;
    preconditions(call, name, old, options)?;
    if !options.admitted {
        let pass = Admission { old: Some(old), deletion: Some(options), ..Admission::new(call, Operation::Delete, "", options.dry_run) };
        pass.run(&mut Value::Null, warnings).await?;
    }
    let mut new = old.clone();
    let how = row.hooks.deletion(&mut new, options.grace, call.cx()).map_err(|e| call.unfit(&e))?;
    let held = set_finalizers(&mut new, options.propagation);
    let seconds = if let Deletion::Graceful(seconds) = how { seconds.max(0) } else { 0 };
    let remove = !held && how != Deletion::Finalized && seconds == 0;
    let key = call.key(name);
    if !remove {
        mark(&mut new, old, seconds, call.now);
    }
    if options.dry_run || (!remove && new == *old) {
        return Ok(Ok(if remove { Ended::Removed(new) } else { Ended::Pending(new) }));
    }
    let (value, extras) = if remove { (None, call.released(old)?) } else { (Some(call.encode(&key, &new).await?), vec![]) };
    match call.commit(&key, Expect::Revision(current.revision), value, &extras).await? {
        Outcome::Done(revision) => {
            new.set_meta("resourceVersion", revision.to_string().into());
            Ok(Ok(if remove { Ended::Removed(new) } else { Ended::Pending(new) }))
        }
        Outcome::Stale(now) => Ok(Err(call.decode(now).await?)),
        Outcome::Taken(_) => Err(Status::internal("a removal takes nothing")),
    }
}

/// Puts in the finalizers that the propagation policy asks for; says whether any hold the object.
fn set_finalizers(new: &mut Value, propagation: Option<Propagation>) -> bool {
    if let Some(policy) = propagation {
        let mut finalizers: Vec<Value> =
            new.finalizers().into_iter().filter(|f| !["orphan", "foregroundDeletion"].contains(f)).map(Value::from).collect();
        match policy {
            Propagation::Orphan => finalizers.push("orphan".into()),
            Propagation::Foreground => finalizers.push("foregroundDeletion".into()),
            Propagation::Background => {}
        }
        new.set_meta("finalizers", if finalizers.is_empty() { Value::Null } else { finalizers.into() });
    }
    !new.finalizers().is_empty()
}

/// Marks an object as going in `seconds`. A mark that is there is only ever moved forward.
fn mark(new: &mut Value, old: &Value, seconds: i64, now: Timestamp) {
    let before = old.meta().and_then(|m| m.get("deletionGracePeriodSeconds")).and_then(Value::as_i64);
    let at = match (old.is_deleting(), before) {
        (true, Some(before)) if seconds >= before => return,
        (true, Some(before)) => {
            let was: Timestamp = old.meta_str("deletionTimestamp").parse().unwrap_or(now);
            was.saturating_add(SignedDuration::from_secs(seconds - before)).unwrap_or(now)
        }
        (true, None) => return,
        (false, _) => now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now),
    };
    new.set_meta("deletionTimestamp", metadata::timestamp(at).into());
    new.set_meta("deletionGracePeriodSeconds", seconds.into());
    let generation = old.meta().and_then(|m| m.get("generation")).and_then(Value::as_i64);
    if let (false, Some(generation)) = (old.is_deleting(), generation) {
        new.set_meta("generation", (generation + 1).into());
    }
}

fn preconditions(call: &Call, name: &str, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let check = |what: &str, wanted: Option<&String>, have: &str| match wanted {
        Some(wanted) if wanted != have => {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {have}");
            Err(Status::conflict(&call.row.group, &call.row.plural, name, &why))
        }
        _ => Ok(()),
    };
    check("UID", options.uid.as_ref(), old.uid())?;
    check("ResourceVersion", options.resource_version.as_ref(), old.resource_version())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_deletion_may_only_hurry() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        let mut first = json!({"metadata": {"name": "p", "generation": 1}});
        let fresh = first.clone();
        mark(&mut first, &fresh, 30, at("2026-01-01T00:00:00Z"));
        assert_eq!(
            first["metadata"],
            json!({"name": "p", "generation": 2, "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30})
        );
        let mut second = first.clone();
        mark(&mut second, &first, 60, at("2026-01-01T00:00:05Z"));
        assert_eq!(second, first);
        mark(&mut second, &first, 10, at("2026-01-01T00:00:05Z"));
        assert_eq!(
            (&second["metadata"]["deletionTimestamp"], &second["metadata"]["generation"]),
            (&json!("2026-01-01T00:00:10Z"), &json!(2))
        );
    }

    #[test]
    fn the_policy_is_a_finalizer() {
        let mut o = json!({"metadata": {"finalizers": ["orphan", "x/y"]}});
        assert!(set_finalizers(&mut o, Some(Propagation::Foreground)));
        assert_eq!(o["metadata"]["finalizers"], json!(["x/y", "foregroundDeletion"]));
        let mut o = json!({"metadata": {"finalizers": ["orphan"]}});
        assert!(!set_finalizers(&mut o, Some(Propagation::Background)));
    }
}
