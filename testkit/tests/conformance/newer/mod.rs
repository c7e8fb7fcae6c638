//! What upstream's conformance suite has come to ask since 1.28, and behaviours beside it of what became stable since then.

mod container_resources;
pub mod pod_generation;
pub mod pod_resize;
pub mod pod_resize_refused;
pub mod pod_resize_waits;
