//! Upstream's `test/e2e/node`.

pub mod pods;
pub mod pre_stop;
pub mod security_context;
pub mod taints;
