//! The only door to the cluster's state: REST, watch, authentication, admission, patch.

pub mod allocate;
pub mod apply;
pub mod auth;
pub mod openapi;
pub mod resource;
pub mod resources;
pub mod storage;
