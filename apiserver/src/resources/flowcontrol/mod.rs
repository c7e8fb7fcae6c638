//! The group `flowcontrol.apiserver.k8s.io`.

pub mod flowschemas;
pub mod prioritylevelconfigurations;

pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
