//! Upstream's `test/e2e/common/storage`.

pub mod configmap_volume;
pub mod downwardapi_volume;
pub mod empty_dir;
mod files;
pub mod projected_combined;
pub mod projected_configmap;
pub mod projected_downwardapi;
pub mod projected_secret;
pub mod secrets_volume;
mod shown;
