//! What can be done at which path: planned once, written in either dialect.

use super::{ResourceDoc, SchemaDoc, SubresourceDoc};
use crate::openapi::definitions::{meta, name_of, name_of_kind};

/// A path with its operations.
pub(super) struct PathPlan {
    pub(super) path: String,
    /// Parameters in the path, outermost first, then those of every operation.
    pub(super) parameters: Vec<&'static str>,
    pub(super) operations: Vec<Operation>,
}

/// One method of a path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    pub(super) tag: String,
    pub(super) parameters: &'static [&'static str],
    /// The schema of the request's body; patches have theirs.
    pub(super) body: Option<Body>,
    /// The schema of the answer; `None`: a string.
    pub(super) answer: Option<String>,
    pub(super) codes: &'static [(u16, &'static str)],
    /// Group, version, kind.
    pub(super) kind: [String; 3],
    pub(super) watchable: bool,
}

pub(super) enum Body {
    /// An object of this schema.
    Object(String),
    /// The same, which may be left out.
    Optional(String),
    /// Any patch.
    Patch,
}

/// Media types of patches, in the order in which clients are shown them.
pub(super) const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// The parameter `path` in a query, where the table has another of the name.
const PROXY_PATH: &str = "path in the query";

/// The name of a parameter of the table.
pub(super) fn parameter_name(name: &str) -> &str {
    if name == PROXY_PATH { "path" } else { name }
}

/// A parameter: name, where, type, what it does.
pub(super) const PARAMETERS: &[(&str, &str, &str, &str)] = &[
    ("name", "path", "string", "name of the object"),
    ("namespace", "path", "string", "object name and auth scope, such as for teams and projects"),
    ("path", "path", "string", "path to the resource behind the proxy"),
    (PROXY_PATH, "query", "string", "path to the resource behind the proxy"),
    ("pretty", "query", "string", "If 'true', then the output is pretty printed."),
    ("allowWatchBookmarks", "query", "boolean", "Ask for watch events of type BOOKMARK, which carry only a resourceVersion."),
    ("continue", "query", "string", "The token of the last page, to get the next page of a list."),
    ("fieldSelector", "query", "string", "Restricts the objects to those whose fields match. Defaults to everything."),
    ("labelSelector", "query", "string", "Restricts the objects to those whose labels match. Defaults to everything."),
    ("limit", "query", "integer", "The most objects to return in one page of a list."),
    ("resourceVersion", "query", "string", "Constrains which resource versions a request may be served from."),
    ("resourceVersionMatch", "query", "string", "How resourceVersion is applied to a list: Exact or NotOlderThan."),
    ("sendInitialEvents", "query", "boolean", "Begin a watch with the objects there are, as ADDED events, and a bookmark after them."),
    ("timeoutSeconds", "query", "integer", "Ends the list or watch after this many seconds."),
    ("watch", "query", "boolean", "Watch for changes of the objects, in place of listing them."),
    ("dryRun", "query", "string", "All: do everything but persist the change."),
    ("fieldManager", "query", "string", "The name of who makes the change, up to 128 printable characters; required for apply."),
    ("fieldValidation", "query", "string", "What is done about unknown and duplicate fields: Ignore, Warn or Strict."),
    ("force", "query", "boolean", "Apply takes over fields that others own, in place of a conflict."),
    ("gracePeriodSeconds", "query", "integer", "Seconds before the object is deleted; 0 deletes at once."),
    ("orphanDependents", "query", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "query", "string", "What happens to dependents: Orphan, Background or Foreground."),
    ("container", "query", "string", "The container to work with. Defaults to the only one."),
    ("follow", "query", "boolean", "Follow the log stream of the pod."),
    ("limitBytes", "query", "integer", "The most bytes of log to return."),
    ("previous", "query", "boolean", "Return the log of the container's previous instance."),
    ("sinceSeconds", "query", "integer", "Return the log of the last so many seconds."),
    ("sinceTime", "query", "string", "Return the log since this time, in RFC 3339."),
    ("stream", "query", "string", "The stream to return: All, Stdout or Stderr."),
    ("tailLines", "query", "integer", "Return so many lines from the end of the log."),
    ("timestamps", "query", "boolean", "Begin each line with its time."),
    ("insecureSkipTLSVerifyBackend", "query", "boolean", "Do not verify the certificate of the node the log comes from."),
    ("command", "query", "string", "The command to run; not run in a shell."),
    ("stdin", "query", "boolean", "Redirect standard input."),
    ("stdout", "query", "boolean", "Redirect standard output."),
    ("stderr", "query", "boolean", "Redirect standard error."),
    ("tty", "query", "boolean", "Allocate a terminal."),
    ("ports", "query", "integer", "The ports to forward."),
];

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
const OK: &[(u16, &str)] = &[(200, "OK"), (401, "Unauthorized")];
const OK_CREATED: &[(u16, &str)] = &[(200, "OK"), (201, "Created"), (401, "Unauthorized")];
const OK_CREATED_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (201, "Created"), (202, "Accepted"), (401, "Unauthorized")];
const OK_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (202, "Accepted"), (401, "Unauthorized")];

