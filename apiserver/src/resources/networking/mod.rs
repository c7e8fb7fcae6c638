//! The group `networking.k8s.io`.

pub mod ingressclasses;
pub mod ingresses;
pub mod ipaddresses;
pub mod networkpolicies;
pub mod servicecidrs;

const GROUP: &str = "networking.k8s.io";
