//! Which schema a request belongs to, and which flow of it. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::config::{Config, Distinguisher, PathRule, ResourceRule, Rule, Schema, Subject};
use crate::auth::User;
use crate::http::request_info::RequestInfo;

/// The first schema that a request matches; nothing only when there is no catch-all.
#[must_use]
pub fn classify<'c>(config: &'c Config, user: &User, info: &RequestInfo) -> Option<&'c Schema> {
    config.schemas.iter().find(|s| s.rules.iter().any(|r| matches(r, user, info)))
}

/// A number that tells the flow of a request from the others of its level.
#[must_use]
pub fn flow(schema: &Schema, user: &User, info: &RequestInfo) -> u64 {
    let mut hasher = DefaultHasher::new();
    schema.name.hash(&mut hasher);
    match schema.distinguisher {
        Distinguisher::None => {}
        Distinguisher::User => user.name.hash(&mut hasher),
        Distinguisher::Namespace => info.namespace.hash(&mut hasher),
    }
    hasher.finish()
}

fn matches(rule: &Rule, user: &User, info: &RequestInfo) -> bool {
    let asks = if info.is_resource { rule.resources.iter().any(|r| resource(r, info)) } else { rule.paths.iter().any(|p| path(p, info)) };
    asks && rule.subjects.iter().any(|s| subject(s, user))
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|x| x == "*" || x == wanted)
}

fn subject(subject: &Subject, user: &User) -> bool {
    match subject {
        Subject::User(name) => name == "*" || *name == user.name,
        Subject::Group(name) => name == "*" || user.groups.contains(name),
        Subject::ServiceAccount(namespace, name) => {
            let of = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
            of.is_some_and(|(ns, account)| ns == namespace && (name == "*" || account == name))
        }
    }
}

fn resource(rule: &ResourceRule, info: &RequestInfo) -> bool {
    let place = if info.namespace.is_empty() { rule.cluster_scope } else { any(&rule.namespaces, &info.namespace) };
    let named = |wanted: &String| match wanted.split_once('/') {
        _ if wanted == "*" => true,
        Some((resource, sub)) => resource == info.resource && sub == info.subresource,
        None => *wanted == info.resource && info.subresource.is_empty(),
    };
    place && any(&rule.verbs, &info.verb) && any(&rule.groups, &info.group) && rule.resources.iter().any(named)
}

fn path(rule: &PathRule, info: &RequestInfo) -> bool {
    let under = |wanted: &String| *wanted == info.path || wanted.strip_suffix('*').is_some_and(|p| info.path.starts_with(p));
    any(&rule.verbs, &info.verb) && rule.paths.iter().any(under)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::flowcontrol::{levels, schemas};
    use crate::http::query::Query;

    fn config() -> Config {
        Config::compile(schemas().iter(), levels().iter())
    }

    /// The schema and level of `METHOD path` by a user, of groups.
    #[track_caller]
    fn check(user: &str, groups: &[&str], line: &str, expected: &str) {
        let (method, path) = line.split_once(' ').unwrap();
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        groups.push("system:authenticated".to_owned());
        let user = User { name: user.to_owned(), groups, ..User::default() };
        let config = config();
        let info = crate::http::request_info::parse(method, path, &Query::default());
        let found = classify(&config, &user, &info).map(|s| format!("{} {}", s.name, s.level));
        assert_eq!(found.as_deref(), Some(expected), "{} {line}", user.name);
    }

    #[test]
    fn the_systems_own_schemas() {
        check("admin", &["system:masters"], "GET /api/v1/pods", "exempt exempt");
        check("bob", &[], "GET /healthz", "probes exempt");
        check("bob", &[], "GET /version", "global-default global-default");
        check("bob", &[], "GET /api/v1/pods", "global-default global-default");
        let lease = "PUT /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a";
        check("system:kube-scheduler", &[], lease, "system-leader-election leader-election");
        check("system:kube-scheduler", &[], "GET /api/v1/pods", "kube-scheduler workload-high");
        check("system:kube-controller-manager", &[], "PUT /api/v1/namespaces/a/endpoints/b", "endpoint-controller workload-high");
        check("system:node:n", &["system:nodes"], lease, "system-node-high node-high");
        check("system:node:n", &["system:nodes"], "PATCH /api/v1/nodes/n/status", "system-node-high node-high");
        check("system:node:n", &["system:nodes"], "GET /api/v1/namespaces/a/pods/b", "system-nodes system");
        let of = |ns: &str| format!("system:serviceaccount:{ns}:x");
        check(&of("kube-system"), &["system:serviceaccounts"], lease, "system-leader-election leader-election");
        check(&of("kube-system"), &["system:serviceaccounts"], "GET /api/v1/pods", "kube-system-service-accounts workload-high");
        check(&of("a"), &["system:serviceaccounts"], "GET /api/v1/pods", "service-accounts workload-low");
    }

    #[test]
    fn flows_are_told_apart_as_the_schema_says() {
        let config = config();
        let schema = |name: &str| config.schemas.iter().find(|s| &*s.name == name).unwrap();
        let user = |name: &str| User { name: name.to_owned(), ..User::default() };
        let of = |namespace: &str| RequestInfo { namespace: namespace.to_owned(), ..RequestInfo::default() };
        let default = schema("global-default");
        assert_ne!(flow(default, &user("a"), &of("x")), flow(default, &user("b"), &of("x")));
        assert_eq!(flow(default, &user("a"), &of("x")), flow(default, &user("a"), &of("y")));
        let manager = schema("kube-controller-manager");
        assert_ne!(flow(manager, &user("a"), &of("x")), flow(manager, &user("a"), &of("y")));
    }

    #[test]
    fn a_schema_of_a_level_that_is_not_there_is_left_out() {
        let levels: Vec<_> = levels().into_iter().filter(|l| l["metadata"]["name"] != "global-default").collect();
        let config = Config::compile(schemas().iter(), levels.iter());
        let bob = User { name: "bob".into(), groups: vec!["system:authenticated".into()], ..User::default() };
        let info = crate::http::request_info::parse("GET", "/api/v1/pods", &Query::default());
        assert_eq!(classify(&config, &bob, &info).map(|s| &*s.name), Some("catch-all"));
    }
}
