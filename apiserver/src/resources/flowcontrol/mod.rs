//! The group `flowcontrol.apiserver.k8s.io`.

pub mod flowschemas;
pub mod prioritylevelconfigurations;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
