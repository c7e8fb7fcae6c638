//! CREATE: decode → default → mutating admission → system metadata → prepare → validate → validating admission → one transaction.

use api::object::Meta as _;
use api::status::Status;
use serde_json::Value;

use super::options::WriteOptions;
use super::{Call, Reply, metadata, write};
use crate::admission::{Admission, Operation};
use crate::storage::{Expect, Outcome};

/// How many generated names are tried before the client is told that they are taken.
const NAMES: usize = 8;

/// Creates an object.
///
/// # Errors
/// What is wrong with it, or with where it should go.
pub async fn create(call: &Call, mut body: Value, options: &WriteOptions, mut warnings: Vec<String>) -> Result<Reply, Status> {
    write::identify(call, &mut body)?;
    let body = call.worked(body)?;
    if !body.resource_version().is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if !body.name().is_empty() || body.meta_str("generateName").is_empty() {
        return reply(call, attempt_create(call, body, options, &mut warnings).await?, warnings);
    }
    for attempt in 0.. {
        let mut obj = body.clone();
        let name = metadata::generated_name(obj.meta_str("generateName"), rand::random());
        obj.set_meta("name", name.into());
        match attempt_create(call, obj, options, &mut warnings).await {
            Err(status) if status.reason == "AlreadyExists" => {
                if attempt + 1 == NAMES {
                    let mut status = status;
                    status.message += ", the server was not able to generate a unique name for the object";
                    status.details.get_or_insert_default().retry_after_seconds = 1;
                    return Err(status);
                }
                warnings.clear();
            }
            Err(status) => return Err(status),
            Ok(created) => return reply(call, created, warnings),
        }
    }
    unreachable!("the loop above returns")
}

/// A new object, and how it was stored: the bytes and the revision; nothing of that after a dry run.
type Created = (Value, Option<(Vec<u8>, u64)>);

fn reply(call: &Call, (obj, stored): Created, warnings: Vec<String>) -> Result<Reply, Status> {
    match stored {
        Some((plain, revision)) => Ok(call.stored(201, obj, &plain, revision, warnings)),
        None => call.written(201, obj, 0, warnings),
    }
}

async fn attempt_create(call: &Call, mut obj: Value, options: &WriteOptions, warnings: &mut Vec<String>) -> Result<Created, Status> {
    let row = &call.row;
    write::default(call, &mut obj)?;
    let admission = Admission::new(call, Operation::Create, "", options.dry_run);
    admission.admit(&mut obj, warnings).await?;
    metadata::begin(&mut obj, row, call.now, uuid::Uuid::new_v4().to_string());
    let errors = row.hooks.create_and_warn(&mut obj, call.cx(), warnings).map_err(|e| call.unfit(&e))?;
    write::check(call, &obj, errors)?;
    super::ownership::created(call, options, &mut obj);
    let key = call.key(obj.name());
    let mut taken = call.taken();
    let mut submitted = obj;
    for _ in 0..write::MAX_TRIES {
        // Only what takes values out of pools may have to start over from here.
        let mut obj = if row.reserve.is_some() { submitted.clone() } else { std::mem::take(&mut submitted) };
        let extras = match &row.reserve {
            Some(reserve) => reserve.reserve(Some(&mut obj), None, &taken, rand::random())?,
            None => vec![],
        };
        admission.validate(&obj, warnings).await?;
        let plain = call.plain(&obj).await?;
        if options.dry_run {
            // The only thing left that could go wrong.
            return match call.current(obj.name(), true).await? {
                Some(_) => Err(Status::already_exists(&row.group, &row.plural, obj.name())),
                None => Ok((obj, None)),
            };
        }
        let value = call.seal(&key, plain.clone())?;
        match call.commit(&key, Expect::Absent, Some(value), &extras).await? {
            Outcome::Done(revision) => return Ok((obj, Some((plain, revision)))),
            Outcome::Stale(_) => return Err(Status::already_exists(&row.group, &row.plural, obj.name())),
            Outcome::Taken(pool_key) => call.look_again(&mut taken, &pool_key).await?,
        }
    }
    Err(Status::internal("no free value was found in the pool; try again"))
}
