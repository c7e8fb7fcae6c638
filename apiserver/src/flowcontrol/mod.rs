//! Priority and fairness: which requests run, which wait, and which are told to come again, so that a flood of one client starves
//! neither the nodes and the leader election nor other clients (KEP-1040).
//!
//! [`config`] compiles FlowSchemas and PriorityLevelConfigurations; [`classify`] finds the schema of a request; [`seats`] shares the
//! seats out among the levels; [`queues`] decides who runs and who waits; [`gate`] does what they decide. All but the gate are pure.
//!
//! Connections to kubelets hold no seat, since they last. A watch holds one until it has begun, a list until it is sent.

pub mod classify;
pub mod config;
pub mod gate;
pub mod metrics;
pub mod queues;
pub mod seats;

pub use gate::{Gate, Seat};
