//! The list of controllers. It does nothing else. Names are upstream's, as `--controllers` takes them.

use std::sync::Arc;

use crate::flags::Flags;
use crate::runner::Controller;

pub mod deployment;
pub mod replicaset;

/// One line of the list.
pub struct Row {
    /// Upstream's name.
    pub name: &'static str,
    /// The name its queue's metrics carry.
    pub queue: &'static str,
    /// The component in its events.
    pub component: &'static str,
    /// The kinds whose caches it reads.
    pub reads: &'static [(&'static str, &'static str)],
    /// How many keys it works on at a time.
    pub workers: fn(&Flags) -> usize,
    /// Makes it, when the flags allow.
    pub make: fn(&Flags) -> anyhow::Result<Option<Arc<dyn Controller>>>,
}

const DEPLOYMENTS: (&str, &str) = ("apps/v1", "Deployment");
const PODS: (&str, &str) = ("v1", "Pod");
const REPLICA_SETS: (&str, &str) = ("apps/v1", "ReplicaSet");

/// All of them. The order has no meaning.
pub const ALL: &[Row] = &[
    Row {
        name: "deployment-controller",
        queue: "deployment",
        component: "deployment-controller",
        reads: &[DEPLOYMENTS, REPLICA_SETS, PODS],
        workers: |f| f.concurrent_deployment_syncs,
        make: |_| Ok(Some(Arc::new(deployment::Deployments))),
    },
    Row {
        name: "replicaset-controller",
        queue: "replicaset",
        component: "replicaset-controller",
        reads: &[REPLICA_SETS, PODS],
        workers: |f| f.concurrent_replicaset_syncs,
        make: |_| Ok(Some(Arc::new(replicaset::ReplicaSets))),
    },
];
