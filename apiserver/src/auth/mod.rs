//! Who asks (x509, tokens) and whether they may (RBAC, node).
//!
//! There is no way to switch this off. A request that says nothing about who makes it is made by `system:anonymous`, who may look at health and
//! version and nothing else unless a binding says so.

pub mod authenticate;
pub mod bootstrap_tokens;
pub mod certificates;
pub mod legacy_tokens;
pub mod node;
pub mod rbac;
pub mod tokens;

pub use authenticate::Authenticator;
pub use daemon::delegated::User;
pub use rbac::{Attributes, Rbac};

use crate::storage::Hub;
use node::NodeAuthorizer;

/// Whether somebody may do something: members of `system:masters` everything, nodes what nodes do, everybody what RBAC grants.
#[derive(Debug)]
pub struct Authorizer {
    rbac: Rbac,
    node: NodeAuthorizer,
}

impl Authorizer {
    /// An authorizer over what `hub` caches.
    #[must_use]
    pub fn new(hub: &Hub) -> Self {
        Self { rbac: Rbac::new(hub), node: NodeAuthorizer::new(hub) }
    }

    /// Whether `user` may.
    #[must_use]
    pub fn allows(&self, user: &User, attributes: &Attributes) -> bool {
        self.node.allows(user, attributes) || self.rbac.allows(user, attributes)
    }

    /// RBAC's policy as of now.
    #[must_use]
    pub fn policy(&self) -> std::sync::Arc<rbac::Policy> {
        self.rbac.policy()
    }
}