/// The paths of a resource.
pub(super) fn plan(row: &ResourceDoc) -> Vec<PathPlan> {
    let has = |verb: &str| row.verbs.contains(&verb);
    let root = format!("/{}", row.group_version_path());
    let within = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let place: &[&str] = if row.namespaced { &["namespace"] } else { &[] };
    let collection = format!("{root}{within}/{}", row.plural);
    let item = format!("{collection}/{{name}}");
    let in_item = [&["name"], place, &["pretty"]].concat();
    let name = name_of(row);
    let kind = &row.kind;
    let scoped = if row.namespaced { "Namespaced" } else { "" };
    let list = format!("{name}List");
    let delete_options = || Some(Body::Optional(meta("DeleteOptions")));
    let new = |method, action, verb: &str, rest: String, description: String| Operation {
        method,
        action,
        id: format!("{verb}{}{rest}", group_version_id(row)),
        description,
        tag: tag(row),
        parameters: &[],
        body: None,
        answer: Some(name.clone()),
        codes: OK,
        kind: [row.group.to_string(), row.version.to_string(), kind.to_string()],
        watchable: false,
    };
    let listing = |rest: String| Operation {
        parameters: LIST,
        answer: Some(list.clone()),
        watchable: has("watch"),
        ..new("get", "list", "list", rest, format!("list or watch objects of kind {kind}"))
    };
    let mut operations = Vec::new();
    if has("list") {
        operations.push(listing(format!("{scoped}{kind}")));
    }
    if has("create") {
        let verb = new("post", "post", "create", format!("{scoped}{kind}"), format!("create a {kind}"));
        operations.push(Operation { parameters: WRITE, body: Some(Body::Object(name.clone())), codes: OK_CREATED_ACCEPTED, ..verb });
    }
    if has("deletecollection") {
        let rest = format!("Collection{scoped}{kind}");
        let verb = new("delete", "deletecollection", "delete", rest, format!("delete a collection of {kind}"));
        let answer = Some(meta("Status"));
        operations.push(Operation { parameters: DELETE_COLLECTION, body: delete_options(), answer, ..verb });
    }
    let mut paths = vec![PathPlan { path: collection, parameters: [place, &["pretty"]].concat(), operations }];
    if row.namespaced && has("list") {
        let operations = vec![Operation { ..listing(format!("{kind}ForAllNamespaces")) }];
        paths.push(PathPlan { path: format!("{root}/{}", row.plural), parameters: vec!["pretty"], operations });
    }
    let mut operations = Vec::new();
    if has("get") {
        operations.push(new("get", "get", "read", format!("{scoped}{kind}"), format!("read the specified {kind}")));
    }
    if has("update") {
        let verb = new("put", "put", "replace", format!("{scoped}{kind}"), format!("replace the specified {kind}"));
        operations.push(Operation { parameters: WRITE, body: Some(Body::Object(name.clone())), codes: OK_CREATED, ..verb });
    }
    if has("patch") {
        let verb = new("patch", "patch", "patch", format!("{scoped}{kind}"), format!("partially update the specified {kind}"));
        operations.push(Operation { parameters: PATCH, body: Some(Body::Patch), codes: OK_CREATED, ..verb });
    }
    if has("delete") {
        let verb = new("delete", "delete", "delete", format!("{scoped}{kind}"), format!("delete a {kind}"));
        let answer = Some(if row.returns_deleted { name.clone() } else { meta("Status") });
        operations.push(Operation { parameters: DELETE, body: delete_options(), answer, codes: OK_ACCEPTED, ..verb });
    }
    paths.push(PathPlan { path: item.clone(), parameters: in_item.clone(), operations });
    for sub in &row.subresources {
        if sub.name == "proxy" {
            paths.push(subresource(row, sub, &item, "WithPath", &in_item));
        }
        paths.push(subresource(row, sub, &item, "", &in_item));
    }
    if has("watch") && matches!(row.schema, SchemaDoc::Builtin(_)) {
        paths.extend(watches(row, &new));
    }
    paths.retain(|path| !path.operations.is_empty());
    paths
}

