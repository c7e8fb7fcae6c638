//! What a URL and a method ask for, in the API's terms. Pure: the authorizer, the admission chain and the verbs all go by this.

/// A parsed request line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// Whether it is about a resource; otherwise only `path` and `verb` mean something.
    pub is_resource: bool,
    /// The path.
    pub path: String,
    /// The verb as RBAC knows it: `get`, `list`, `watch`, `create`, ... or the lower-case method for other paths.
    pub verb: String,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// Subresource; empty for none.
    pub subresource: String,
    /// The object's name; empty for none.
    pub name: String,
    /// The node that a field selector on `spec.nodeName` limits a list or watch to; empty for none.
    pub node_name: String,
    /// What follows a proxy subresource, with its leading `/`.
    pub tail: String,
}

/// Parses a path, a query and a method. `query` is looked at for `watch`, and for a field selector that names one object.
#[must_use]
pub fn parse(method: &str, path: &str, query: &super::query::Query) -> RequestInfo {
    let mut info = RequestInfo { path: path.to_owned(), verb: method.to_ascii_lowercase(), ..RequestInfo::default() };
    let segments: Vec<String> = path.trim_start_matches('/').split('/').map(unescape).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let rest = match parts.as_slice() {
        ["api", version, rest @ ..] if !version.is_empty() && !rest.is_empty() => {
            info.version = (*version).to_owned();
            rest
        }
        ["apis", group, version, rest @ ..] if !group.is_empty() && !rest.is_empty() => {
            info.group = (*group).to_owned();
            info.version = (*version).to_owned();
            rest
        }
        _ => return info,
    };
    let (watching, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let rest = match rest {
        // A namespace's own subresources; everything else after its name is a resource in it.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] | ["namespaces", _, ""] => rest,
        ["namespaces", namespace, rest @ ..] => {
            info.namespace = (*namespace).to_owned();
            rest
        }
        rest => rest,
    };
    let [resource, rest @ ..] = rest else { return info };
    if resource.is_empty() {
        return info;
    }
    info.is_resource = true;
    info.resource = (*resource).to_owned();
    if let [name, rest @ ..] = rest {
        info.name = (*name).to_owned();
        if let [subresource, tail @ ..] = rest {
            info.subresource = (*subresource).to_owned();
            if !tail.is_empty() {
                info.tail = format!("/{}", tail.join("/"));
            }
        }
    }
    if info.resource == "namespaces" && info.group.is_empty() && !info.name.is_empty() {
        info.namespace.clone_from(&info.name);
    }
    info.verb = verb(method, &info, watching || query.flag("watch")).to_owned();
    if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection")
        && let Some(Ok(selector)) = query.get("fieldSelector").map(api::fields::Selector::parse)
    {
        if info.name.is_empty() {
            info.name = selector.required("metadata.name").unwrap_or("").to_owned();
        }
        info.node_name = selector.required("spec.nodeName").unwrap_or("").to_owned();
    }
    info
}

/// The API's verb for a method on a resource.
fn verb(method: &str, info: &RequestInfo, watching: bool) -> &'static str {
    let whole = info.name.is_empty();
    match method {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if whole => "deletecollection",
        "DELETE" => "delete",
        "GET" | "HEAD" if watching && info.subresource.is_empty() => "watch",
        "GET" | "HEAD" if whole => "list",
        "GET" | "HEAD" => "get",
        _ => "",
    }
}

/// Undoes percent-encoding; what is none stays.
fn unescape(segment: &str) -> String {
    super::query::percent_decode(segment, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let (method, url) = line.split_once(' ').unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let i = parse(method, path, &super::super::query::Query::parse(query));
        let text = if i.is_resource {
            format!("{} {}/{} ns={} {}/{} name={} {}", i.verb, i.group, i.version, i.namespace, i.resource, i.subresource, i.name, i.tail)
        } else {
            format!("{} {}", i.verb, i.path)
        };
        assert_eq!(text.trim(), expected);
    }

    #[test]
    fn requests_about_resources() {
        check("GET /api/v1/pods", "list /v1 ns= pods/ name=");
        check("GET /api/v1/namespaces/a/pods?watch=1", "watch /v1 ns=a pods/ name=");
        check("GET /api/v1/namespaces/a/pods/b/log", "get /v1 ns=a pods/log name=b");
        check("POST /api/v1/namespaces/a/pods/b/exec", "create /v1 ns=a pods/exec name=b");
        check("GET /api/v1/namespaces/a", "get /v1 ns=a namespaces/ name=a");
        check("PUT /api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces/finalize name=a");
        check("GET /api/v1/namespaces/a/status", "get /v1 ns=a namespaces/status name=a");
        check("DELETE /apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 ns=a deployments/ name=");
        check("PATCH /apis/apps/v1/namespaces/a/deployments/b/scale", "patch apps/v1 ns=a deployments/scale name=b");
        check("GET /api/v1/watch/namespaces/a/pods", "watch /v1 ns=a pods/ name=");
        check("GET /api/v1/nodes?fieldSelector=metadata.name%3Dn1", "list /v1 ns= nodes/ name=n1");
        check("GET /api/v1/namespaces/a/services/b:80/proxy/x/y/", "get /v1 ns=a services/proxy name=b:80 /x/y/");
        check(
            "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get rbac.authorization.k8s.io/v1 ns= clusterroles/ name=system:node",
        );
    }

    #[test]
    fn other_requests() {
        check("GET /", "get /");
        check("GET /api", "get /api");
        check("GET /apis/apps/v1", "get /apis/apps/v1");
        check("GET /healthz", "get /healthz");
        check("POST /api/v1/", "post /api/v1/");
    }
}
