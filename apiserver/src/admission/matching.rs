//! Which requests webhooks and policies concern, and in which version they want to see them. Pure.

use api::labels::Selector;
use api::object::Meta as _;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::catalog::Catalog;
use crate::http::discovery;
use crate::resource::Resource;
use crate::resources::cells::{items, map, text};

/// A group, version and resource with the kind of its objects: one way to see what a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural.
    pub resource: String,
    /// The object's group, version and kind, which of a subresource is another: `autoscaling/v1` Scale.
    pub kind: (String, String, String),
}

impl Seen {
    /// How a row's requests about a part are seen.
    #[must_use]
    pub fn of(row: &Resource, part: &str) -> Option<Self> {
        let kind = match row.subresource(part) {
            Some(sub) => {
                let (group, version, kind, _) = discovery::part(row, sub);
                (group.to_owned(), version.to_owned(), kind.to_owned())
            }
            None if part.is_empty() => (row.group.to_string(), row.version.to_string(), row.kind.to_string()),
            None => return None,
        };
        Some(Self { group: row.group.to_string(), version: row.version.to_string(), resource: row.plural.to_string(), kind })
    }

    /// The other ways to see a row's requests about a part: rows of other versions and groups of the same stored objects.
    #[must_use]
    pub fn equivalents(catalog: &Catalog, row: &Resource, part: &str) -> Vec<Self> {
        let same = catalog.rows().iter().filter(|r| r.stored_as == row.stored_as && !r.virtual_kind);
        let others = same.filter(|r| r.group != row.group || r.version != row.version);
        others.filter_map(|r| Self::of(r, part)).collect()
    }
}

/// A request, as rules match it.
#[derive(Debug)]
pub struct Request {
    /// As it was made.
    pub seen: Seen,
    /// Subresource; empty for the whole object.
    pub part: String,
    /// What it does.
    pub operation: Operation,
    /// The namespace; of a namespace, its own name; empty for other cluster-scoped objects.
    pub namespace: String,
    /// The object's name, as far as the request says it.
    pub name: String,
}

/// The operation's name in rules and reviews.
#[must_use]
pub const fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

impl Request {
    /// How a step's request is matched; nothing for a part that the row does not have.
    #[must_use]
    pub fn of(at: &Attributes<'_>) -> Option<Self> {
        let seen = Seen::of(at.row, at.subresource)?;
        let mut request = Self {
            seen,
            part: at.subresource.to_owned(),
            operation: at.operation,
            namespace: at.namespace.to_owned(),
            name: at.name.to_owned(),
        };
        if request.is_of_namespaces() {
            request.namespace.clone_from(&request.name);
        }
        Some(request)
    }

    fn is_of_namespaces(&self) -> bool {
        self.seen.resource == "namespaces" && self.seen.group.is_empty()
    }

    /// Whether it makes or changes a namespace, whose new labels then count.
    #[must_use]
    pub fn writes_namespace(&self) -> bool {
        self.is_of_namespaces() && self.part.is_empty() && matches!(self.operation, Operation::Create | Operation::Update)
    }

    /// Whether namespace selectors have anything to say.
    #[must_use]
    pub fn is_in_namespace(&self) -> bool {
        !self.namespace.is_empty() || self.is_of_namespaces()
    }
}

/// What requests are meant: a rule of a webhook or of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Groups, or `*`.
    pub groups: Vec<String>,
    /// Versions, or `*`.
    pub versions: Vec<String>,
    /// `pods`, `pods/status`, `*/scale`, `*`, `*/*`.
    pub resources: Vec<String>,
    /// `CREATE` and so on, or `*`.
    pub operations: Vec<String>,
    /// Names of objects, of which only policies' rules have any; empty for all.
    pub names: Vec<String>,
    /// `Cluster`, `Namespaced` or `*`.
    pub scope: String,
}

impl Rule {
    /// Reads a rule.
    #[must_use]
    pub fn parse(rule: &Value) -> Self {
        let list = |field: &str| items(rule, field).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Self {
            groups: list("/apiGroups"),
            versions: list("/apiVersions"),
            resources: list("/resources"),
            operations: list("/operations"),
            names: list("/resourceNames"),
            scope: text(rule, "/scope").to_owned(),
        }
    }

    /// Whether a request, seen in one way, is meant.
    #[must_use]
    pub fn matches(&self, request: &Request, seen: &Seen) -> bool {
        let one = |list: &[String], wanted: &str| list.iter().any(|x| x == "*" || x == wanted);
        let namespaced = !request.is_of_namespaces() && !request.namespace.is_empty();
        let scope = match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        };
        scope
            && one(&self.operations, operation(request.operation))
            && one(&self.groups, &seen.group)
            && one(&self.versions, &seen.version)
            && (self.names.is_empty() || self.names.contains(&request.name))
            && self.resources.iter().any(|r| {
                let (resource, part) = r.split_once('/').unwrap_or((r, ""));
                (resource == "*" || resource == seen.resource) && (part == "*" || part == request.part)
            })
    }
}

