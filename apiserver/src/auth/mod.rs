//! Who asks (x509, tokens) and whether they may (RBAC, node).

pub use daemon::delegated::User;
