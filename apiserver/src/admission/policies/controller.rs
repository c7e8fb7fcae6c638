//! Tells in the status of each policy what its expressions get wrong about the kinds that it names.

use std::sync::Arc;
use std::time::Duration;

use api::object::Meta as _;
use api::status::Status;
use serde_json::{Value, json};

use super::type_check::check;
use crate::bootstrap::{call, options};
use crate::server::Server;
use crate::verbs::projection::Part;
use crate::verbs::update::{Absent, update};

const PREFIX: &str = "/registry/admissionregistration.k8s.io/validatingadmissionpolicies/";
/// How often a policy whose status could not be written is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs for as long as the server.
pub async fn run(server: Arc<Server>) {
    while let Err(status) = server.hub.reach(0).await {
        tracing::warn!(%status, "waiting for the storage to be listed");
    }
    let cache = server.hub.cache(PREFIX);
    loop {
        let (entries, _, mut cursor) = cache.snapshot("", 0);
        let mut done = true;
        for entry in entries {
            let Ok(policy) = entry.tree() else { continue };
            match follow(&server, &policy).await {
                Ok(()) => {}
                // Somebody else changed it, which is an event of its own.
                Err(status) if matches!(status.reason, "Conflict" | "NotFound") => {}
                Err(status) => {
                    tracing::warn!(name = policy.name(), %status, "writing the status of a policy");
                    done = false;
                }
            }
        }
        tokio::select! {
            () = cursor.moved() => {}
            () = tokio::time::sleep(AGAIN), if !done => {}
        }
    }
}

async fn follow(server: &Arc<Server>, policy: &Value) -> Result<(), Status> {
    let generation = policy.pointer("/metadata/generation").cloned().unwrap_or_default();
    if policy.pointer("/status/observedGeneration") == Some(&generation) {
        return Ok(());
    }
    let status = json!({"observedGeneration": generation, "typeChecking": check(policy, &server.catalog.load())});
    let mut call = call(server, policy)?;
    call.info.name = policy.name().to_owned();
    let row = call.row.clone();
    let part = row.subresource("status").ok_or_else(|| Status::internal("policies have a status"))?;
    let write = |old: Option<&Value>| -> Result<Value, Status> {
        let mut new = old.cloned().unwrap_or_default();
        // A newer one is looked at on its own.
        if new.pointer("/metadata/generation") == Some(&generation) {
            new["status"] = status.clone();
        }
        Ok(new)
    };
    update(&call, Part::Sub(part), Absent::NotFound, &options(), vec![], &write).await.map(|_| ())
}
