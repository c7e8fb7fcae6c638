//! Who asks (x509, tokens) and whether they may (RBAC, node).
//!
//! There is no way to switch this off. A request that says nothing about who makes it is made by `system:anonymous`, who may look at health and
//! version and nothing else unless a binding says so.

pub mod authenticate;
pub mod rbac;
pub mod tokens;

pub use authenticate::Authenticator;
pub use daemon::delegated::User;
pub use rbac::{Attributes, Rbac};
