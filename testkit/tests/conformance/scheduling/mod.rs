//! Upstream's `test/e2e/scheduling`.

pub mod limit_range;
pub mod predicates;
pub mod preemption;
mod resource;

pub use resource::{advertise, idle, unschedulable};
