//! Role-based access control: what the bindings and roles in the cluster allow. Nothing is allowed that no rule allows.
//!
//! The four kinds are compiled into grants by subject; the compiled policy is used until one of their caches moves.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;

use super::User;
use crate::http::request_info::RequestInfo;
use crate::storage::{Cache, Hub};

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// RBAC verb.
    pub verb: String,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural, or empty for a path that is no resource.
    pub resource: String,
    /// Subresource or empty.
    pub subresource: String,
    /// Namespace or empty.
    pub namespace: String,
    /// The object's name or empty.
    pub name: String,
    /// The path, when it is no resource.
    pub path: String,
    /// The node that a field selector limits the request to, or empty.
    pub node_name: String,
}

impl From<&RequestInfo> for Attributes {
    fn from(info: &RequestInfo) -> Self {
        Self {
            verb: info.verb.clone(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: if info.is_resource { String::new() } else { info.path.clone() },
            node_name: info.node_name.clone(),
        }
    }
}

impl Attributes {
    /// Why not, in the words that people know.
    #[must_use]
    pub fn refusal(&self, user: &str) -> String {
        if !self.path.is_empty() {
            return format!("User {user:?} cannot {} path {:?}", self.verb, self.path);
        }
        let resource = if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) };
        let place =
            if self.namespace.is_empty() { "at the cluster scope".to_owned() } else { format!("in the namespace {:?}", self.namespace) };
        format!("User {user:?} cannot {} resource {resource:?} in API group {:?} {place}", self.verb, self.group)
    }
}

/// A rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Groups, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths, with `*` at the end for all below.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Whether this rule allows it.
    #[must_use]
    pub fn allows(&self, a: &Attributes) -> bool {
        let one = |list: &[String], wanted: &str| list.iter().any(|x| x == "*" || x == wanted);
        if !one(&self.verbs, &a.verb) {
            return false;
        }
        if !a.path.is_empty() {
            return self.non_resource_urls.iter().any(|u| *u == a.path || u.strip_suffix('*').is_some_and(|p| a.path.starts_with(p)));
        }
        one(&self.api_groups, &a.group)
            && self.resources.iter().any(|r| match r.split_once('/') {
                _ if r == "*" => true,
                Some((resource, sub)) => (resource == "*" || resource == a.resource) && sub == a.subresource,
                None => *r == a.resource && a.subresource.is_empty(),
            })
            && (self.resource_names.is_empty() || self.resource_names.contains(&a.name))
    }
}

impl Rule {
    /// Every request that this rule allows in a namespace, wildcards as they stand: who may make them all holds the rule.
    pub fn requests<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = Attributes> + 'a {
        let unnamed = std::slice::from_ref(const { &String::new() });
        let names = if self.resource_names.is_empty() { unnamed } else { &self.resource_names };
        let about = move |verb: &'a String| {
            self.api_groups.iter().flat_map(move |group| {
                self.resources.iter().flat_map(move |resource| {
                    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                    names.iter().map(move |name| Attributes {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.to_owned(),
                        subresource: subresource.to_owned(),
                        namespace: namespace.to_owned(),
                        name: name.clone(),
                        ..Attributes::default()
                    })
                })
            })
        };
        let paths = move |verb: &'a String| {
            self.non_resource_urls.iter().map(move |path| Attributes { verb: verb.clone(), path: path.clone(), ..Attributes::default() })
        };
        self.verbs.iter().flat_map(move |verb| about(verb).chain(paths(verb)))
    }
}

/// What one subject is granted by one binding.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Where; `None` for everywhere.
    pub namespace: Option<String>,
    /// What.
    pub rules: Arc<Vec<Rule>>,
}

/// The compiled bindings.
#[derive(Debug, Default)]
pub struct Policy {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

#[derive(Deserialize)]
struct Role {
    metadata: Meta,
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    metadata: Meta,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

impl Policy {
    fn compile(caches: &Caches) -> Self {
        let roles = |cache: &Arc<Cache>| -> HashMap<(String, String), Arc<Vec<Rule>>> {
            let parsed = parse::<Role>(cache);
            parsed.map(|r| ((r.metadata.namespace, r.metadata.name), Arc::new(r.rules.unwrap_or_default()))).collect()
        };
        let (cluster_roles, roles) = (roles(&caches.cluster_roles), roles(&caches.roles));
        let mut policy = Self::default();
        for binding in parse::<Binding>(&caches.cluster_bindings).chain(parse::<Binding>(&caches.bindings)) {
            let namespace = Some(binding.metadata.namespace).filter(|n| !n.is_empty());
            let key = |ns: &str| (ns.to_owned(), binding.role_ref.name.clone());
            let found = match binding.role_ref.kind.as_str() {
                "ClusterRole" => cluster_roles.get(&key("")),
                _ => roles.get(&key(namespace.as_deref().unwrap_or(""))),
            };
            let Some(rules) = found else { continue };
            for subject in binding.subjects.unwrap_or_default() {
                let grant = Grant { namespace: namespace.clone(), rules: rules.clone() };
                let (map, name) = match subject.kind.as_str() {
                    "User" => (&mut policy.users, subject.name),
                    "Group" => (&mut policy.groups, subject.name),
                    "ServiceAccount" => (&mut policy.users, format!("system:serviceaccount:{}:{}", subject.namespace, subject.name)),
                    _ => continue,
                };
                map.entry(name).or_default().push(grant);
            }
        }
        policy
    }

