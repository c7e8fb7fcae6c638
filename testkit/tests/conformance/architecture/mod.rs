//! Upstream's `test/e2e/architecture`.

pub mod conformance;
