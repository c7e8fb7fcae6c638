//! The node's agent: runs the pods that are bound to this node in containerd, and says how they are.
//!
//! Start reading at [`pod::plan`](pod::plan::plan), which decides what to do for a pod, and [`pod::status`](pod::status::status),
//! which says how it is; both are pure. [`worker`] observes, asks them, and does what they say, one task a pod.
//! A container is only ever found by asking the runtime, so a restarted kubelet takes over what runs.

pub mod env;
pub mod events;
pub mod hooks;
pub mod objects;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod server;
pub mod volumes;

/// The CRI's messages.
pub use k8s_cri::v1 as cri;
