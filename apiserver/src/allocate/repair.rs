//! Puts right what objects hold and what the pools say, should the two ever differ.
//!
//! They are written in one transaction, so nothing here makes them differ; somebody who writes to the storage by hand can. A value in use
//! that the pool does not have is taken; one that the pool has and nobody uses is given back when it is found so twice, for the caches of
//! objects and pools may be a moment apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::object::Meta as _;
use api::status::Status;

use super::Reserve;
use crate::server::Server;
use crate::storage::etcd::Commit;
use crate::storage::{Expect, keys};

/// How often everything is looked at, as upstream.
const EVERY: Duration = Duration::from_secs(180);
/// After which time what was suspected is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// A step of the repair.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A value in use is taken.
    Take { key: String, value: Vec<u8> },
    /// A value that nobody uses is given back, if it is still as it was.
    Release { key: String, revision: u64 },
}

/// What there is: of each key that an object holds, whose it is; and of each key of the pools, its revision.
#[derive(Debug, Default)]
struct Observed {
    held: Vec<(String, Vec<u8>, String)>,
    taken: BTreeMap<String, u64>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    steps: Vec<Step>,
    /// Keys that nobody seems to use, at their revisions.
    suspects: BTreeSet<(String, u64)>,
    /// Values that more than one object holds, which nobody but their owners can put right.
    clashes: Vec<String>,
}

/// `suspects` are those of the round before. Pure.
fn plan(observed: Observed, suspects: &BTreeSet<(String, u64)>) -> Plan {
    let mut plan = Plan::default();
    let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value, holder) in &observed.held {
        if let Some(other) = holders.insert(key, holder)
            && other != holder
        {
            plan.clashes.push(format!("{key} is held by {other} and by {holder}"));
            continue;
        }
        if !observed.taken.contains_key(key) {
            plan.steps.push(Step::Take { key: key.clone(), value: value.clone() });
        }
    }
    for (key, revision) in &observed.taken {
        if holders.contains_key(key.as_str()) {
            continue;
        }
        let suspect = (key.clone(), *revision);
        if suspects.contains(&suspect) {
            plan.steps.push(Step::Release { key: key.clone(), revision: *revision });
        } else {
            plan.suspects.insert(suspect);
        }
    }
    plan
}

/// Looks at every row that takes values out of pools, again and again, for as long as the server runs.
pub async fn run(server: Arc<Server>) {
    let mut suspects = BTreeSet::new();
    loop {
        match round(&server, &suspects).await {
            Ok(found) => suspects = found,
            Err(status) => tracing::warn!(%status, "looking at the pools of addresses and ports"),
        }
        tokio::time::sleep(if suspects.is_empty() { EVERY } else { AGAIN }).await;
    }
}

async fn round(server: &Arc<Server>, suspects: &BTreeSet<(String, u64)>) -> Result<BTreeSet<(String, u64)>, Status> {
    server.hub.fresh().await?;
    let mut found = BTreeSet::new();
    for row in server.catalog.load().rows() {
        let Some(reserve) = &row.reserve else { continue };
        let plan = plan(observe(server, &row.cache, &**reserve), suspects);
        for clash in &plan.clashes {
            tracing::error!(clash, "a value was handed out twice");
        }
        for step in &plan.steps {
            let (key, expect, value) = match step {
                Step::Take { key, value } => {
                    let sealed = server.hub.cipher().seal(key, value.clone()).map_err(Status::internal)?;
                    (key, Expect::Absent, Some(sealed))
                }
                Step::Release { key, revision } => (key, Expect::Revision(*revision), None),
            };
            tracing::warn!(key, taken = value.is_some(), "repairing a pool");
            // When it is in another state meanwhile, the next round sees what is to be done.
            let outcome = server.hub.etcd().commit(Commit { key, expect, value, extras: &[], lease: 0 }).await?;
            tracing::debug!(?outcome, key, "repaired a pool");
        }
        found.extend(plan.suspects);
    }
    Ok(found)
}

fn observe(server: &Server, cache: &Arc<crate::storage::Cache>, reserve: &dyn Reserve) -> Observed {
    let mut observed = Observed::default();
    // The pools first: what an object takes is written with it, so a key that is seen here has an object that is seen below, or had one.
    for pool in reserve.pools() {
        let Some((prefix, rest)) = keys::split(&pool) else { continue };
        for entry in server.hub.cache(prefix).snapshot(rest, 0).0 {
            if entry.tree().is_ok_and(|tree| reserve.is_ours(&tree)) {
                observed.taken.insert(format!("{prefix}{}", entry.key), entry.revision);
            }
        }
    }
    for entry in cache.snapshot("", 0).0 {
        let Ok(object) = entry.tree() else { continue };
        let holder = format!("{}/{}", object.namespace(), object.name());
        observed.held.extend(reserve.holds(&object, rand::random()).into_iter().map(|(key, value)| (key, value, holder.clone())));
    }
    observed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(held: &[(&str, &str)], taken: &[(&str, u64)]) -> Observed {
        Observed {
            held: held.iter().map(|(key, holder)| ((*key).to_owned(), b"v".to_vec(), (*holder).to_owned())).collect(),
            taken: taken.iter().map(|(key, revision)| ((*key).to_owned(), *revision)).collect(),
        }
    }

    #[test]
    fn what_agrees_is_left_alone() {
        assert_eq!(plan(observed(&[("a", "x")], &[("a", 3)]), &BTreeSet::new()), Plan::default());
    }

    #[test]
    fn what_is_used_is_taken_at_once_and_what_is_not_is_given_back_later() {
        let first = plan(observed(&[("a", "x")], &[("b", 3)]), &BTreeSet::new());
        assert_eq!(first.steps, [Step::Take { key: "a".into(), value: b"v".to_vec() }]);
        assert_eq!(first.suspects, BTreeSet::from([("b".to_owned(), 3)]));
        let second = plan(observed(&[("a", "x")], &[("a", 4), ("b", 3)]), &first.suspects);
        assert_eq!((second.steps, second.suspects.len()), (vec![Step::Release { key: "b".into(), revision: 3 }], 0));
        // Taken anew in between: another revision, and no longer suspect of the same.
        let anew = plan(observed(&[], &[("b", 5)]), &first.suspects);
        assert_eq!((anew.steps.len(), anew.suspects), (0, BTreeSet::from([("b".to_owned(), 5)])));
    }

    #[test]
    fn two_holders_are_reported() {
        let plan = plan(observed(&[("a", "x"), ("a", "y"), ("b", "z"), ("b", "z")], &[("a", 1), ("b", 2)]), &BTreeSet::new());
        assert_eq!(plan.clashes, ["a is held by x and by y"]);
        assert!(plan.steps.is_empty() && plan.suspects.is_empty());
    }
}
