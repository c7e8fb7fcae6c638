//! The steps of `up`. Each looks, does what is missing, and says whether that was anything.

pub mod access;
pub mod addons;
pub mod certificates;
pub mod containerd;
pub mod daemons;
pub mod encryption;
pub mod example;
pub mod images;
pub mod kubeconfigs;
pub mod machine;
pub mod network;
pub mod prerequisites;
pub mod programs;
pub mod ready;
pub mod sysctls;

use futures::future::BoxFuture;

use crate::up::Up;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it should be.
    Unchanged(String),
    /// Something was done.
    Done(String),
}

impl Outcome {
    /// Done when `changed`, with these words.
    pub fn of(changed: bool, what: impl Into<String>) -> Self {
        if changed { Self::Done(what.into()) } else { Self::Unchanged(what.into()) }
    }
}

/// A step.
#[derive(Debug)]
pub struct Step {
    /// What people see.
    pub name: &'static str,
    /// What it does.
    pub run: for<'a> fn(&'a Up) -> BoxFuture<'a, anyhow::Result<Outcome>>,
}

/// The steps in order; those of one stage run at the same time.
pub const STAGES: &[&[Step]] = &[
    &[Step { name: "prerequisites", run: |up| Box::pin(prerequisites::run(up)) }],
    &[Step { name: "machine", run: |up| Box::pin(machine::run(up)) }],
    &[
        Step { name: "programs", run: |up| Box::pin(programs::run(up)) },
        Step { name: "certificates", run: |up| Box::pin(certificates::run(up)) },
        Step { name: "encryption", run: |up| Box::pin(encryption::run(up)) },
        Step { name: "sysctls", run: |up| Box::pin(sysctls::run(up)) },
        Step { name: "network", run: |up| Box::pin(network::run(up)) },
        Step { name: "containerd", run: |up| Box::pin(containerd::run(up)) },
    ],
    &[Step { name: "kubeconfigs", run: |up| Box::pin(kubeconfigs::run(up)) }],
    &[Step { name: "daemons", run: |up| Box::pin(daemons::run(up)) }],
    &[
        Step { name: "addons", run: |up| Box::pin(addons::run(up)) },
        Step { name: "nodes", run: |up| Box::pin(ready::run(up)) },
        Step { name: "images", run: |up| Box::pin(images::run(up)) },
    ],
    &[Step { name: "example", run: |up| Box::pin(example::run(up)) }],
];
