//! Who may ask for what: each path stands for a subresource of this node, as `system:kubelet-api-admin` and its kin grant them.
//!
//! Paths with a right of their own (KEP-2862: `nodes/pods`, `nodes/healthz`, `nodes/configz`) are open to `nodes/proxy` as well.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use daemon::delegated::{Action, Delegated};
use daemon::http::Peer;

/// Asks before each request, and answers in its place when the answer is no.
pub async fn guard(State((delegated, node)): State<(Delegated, Arc<str>)>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let verb = verb(request.method(), request.uri().path());
    let mut refused = None;
    for subresource in subresources(request.uri().path()) {
        let action = Action::Resource {
            verb: verb.to_owned(),
            resource: "nodes".to_owned(),
            subresource: (*subresource).to_owned(),
            name: node.to_string(),
        };
        match delegated.check(request.headers(), peer.as_ref(), action).await {
            Ok(_) => return next.run(request).await,
            Err(no) => refused = Some(no),
        }
    }
    let (status, text) = refused.unwrap_or_else(|| (axum::http::StatusCode::FORBIDDEN, "Forbidden".to_owned()));
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// The verb that a request stands for. To run a command or to open a connection is to create something, also where a WebSocket is asked
/// for by GET: who may only look at a node's numbers through `nodes/proxy` may not run commands on it. (Upstream's apiserver asks the
/// same of its own streams; its kubelet goes by the method alone.)
fn verb(method: &Method, path: &str) -> &'static str {
    if matches!(path.split('/').nth(1), Some("exec" | "attach" | "portForward")) {
        return "create";
    }
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The rights that open a path; any of them does.
fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').nth(1).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" | "livez" | "readyz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    #[test]
    fn streams_are_created_by_whatever_method() {
        let verb = |method, path| super::verb(&method, path);
        assert_eq!((verb(Method::GET, "/exec/ns/p/c"), verb(Method::GET, "/portForward/ns/p")), ("create", "create"));
        assert_eq!((verb(Method::POST, "/attach/ns/p/c"), verb(Method::GET, "/containerLogs/ns/p/c")), ("create", "get"));
    }

    #[test]
    fn paths_stand_for_subresources() {
        for (path, expected) in [
            ("/stats/summary", "stats"),
            ("/metrics/cadvisor", "metrics"),
            ("/logs/", "log"),
            ("/pods", "pods proxy"),
            ("/runningpods/", "pods proxy"),
            ("/healthz", "healthz proxy"),
            ("/configz", "configz proxy"),
            ("/exec/ns/pod/c", "proxy"),
            ("/containerLogs/ns/pod/c", "proxy"),
            ("/", "proxy"),
        ] {
            assert_eq!(super::subresources(path).join(" "), expected, "{path}");
        }
    }
}
