//! Steps that look at other objects before a write goes through: some change the object, some only check it.
//!
//! A step is plain and synchronous: it sees other objects through a [`View`] of the watch caches, and says what is to be done besides in
//! [`Notes`]. The order of the steps is [`chain`]'s. [`pass`] takes a request through them, and through the [`webhooks`] in their midst.

pub mod certificate_approval;
pub mod certificate_signing;
pub mod certificate_subject;
pub mod chain;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod limit_ranger;
pub mod matching;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod pass;
pub mod pod_security;
pub mod policies;
pub mod priority;
pub mod quota_usage;
pub mod rbac_escalation;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use;
pub mod taint_nodes_by_condition;
pub mod volume_resize;
pub mod webhooks;
#[cfg(test)]
mod world_in_tests;

pub use pass::Admission;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::{Meta as _, ObjectKey};
use api::status::Status;
use jiff::Timestamp;
use serde_json::Value;

use crate::auth::User;
use crate::resource::Resource;

/// What a request does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// A connection to it is opened.
    Connect,
}

/// A request, as steps see it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The row it is about.
    pub row: &'a Resource,
    /// The part of the object; empty for all of it.
    pub subresource: &'a str,
    /// What it does.
    pub operation: Operation,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// Who makes it.
    pub user: &'a User,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The object as it is; absent on create.
    pub old: Option<&'a Value>,
    /// The time of the request.
    pub now: Timestamp,
    /// Randomness, for names that steps make up.
    pub random: u64,
}

impl Attributes<'_> {
    /// Whether the request is about whole objects of this group and plural.
    #[must_use]
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.row.group == group && self.row.plural == plural && self.subresource.is_empty()
    }

    /// Whether objects of this group and plural are made.
    #[must_use]
    pub fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.is(group, plural)
    }

    /// 403 for the object of the request.
    #[must_use]
    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.row.group, &self.row.plural, self.name, why)
    }
}

/// How long pods that do not say stay on a node that is lost, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stays {
    /// On one that is not ready.
    pub not_ready: i64,
    /// On one that is not heard of.
    pub unreachable: i64,
}

/// What steps can see besides the object: the watch caches, in the stored form.
pub trait View: Send + Sync {
    /// An object of the resource with this group and plural.
    fn get(&self, group: &str, plural: &str, key: &ObjectKey) -> Option<Arc<Value>>;
    /// The objects of a resource, in a namespace or (`None`) everywhere.
    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>>;
    /// Whether somebody may do something with a cluster-scoped object.
    fn allows(&self, user: &User, verb: &str, group: &str, plural: &str, name: &str) -> bool;
    /// Whether somebody holds everything that a rule allows, in a namespace (empty: in all).
    fn holds(&self, user: &User, namespace: &str, rule: &crate::auth::rbac::Rule) -> bool;
    /// How long pods stay on nodes that are lost.
    fn stays(&self) -> Stays;
    /// Whether somebody may do something.
    fn authorize(&self, user: &User, attributes: &crate::auth::Attributes) -> bool;
    /// What is served.
    fn catalog(&self) -> Arc<crate::catalog::Catalog>;
    /// The validating policies, compiled.
    fn policies(&self) -> policies::set::Bound<policies::compile::ValidatingPolicy>;
    /// The mutating policies, compiled.
    fn mutating_policies(&self) -> policies::set::Bound<policies::compile::MutatingPolicy>;
}

/// What a step says besides yes and no.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notes {
    /// What the client should be told.
    pub warnings: Vec<String>,
    /// What goes into the audit log.
    pub audit: BTreeMap<String, String>,
    /// What quotas are charged before the object is stored.
    pub charges: Vec<Charge>,
}

/// A quota's new `status.used`, to be written if the quota is still at that resourceVersion; otherwise the quota step is to be asked again.
#[derive(Debug, Clone, PartialEq)]
pub struct Charge {
    /// The quota.
    pub quota: ObjectKey,
    /// Its resourceVersion when it was looked at.
    pub resource_version: String,
    /// What is used, with the request's.
    pub used: BTreeMap<String, String>,
}

/// One step of admission.
pub trait Step: Send + Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;

    /// May change the object, before it is validated.
    ///
    /// # Errors
    /// Why the request must not go through.
    fn admit(&self, _at: &Attributes<'_>, _obj: &mut Value, _view: &dyn View) -> Result<(), Status> {
        Ok(())
    }

    /// Looks at the object as it will be stored. On delete, `obj` is null.
    ///
    /// # Errors
    /// Why the request must not go through.
    fn validate(&self, _at: &Attributes<'_>, _obj: &Value, _view: &dyn View, _notes: &mut Notes) -> Result<(), Status> {
        Ok(())
    }
}

/// The newest object marked as its kind's default by an annotation; the first by name among the equally new.
fn newest_default(objects: Vec<Arc<Value>>, annotations: &[&str]) -> Option<Arc<Value>> {
    let marked = |o: &Arc<Value>| annotations.iter().any(|a| o.annotations().get(*a).is_some_and(|v| v == "true"));
    let mut all: Vec<Arc<Value>> = objects.into_iter().filter(marked).collect();
    all.sort_by(|a, b| {
        let by_age = b.meta_str("creationTimestamp").cmp(a.meta_str("creationTimestamp"));
        by_age.then_with(|| a.name().cmp(b.name()))
    });
    all.into_iter().next()
}
