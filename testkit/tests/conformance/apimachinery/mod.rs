//! Upstream's `test/e2e/apimachinery`.

pub mod aggregator;
pub mod crd_conversion_webhook;
pub mod crd_publish_openapi;
pub mod crd_watch;
pub mod custom_resource_definition;
pub mod discovery;
pub mod field_validation;
pub mod garbage_collector;
pub mod namespace;
pub mod resource_quota;
pub mod server_version;
pub mod table_conversion;
pub mod watch;
pub mod webhook;
mod webhook_answers;
