//! CREATE: decode → default → mutating admission → system metadata → prepare → validate → validating admission → one transaction.

use api::object::Meta as _;
use api::status::Status;
use serde_json::Value;

use super::options::WriteOptions;
use super::{Call, Reply, metadata, write};
use crate::admission::Operation;
use crate::server::Admission;
use crate::storage::{Expect, Outcome};

/// How many generated names are tried before the client is told that they are taken.
const NAMES: usize = 8;

/// Creates an object.
///
/// # Errors
/// What is wrong with it, or with where it should go.
pub async fn create(call: &Call, mut body: Value, options: &WriteOptions, mut warnings: Vec<String>) -> Result<Reply, Status> {
    write::identify(call, &mut body)?;
    let body = call.to_stored(body)?;
    if !body.resource_version().is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for attempt in 0.. {
        let mut obj = body.clone();
        let generated = obj.name().is_empty() && !obj.meta_str("generateName").is_empty();
        if generated {
            let name = metadata::generated_name(obj.meta_str("generateName"), rand::random());
            obj.set_meta("name", name.into());
        }
        match attempt_create(call, obj, options, &mut warnings).await {
            Err(status) if generated && status.reason == "AlreadyExists" => {
                if attempt + 1 == NAMES {
                    let mut status = status;
                    status.message = format!(
                        "object {:?} could not be created: the server was not able to generate a unique name for the object",
                        body.meta_str("generateName")
                    );
                    return Err(status);
                }
                warnings.clear();
            }
            Err(status) => return Err(status),
            Ok((obj, revision)) => return call.written(201, obj, revision, warnings),
        }
    }
    unreachable!("the loop above returns")
}

async fn attempt_create(call: &Call, mut obj: Value, options: &WriteOptions, warnings: &mut Vec<String>) -> Result<(Value, u64), Status> {
    let row = &call.row;
    write::default(call, &mut obj)?;
    let admission = Admission { call, operation: Operation::Create, part: "", old: None, dry_run: options.dry_run };
    admission.admit(&mut obj).await?;
    metadata::begin(&mut obj, row, call.now, uuid::Uuid::new_v4().to_string());
    let errors = row.hooks.create(&mut obj, call.cx()).map_err(|e| call.unfit(&e))?;
    write::check(call, &obj, errors)?;
    warnings.extend(row.hooks.warnings(&obj));
    super::ownership::created(call, options, &mut obj);
    let key = call.key(obj.name());
    let mut taken = call.taken();
    let submitted = obj;
    for _ in 0..write::MAX_TRIES {
        let mut obj = submitted.clone();
        let extras = match &row.reserve {
            Some(reserve) => reserve.reserve(Some(&mut obj), None, &taken, rand::random())?,
            None => vec![],
        };
        admission.validate(&obj, warnings).await?;
        let value = call.encode(&key, &obj)?;
        if options.dry_run {
            // The only thing left that could go wrong.
            return match call.current(obj.name(), true).await? {
                Some(_) => Err(Status::already_exists(&row.group, &row.plural, obj.name())),
                None => Ok((obj, 0)),
            };
        }
        match call.commit(&key, Expect::Absent, Some(value), &extras).await? {
            Outcome::Done(revision) => return Ok((obj, revision)),
            Outcome::Stale(_) => return Err(Status::already_exists(&row.group, &row.plural, obj.name())),
            Outcome::Taken(pool_key) => call.mark_taken(&mut taken, &pool_key),
        }
    }
    Err(Status::internal("no free value was found in the pool; try again"))
}
