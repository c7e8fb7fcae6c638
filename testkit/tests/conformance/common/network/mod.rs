//! Upstream's `test/e2e/common/network`.

pub mod networking;
