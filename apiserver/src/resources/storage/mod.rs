//! The group `storage.k8s.io`.

pub mod csidrivers;
pub mod csinodes;
pub mod csistoragecapacities;
pub mod storageclasses;
pub mod volumeattachments;
pub mod volumeattributesclasses;

const GROUP: &str = "storage.k8s.io";
