//! Upstream's `test/e2e/kubectl`.

#[allow(clippy::module_inception, reason = "upstream's file has the name of its folder")]
pub mod kubectl;
pub mod logs;
