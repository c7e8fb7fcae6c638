//! The group `resource.k8s.io`: devices that pods claim. Rules run over trees.

pub mod deviceclasses;
pub mod resourceclaims;
pub mod resourceclaimtemplates;
pub mod resourceslices;

const GROUP: &str = "resource.k8s.io";