/// The old paths of watches, under `/watch/`.
fn watches(row: &ResourceDoc, new: &dyn Fn(&'static str, &'static str, &str, String, String) -> Operation) -> Vec<PathPlan> {
    let root = format!("/{}/watch", row.group_version_path());
    let (kind, scoped) = (&row.kind, if row.namespaced { "Namespaced" } else { "" });
    let place: &[&str] = if row.namespaced { &["namespace"] } else { &[] };
    let within = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let watch = |action, rest: String, what: String| Operation {
        answer: Some(meta("WatchEvent")),
        watchable: true,
        ..new("get", action, "watch", rest, format!("{what}. deprecated: use the 'watch' parameter with a list operation instead."))
    };
    let path = |path: String, place: &[&'static str], operation| {
        let parameters = [place, &["pretty"], LIST].concat();
        PathPlan { path, parameters, operations: vec![operation] }
    };
    let collection = format!("{root}{within}/{}", row.plural);
    let each = format!("watch individual changes to a list of {kind}");
    let mut out = vec![];
    if row.namespaced {
        let all = watch("watchlist", format!("{kind}ListForAllNamespaces"), each.clone());
        out.push(path(format!("{root}/{}", row.plural), &[], all));
    }
    out.push(path(collection.clone(), place, watch("watchlist", format!("{scoped}{kind}List"), each)));
    let one = watch("watch", format!("{scoped}{kind}"), format!("watch changes to an object of kind {kind}"));
    out.push(path(format!("{collection}/{{name}}"), &[&["name"], place].concat(), one));
    out
}

/// The verbs of a connection as discovery has them are methods; a proxy passes on all there are.
fn methods(sub: &SubresourceDoc) -> Vec<&'static str> {
    let proxy: &[&str] = if sub.name == "proxy" { &["head", "options"] } else { &[] };
    sub.verbs.iter().chain(proxy).copied().collect()
}

fn subresource(row: &ResourceDoc, sub: &SubresourceDoc, item: &str, with_path: &str, in_item: &[&'static str]) -> PathPlan {
    let scoped = if row.namespaced { "Namespaced" } else { "" };
    let schema = name_of_kind(&sub.group, &sub.version, &sub.kind)
        .or_else(|| (sub.kind == row.kind && sub.version == row.version).then(|| name_of(row)));
    let log = sub.name == "log";
    let options: &[&str] = match &*sub.name {
        "log" => &[
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "stream",
            "tailLines",
            "timestamps",
        ],
        "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
        "portforward" => &["ports"],
        "proxy" if with_path.is_empty() => &[PROXY_PATH],
        "proxy" => &["path"],
        _ => &[],
    };
    let connects = schema.is_none() && !log;
    let suffix = format!("{scoped}{}{}{with_path}", row.kind, title(&sub.name));
    let of = format!("{} of the specified {}", sub.name, row.kind);
    let operations = methods(sub).into_iter().filter_map(|verb| {
        let (method, action, word, does) = match verb {
            "get" => ("get", "get", "read", "read"),
            "create" => ("post", "post", "create", "create"),
            "update" => ("put", "put", "replace", "replace"),
            "patch" => ("patch", "patch", "patch", "partially update"),
            "delete" => ("delete", "delete", "delete", "delete"),
            "head" => ("head", "connect", "connect", "head"),
            "options" => ("options", "connect", "connect", "options"),
            _ => return None,
        };
        let connect = connects;
        let body = match (action, &schema) {
            ("patch", Some(_)) => Some(Body::Patch),
            ("post" | "put", Some(name)) => Some(Body::Object(name.clone())),
            _ => None,
        };
        let id = match connect {
            true => format!("connect{}{}{suffix}", group_version_id(row), title(method)),
            false => format!("{word}{}{suffix}", group_version_id(row)),
        };
        Some(Operation {
            method,
            action: if connect { "connect" } else { action },
            id,
            description: if connect { format!("connect {} requests to {of}", method.to_uppercase()) } else { format!("{does} {of}") },
            tag: tag(row),
            parameters: match (connect, action) {
                (false, "patch") => PATCH,
                (false, "post" | "put") => WRITE,
                _ => &[],
            },
            body,
            answer: if log { None } else { schema.clone() },
            codes: match action {
                "patch" | "put" => OK_CREATED,
                "post" if !connect => OK_CREATED_ACCEPTED,
                _ => OK,
            },
            kind: if log {
                [row.group.to_string(), row.version.to_string(), row.kind.to_string()]
            } else {
                [sub.group.to_string(), sub.version.to_string(), sub.kind.to_string()]
            },
            watchable: false,
        })
    });
    let operations = operations.collect();
    // What a connection answers is not for pretty printing.
    let in_item: Vec<&str> = in_item.iter().copied().filter(|p| !connects || *p != "pretty").collect();
    let path = if with_path.is_empty() { format!("{item}/{}", sub.name) } else { format!("{item}/{}/{{path}}", sub.name) };
    PathPlan { path, parameters: [&in_item[..], options].concat(), operations }
}

/// `core_v1`, `rbacAuthorization_v1`.
fn tag(row: &ResourceDoc) -> String {
    let id = group_id(row);
    let mut chars = id.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    format!("{}_{}", first.into_iter().chain(chars).collect::<String>(), row.version)
}

/// `CoreV1`, `RbacAuthorizationV1`.
fn group_version_id(row: &ResourceDoc) -> String {
    format!("{}{}", group_id(row), title(&row.version))
}

fn group_id(row: &ResourceDoc) -> String {
    match row.group.trim_end_matches(".k8s.io") {
        "" => "Core".into(),
        group => group.split(['.', '-']).map(title).collect(),
    }
}

fn title(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}
