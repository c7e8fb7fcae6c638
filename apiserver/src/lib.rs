//! The only door to the cluster's state: REST, watch, authentication, admission, patch.

pub mod allocate;
pub mod auth;
pub mod resource;
pub mod resources;
