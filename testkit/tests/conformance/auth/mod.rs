//! Upstream's `test/e2e/auth`.

pub mod certificates;
pub mod service_accounts;
pub mod subjectreviews;
