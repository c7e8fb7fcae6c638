//! Upstream's `test/e2e/instrumentation`.

pub mod core_events;
pub mod events;
