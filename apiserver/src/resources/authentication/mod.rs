//! The group `authentication.k8s.io`.

pub mod selfsubjectreviews;
pub mod tokenreviews;

const GROUP: &str = "authentication.k8s.io";
