//! Upstream's `test/e2e/storage`.

pub mod csi_inline;
pub mod csistoragecapacity;
pub mod empty_dir_wrapper;
pub mod subpath;
