//! Upstream's `test/e2e/apps`.

pub mod controller_revision;
pub mod cronjob;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod job;
mod owned;
pub mod rc;
pub mod replica_set;
pub mod statefulset;

pub use owned::{belongs_to, name, selected, until_status};