    /// Everything that is granted to a user, by name and by groups.
    pub fn grants<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grant> {
        let by_name = self.users.get(&user.name).into_iter().flatten();
        by_name.chain(user.groups.iter().filter_map(|g| self.groups.get(g)).flatten())
    }

    /// Whether any grant allows it.
    #[must_use]
    pub fn allows(&self, user: &User, a: &Attributes) -> bool {
        let here = |g: &&Grant| g.namespace.as_ref().is_none_or(|n| *n == a.namespace && a.path.is_empty());
        self.grants(user).filter(here).any(|g| g.rules.iter().any(|r| r.allows(a)))
    }
}

fn parse<T: serde::de::DeserializeOwned>(cache: &Arc<Cache>) -> impl Iterator<Item = T> {
    let entries = cache.snapshot("", 0).0;
    entries.into_iter().filter_map(|e| match serde_json::from_slice(&e.wire()) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            tracing::error!(%error, object = %e.key, "an access rule cannot be read");
            None
        }
    })
}

struct Caches {
    roles: Arc<Cache>,
    bindings: Arc<Cache>,
    cluster_roles: Arc<Cache>,
    cluster_bindings: Arc<Cache>,
}

/// The authorizer.
pub struct Rbac {
    caches: Caches,
    compiled: Mutex<([u64; 4], Arc<Policy>)>,
}

impl std::fmt::Debug for Rbac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rbac").finish_non_exhaustive()
    }
}

impl Rbac {
    /// An authorizer over the roles and bindings that `hub` caches.
    #[must_use]
    pub fn new(hub: &Hub) -> Self {
        let cache = |plural: &str| hub.cache(&format!("/registry/rbac.authorization.k8s.io/{plural}/"));
        let caches = Caches {
            roles: cache("roles"),
            bindings: cache("rolebindings"),
            cluster_roles: cache("clusterroles"),
            cluster_bindings: cache("clusterrolebindings"),
        };
        Self { caches, compiled: Mutex::new(([u64::MAX; 4], Arc::default())) }
    }

    /// The policy as of now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        let c = &self.caches;
        let now = [&c.roles, &c.bindings, &c.cluster_roles, &c.cluster_bindings].map(|c| c.sequence());
        let mut compiled = self.compiled.lock();
        if compiled.0 != now {
            *compiled = (now, Arc::new(Policy::compile(c)));
        }
        compiled.1.clone()
    }

    /// Whether `user` may.
    #[must_use]
    pub fn allows(&self, user: &User, attributes: &Attributes) -> bool {
        user.groups.iter().any(|g| g == "system:masters") || self.policy().allows(user, attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Change;
    use serde_json::json;

    fn rbac(objects: &[(&str, &str, serde_json::Value)]) -> Policy {
        let cache = || Arc::new(Cache::new(vec![], 0));
        let caches = Caches { roles: cache(), bindings: cache(), cluster_roles: cache(), cluster_bindings: cache() };
        for (revision, (kind, key, object)) in (1..).zip(objects) {
            let cache = match *kind {
                "role" => &caches.roles,
                "binding" => &caches.bindings,
                "clusterrole" => &caches.cluster_roles,
                _ => &caches.cluster_bindings,
            };
            cache.apply(vec![Change { key: (*key).into(), stored: Some(object.to_string().into_bytes()), revision }]);
        }
        Policy::compile(&caches)
    }

    #[test]
    fn grants_are_by_subject_place_and_rule() {
        let policy = rbac(&[
            (
                "clusterrole",
                "reader",
                json!({"metadata": {"name": "reader"}, "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}]}),
            ),
            (
                "clusterrole",
                "health",
                json!({"metadata": {"name": "health"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}]}),
            ),
            (
                "clusterbinding",
                "h",
                json!({"metadata": {"name": "h"}, "roleRef": {"kind": "ClusterRole", "name": "health"}, "subjects": [{"kind": "Group", "name": "everybody"}]}),
            ),
            (
                "binding",
                "a/b",
                json!({"metadata": {"name": "b", "namespace": "a"}, "roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [{"kind": "ServiceAccount", "name": "x", "namespace": "a"}]}),
            ),
        ]);
        let user = User { name: "system:serviceaccount:a:x".into(), groups: vec!["everybody".into()], ..User::default() };
        let may = |verb: &str, ns: &str, resource: &str, sub: &str| {
            policy.allows(
                &user,
                &Attributes {
                    verb: verb.into(),
                    namespace: ns.into(),
                    resource: resource.into(),
                    subresource: sub.into(),
                    ..Attributes::default()
                },
            )
        };
        assert!(may("get", "a", "pods", "") && may("list", "a", "pods", "log"));
        assert!(
            !may("get", "b", "pods", "")
                && !may("get", "", "pods", "")
                && !may("create", "a", "pods", "")
                && !may("get", "a", "pods", "exec")
        );
        let path = |p: &str| policy.allows(&user, &Attributes { verb: "get".into(), path: p.into(), ..Attributes::default() });
        assert!(path("/healthz/etcd") && !path("/metrics"));
        assert!(!policy.allows(&User::anonymous(), &Attributes { verb: "get".into(), path: "/healthz/x".into(), ..Attributes::default() }));
    }

    #[test]
    fn refusals_read_as_upstreams() {
        let a = Attributes { verb: "list".into(), resource: "pods".into(), namespace: "default".into(), ..Attributes::default() };
        assert_eq!(a.refusal("bob"), r#"User "bob" cannot list resource "pods" in API group "" in the namespace "default""#);
    }
}