/// The way in which a request is to be seen that one of the rules means; `None` when none does. The earliest rule decides. `equivalents` are
/// the other ways, for rules that also mean those.
pub fn wanted(rules: &[Rule], equivalent: bool, request: &Request, equivalents: impl FnOnce() -> Vec<Seen>) -> Option<Seen> {
    if rules.iter().any(|r| r.matches(request, &request.seen)) {
        return Some(request.seen.clone());
    }
    // Most rules have nothing to do with this operation, whatever the version.
    let operation = operation(request.operation);
    let possible = |r: &Rule| r.operations.iter().any(|o| o == "*" || o == operation);
    if !equivalent || !rules.iter().any(possible) {
        return None;
    }
    let others = equivalents();
    rules.iter().find_map(|rule| others.iter().find(|seen| rule.matches(request, seen)).cloned())
}

/// A structured selector; an absent one selects everything.
///
/// # Errors
/// A selector that cannot be read.
pub fn selector(selector: &Value) -> Result<Selector, String> {
    let expressions: Vec<(&str, &str, Vec<String>)> = items(selector, "/matchExpressions")
        .iter()
        .map(|e| (text(e, "/key"), text(e, "/operator"), items(e, "/values").iter().filter_map(Value::as_str).map(str::to_owned).collect()))
        .collect();
    let parts = expressions.iter().map(|(key, operator, values)| (*key, *operator, values.as_slice()));
    Selector::from_parts(Some(&map(selector, "/matchLabels")), parts)
}

/// Whether an object selector selects the new or the old object.
#[must_use]
pub fn selects(selector: &Selector, new: &Value, old: Option<&Value>) -> bool {
    let label = |o: &Value| {
        let labels = o.meta().and_then(|m| m.get("labels"));
        o.is_object() && selector.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    };
    selector.is_everything() || label(new) || old.is_some_and(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::yaml;

    fn request(resource: &str, part: &str, operation: Operation, namespace: &str) -> Request {
        let kind = ("apps".to_owned(), "v1".to_owned(), "Deployment".to_owned());
        let group = if resource == "namespaces" { "" } else { "apps" };
        let seen = Seen { group: group.to_owned(), version: "v1".to_owned(), resource: resource.to_owned(), kind };
        Request { seen, part: part.to_owned(), operation, namespace: namespace.to_owned(), name: String::new() }
    }

    #[track_caller]
    fn check(rule: &str, request: &Request, expected: bool) {
        let all = "apiGroups: ['*'], apiVersions: ['*'], operations: ['*']";
        let rule = Rule::parse(&yaml(&format!("{{{all}, {rule}}}")));
        assert_eq!(rule.matches(request, &request.seen), expected, "{rule:?} {request:?}");
    }

    #[test]
    fn resources_and_their_parts() {
        let whole = request("deployments", "", Operation::Create, "n");
        let scale = request("deployments", "scale", Operation::Update, "n");
        for (rule, of_whole, of_scale) in [
            ("deployments", true, false),
            ("deployments/scale", false, true),
            ("deployments/*", true, true),
            ("*", true, false),
            ("*/*", true, true),
            ("*/scale", false, true),
            ("*/status", false, false),
            ("pods", false, false),
        ] {
            check(&format!("resources: ['{rule}']"), &whole, of_whole);
            check(&format!("resources: ['{rule}']"), &scale, of_scale);
        }
    }

    #[test]
    fn scopes() {
        let (inside, outside) = (request("deployments", "", Operation::Create, "n"), request("nodes", "", Operation::Create, ""));
        let namespace = request("namespaces", "", Operation::Update, "n");
        for (scope, expected) in [("Namespaced", [true, false, false]), ("Cluster", [false, true, true]), ("'*'", [true, true, true])] {
            for (request, expected) in [&inside, &outside, &namespace].into_iter().zip(expected) {
                check(&format!("resources: ['*'], scope: {scope}"), request, expected);
            }
        }
    }

    fn seen(group: &str) -> Seen {
        Seen {
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: "events".to_owned(),
            kind: (group.to_owned(), "v1".to_owned(), "Event".to_owned()),
        }
    }

    #[track_caller]
    fn wants(equivalent: bool, groups: &str, expected: Option<&str>) {
        let rule = Rule::parse(&yaml(&format!("{{apiGroups: {groups}, apiVersions: [v1], resources: [events], operations: [CREATE]}}")));
        let (namespace, name) = ("n".to_owned(), String::new());
        let request = Request { seen: seen(""), part: String::new(), operation: Operation::Create, namespace, name };
        let found = wanted(&[rule], equivalent, &request, || vec![seen("events.k8s.io")]);
        assert_eq!(found.map(|s| s.group).as_deref(), expected);
    }

    #[test]
    fn equivalent_requests_are_seen_in_the_version_that_was_asked_for() {
        wants(true, "['']", Some(""));
        wants(true, "[events.k8s.io]", Some("events.k8s.io"));
        wants(true, "[events.k8s.io, '']", Some(""));
        wants(false, "[events.k8s.io]", None);
        wants(true, "[apps]", None);
    }

    #[test]
    fn the_old_object_is_selected_too() {
        let selector = Selector::parse("a=1").unwrap();
        let with = |v: &str| yaml(&format!("{{metadata: {{labels: {{a: '{v}'}}}}}}"));
        assert!(selects(&selector, &with("1"), None));
        assert!(selects(&selector, &with("2"), Some(&with("1"))));
        assert!(selects(&selector, &Value::Null, Some(&with("1"))));
        assert!(!selects(&selector, &with("2"), None));
        assert!(!selects(&selector, &Value::Null, None));
        assert!(selects(&Selector::everything(), &Value::Null, None));
    }
}
