//! Deletes requests that nobody needs any more: decided ones after an hour, undecided ones after a day, and those whose
//! certificate has expired.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{condition, issued};
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan, Propagation};
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// How long a decided request stays.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// How long an undecided one stays.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Deletes the request, when its time has come.
#[must_use]
pub fn plan(csr: &CertificateSigningRequest, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match goes_at(csr) {
        Some(at) if at <= now => plan.push(Action::delete(csr, Propagation::Default)),
        Some(at) => plan.recheck(at),
        None => {}
    }
    plan
}

fn goes_at(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let decided = |type_: &str| {
        let at = condition(csr, type_)?.last_update_time.as_ref()?.0;
        at.checked_add(DECIDED).ok()
    };
    let undecided = csr.status.as_ref().is_none_or(|s| s.conditions.as_ref().is_none_or(Vec::is_empty));
    let created = csr.metadata.creation_timestamp.as_ref().filter(|_| undecided);
    let pending = created.and_then(|at| at.0.checked_add(PENDING).ok());
    let expires = issued(csr).and_then(expiry).filter(|_| condition(csr, "Approved").is_some());
    [decided("Approved"), decided("Denied"), decided("Failed"), pending, expires].into_iter().flatten().min()
}

/// When a certificate expires; nothing when it cannot be read.
fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Timestamp::from_second(block.parse_x509().ok()?.validity().not_after.timestamp()).ok()
}

/// The controller.
pub struct Cleaning;

impl Controller for Cleaning {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let queue = queue.clone();
        caches.csrs.subscribe(move |change: Change<'_, CertificateSigningRequest>| queue.add(change.latest().key()));
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        view.caches.csrs.get(key).map_or_else(Plan::default, |csr| plan(&csr, view.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::{Value, json};

    fn left_after(conditions: Value, hours: i64) -> usize {
        let mut world = World::new();
        world.add::<CertificateSigningRequest>(json!({
            "metadata": {"name": "a"}, "spec": {"request": "", "signerName": "a.b/c"}, "status": {"conditions": conditions}
        }));
        world.pass(hours * 3600);
        world.settle::<CertificateSigningRequest>(&Cleaning);
        world.list::<CertificateSigningRequest>().len()
    }

    #[test]
    fn goes_in_time() {
        let at = |type_: &str| json!([{"type": type_, "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}]);
        for type_ in ["Approved", "Denied", "Failed"] {
            assert_eq!((left_after(at(type_), 0), left_after(at(type_), 1)), (1, 0), "{type_}");
        }
        assert_eq!((left_after(json!([]), 23), left_after(json!([]), 24)), (1, 0));
    }
}
