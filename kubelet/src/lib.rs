//! The node's agent: runs the pods that are bound to this node in containerd, and says how they are.
//!
//! Start reading at [`pod::plan`](pod::plan::plan), which decides what to do for a pod, and [`pod::status`](pod::status::status),
//! which says how it is; both are pure. [`worker`] observes, asks them, and does what they say, one task a pod.
//! A container is only ever found by asking the runtime, so a restarted kubelet takes over what runs.

pub mod admission;
pub mod agent;
pub mod allocations;
pub mod cgroups;
pub mod dns;
pub mod env;
pub mod events;
pub mod eviction;
pub mod execute;
pub mod flags;
pub mod gc;
pub mod hooks;
pub mod hosts;
pub mod images;
pub mod kubelet;
pub mod log_rotation;
pub mod manifests;
pub mod mirrors;
pub mod node;
pub mod objects;
pub mod observe;
pub mod pod;
pub mod pods;
pub mod probes;
pub mod resizes;
pub mod resources;
pub mod run;
pub mod runtime;
pub mod security;
pub mod server;
pub mod source;
pub mod spec;
pub mod statuses;
pub mod volumes;
pub mod worker;

/// The CRI's messages.
pub use k8s_cri::v1 as cri;

pub use flags::Flags;
pub use run::run;
