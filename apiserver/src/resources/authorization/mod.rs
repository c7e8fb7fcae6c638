//! The group `authorization.k8s.io`.

pub mod localsubjectaccessreviews;
pub mod selfsubjectaccessreviews;
pub mod selfsubjectrulesreviews;
pub mod subjectaccessreviews;

const GROUP: &str = "authorization.k8s.io";
