//! Admission of connections (CONNECT): what steps and webhooks see of exec, attach, port-forward and proxy is the request's options.

use api::object::api_version;
use api::status::Status;
use axum::response::Response;
use serde_json::{Value, json};

use crate::admission::{Admission, Operation};
use crate::http::discovery;
use crate::http::query::Query;
use crate::http::respond;
use crate::verbs::Call;

/// Options that are true or false.
const FLAGS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// The options of a connection as an object of that kind. Pure.
#[must_use]
pub fn options(api_version: &str, kind: &str, query: &Query, path: &str) -> Value {
    let mut out = json!({"kind": kind, "apiVersion": api_version});
    if kind.ends_with("ProxyOptions") {
        out["path"] = path.into();
        return out;
    }
    for flag in FLAGS.iter().filter(|f| query.flag(f)) {
        out[*flag] = true.into();
    }
    if let Some(container) = query.get("container").filter(|c| !c.is_empty()) {
        out["container"] = container.into();
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() && kind == "PodExecOptions" {
        out["command"] = json!(command);
    }
    let ports: Vec<u16> = query.all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
    if !ports.is_empty() {
        out["ports"] = json!(ports);
    }
    out
}

/// Takes a connection through admission; gives what the client should be told.
///
/// # Errors
/// A step or webhook that says no.
pub async fn connection(call: &Call) -> Result<Vec<String>, Status> {
    let Some(sub) = call.row.subresource(&call.info.subresource) else { return Err(Status::no_such_resource()) };
    let (group, version, kind, _) = discovery::part(&call.row, sub);
    let mut object = options(&api_version(group, version), kind, &call.query, &call.info.tail);
    let mut warnings = vec![];
    Admission::new(call, Operation::Connect, sub.name(), false).run(&mut object, &mut warnings).await?;
    Ok(warnings)
}

/// An answer with warnings.
#[must_use]
pub fn warned(mut response: Response, warnings: &[String]) -> Response {
    respond::warn(response.headers_mut(), warnings);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_from_the_query() {
        let query = Query::parse("stdin=true&tty=0&stdout=1&container=c&command=sh&command=-c");
        assert_eq!(
            options("v1", "PodExecOptions", &query, ""),
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "stdout": true, "container": "c", "command": ["sh", "-c"]})
        );
        let ports = options("v1", "PodPortForwardOptions", &Query::parse("ports=80,81"), "");
        assert_eq!(ports["ports"], json!([80, 81]));
        assert_eq!(options("v1", "NodeProxyOptions", &query, "/x"), json!({"kind": "NodeProxyOptions", "apiVersion": "v1", "path": "/x"}));
    }
}
