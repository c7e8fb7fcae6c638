//! The group `apps`.

pub mod controllerrevisions;
pub mod deployments;
pub mod replicasets;
