//! What a kubelet answers on our behalf: logs, exec, attach, port-forward.

use std::sync::Arc;

use api::object::Meta as _;
use api::status::{Details, Status};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daemon::tls::{Identity, Roots, client_config};
use futures::future::BoxFuture;
use http::{HeaderValue, Method, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::admitted::{connection, warned};
use super::backend::Target;
use super::stream::{self, Way, port_forward as unwrapped, remote_command};
use super::tunnel::{Asking, forward};
use crate::auth::Attributes;
use crate::http::query::Query;
use crate::http::respond::with_type;
use crate::server::Server;
use crate::verbs::Call;

/// The kubelet's port when a Node does not say.
const PORT: u16 = 10_250;
/// The most bytes of a kubelet's refusal that are passed on.
const REFUSAL: usize = 50 << 10;

/// TLS to kubelets, with our client certificate.
///
/// # Errors
/// Files that cannot be read, or flags that name none.
pub fn tls(server: &Server) -> Result<Arc<rustls::ClientConfig>, Status> {
    let files = server.config.kubelets.as_ref().ok_or_else(|| {
        Status::internal(
            "kubelets cannot be reached: --kubelet-client-certificate, --kubelet-client-key and --kubelet-certificate-authority are needed",
        )
    })?;
    let identity = Identity::load(&files.cert, &files.key).map_err(|e| Status::internal(format!("{e:#}")))?;
    let roots = Roots::load(&files.ca).map_err(|e| Status::internal(format!("{e:#}")))?;
    Ok(Arc::new(client_config(roots, Some(identity))))
}

/// The kubelet of a node, asked for `path`.
///
/// # Errors
/// A node that is not there or has no address.
pub fn kubelet(server: &Server, node: &str, path: String) -> Result<Target, Status> {
    let entry = server.hub.cache("/registry/nodes/").get(node).ok_or_else(|| Status::not_found("", "nodes", node))?;
    let tree = entry.tree().map_err(Status::internal)?;
    let addresses = tree.pointer("/status/addresses").and_then(Value::as_array);
    let of =
        |kind: &str| addresses.into_iter().flatten().find(|a| a["type"] == kind).and_then(|a| a["address"].as_str()).map(str::to_owned);
    let host = of("InternalIP").or_else(|| of("Hostname")).ok_or_else(|| Status::internal(format!("node {node:?} has no address")))?;
    let port = tree.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
    Ok(Target { host, port: port.unwrap_or(PORT), tls: Some(tls(server)?), name: None, path })
}

/// The pod of a call.
fn pod(call: &Call) -> Result<Value, Status> {
    let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, &call.info.name)).ok_or_else(|| call.not_found())?;
    call.tree(&entry)
}

fn names<'a>(pod: &'a Value, field: &str) -> Vec<&'a str> {
    pod.pointer(field).and_then(Value::as_array).into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
}

/// The container that a request is about: the one it names, or the only regular one.
fn container(pod: &Value, wanted: Option<&str>) -> Result<String, Status> {
    let regular = names(pod, "/spec/containers");
    let all = [names(pod, "/spec/initContainers"), regular.clone(), names(pod, "/spec/ephemeralContainers")].concat();
    let name = pod.name();
    match (wanted.filter(|c| !c.is_empty()), regular.as_slice()) {
        (Some(wanted), _) if all.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        (None, _) => {
            Err(Status::bad_request(format!("a container name must be specified for pod {name}, choose one of: [{}]", all.join(" "))))
        }
    }
}

/// `pods/log`
pub fn log(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        call.server.hub.fresh().await?;
        let pod = pod(&call)?;
        check_log_options(&call)?;
        let container = container(&pod, call.query.get("container"))?;
        let Some(node) = pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty()) else {
            return Ok(with_type(200, "text/plain", ""));
        };
        let options: Vec<(&str, &str)> =
            ["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"]
                .into_iter()
                .filter_map(|name| Some((name, call.query.get(name)?)))
                .collect();
        let path = format!("/containerLogs/{}/{}/{container}{}", pod.namespace(), pod.name(), encoded(&options));
        let target = kubelet(&call.server, node, path)?;
        let response = forward(&call, Request::new(Body::empty()), &target, Asking::Get).await?;
        if response.status().is_success() {
            if stream::is_websocket(request.headers()) {
                return stream::reader::serve(&call, request, response.into_body());
            }
            let mut response = with_type(200, "text/plain", response.into_body());
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), REFUSAL).collect().await.map_err(|e| Status::internal(e.to_string()))?;
        Err(refused(code, &String::from_utf8_lossy(&body.to_bytes()), &call.info.name))
    })
}

/// What a kubelet refused, as the API's error, in upstream's words.
fn refused(code: u16, text: &str, name: &str) -> Status {
    let about = format!(" ( pods/log {name})");
    let (reason, message) = match code {
        500 => return Status::internal(text),
        400 => return Status::bad_request(text),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials".to_owned()),
        403 => ("Forbidden", text.to_owned()),
        404 => ("NotFound", "the server could not find the requested resource".to_owned()),
        _ => ("", format!("the server responded with the status code {code} but did not return more information")),
    };
    let mut status = Status::new(code, reason, message + &about);
    status.details = Some(Box::new(Details { name: name.to_owned(), kind: "pods/log".to_owned(), ..Details::default() }));
    status
}

/// The streams of a container that can be read by themselves (KEP-3288).
const LOG_STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// The rules of `PodLogOptions`.
fn check_log_options(call: &Call) -> Result<(), Status> {
    let mut errors = api::field::Errors::new();
    let at = api::field::Path::new;
    for (name, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if let Some(n) = call.query.number(name)?
            && n < least
        {
            errors.invalid(
                &at(name),
                n,
                &format!("must be greater than {}", if least == 0 { "or equal to 0".to_owned() } else { "0".to_owned() }),
            );
        }
    }
    if call.query.get("sinceSeconds").is_some() && call.query.get("sinceTime").is_some() {
        errors.forbidden(&at("sinceSeconds"), "at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if let Some(stream) = call.query.get("stream").filter(|s| !s.is_empty()) {
        if !LOG_STREAMS.contains(&stream) {
            errors.not_supported(&at("stream"), stream, &LOG_STREAMS);
        } else if stream != "All" && call.query.get("tailLines").is_some() {
            errors.forbidden(&at("tailLines"), "`tailLines` and specific `stream` are mutually exclusive for now");
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", &call.info.name, &errors)) }
}

/// `pods/exec`, `pods/attach`, `pods/portforward`
pub fn stream(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        upgrade_allowed(&call, request.method())?;
        let warnings = connection(&call).await?;
        call.server.hub.fresh().await?;
        let pod = pod(&call)?;
        let tail = match call.info.subresource.as_str() {
            "portforward" => String::new(),
            _ => format!("/{}", container(&pod, call.query.get("container"))?),
        };
        let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty());
        let node = node.ok_or_else(|| Status::bad_request(format!("pod {} does not have a host assigned", pod.name())))?;
        let verb = if call.info.subresource == "portforward" { "portForward" } else { &call.info.subresource };
        let query = parameters(&call.info.subresource, &call.query)?;
        let target = kubelet(&call.server, node, format!("/{verb}/{}/{}{tail}{query}", pod.namespace(), pod.name()))?;
        let answer = match stream::way(&call.info.subresource, request.headers()) {
            Way::None => Err(Status::bad_request("Upgrade request required")),
            Way::Through => forward(&call, request, &target, Asking::Dialing).await,
            Way::Translated => remote_command::serve(&call, request, target),
            Way::Unwrapped(protocols) => unwrapped::serve(&call, request, target, &protocols).await,
        };
        answer.map(|response| warned(response, &warnings))
    })
}

/// A stream's parameters in the kubelet's words.
fn parameters(subresource: &str, query: &Query) -> Result<String, Status> {
    if subresource == "portforward" {
        let ports: Vec<&str> = query.all("ports").flat_map(|p| p.split(',')).filter(|p| !p.is_empty()).collect();
        if let Some(wrong) = ports.iter().find(|p| p.parse::<i32>().is_err()) {
            return Err(Status::bad_request(format!("strconv.ParseInt: parsing {wrong:?}: invalid syntax")));
        }
        let list = ports.join(",");
        return Ok(if list.is_empty() { String::new() } else { encoded(&[("port", &list)]) });
    }
    let flags = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let mut all: Vec<(&str, &str)> = flags.into_iter().filter(|(ours, _)| query.flag(ours)).map(|(_, theirs)| (theirs, "1")).collect();
    if subresource == "exec" {
        all.extend(query.all("command").map(|c| ("command", c)));
    }
    Ok(encoded(&all))
}

/// A query string; empty without parameters.
fn encoded(parameters: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in parameters {
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    out
}

/// A connection opened by GET (WebSocket) needs the right to create one, as one opened by POST does (KEP-4006).
fn upgrade_allowed(call: &Call, method: &Method) -> Result<(), Status> {
    if method != Method::GET {
        return Ok(());
    }
    let attributes = Attributes { verb: "create".to_owned(), ..Attributes::from(&call.info) };
    if call.server.authorizer.allows(&call.user, &attributes) {
        return Ok(());
    }
    Err(Status::forbidden(&call.row.group, &call.row.plural, &call.info.name, &attributes.refusal(&call.user.name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_only_regular_container_is_meant() {
        let named = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>();
        let pod = |init: &[&str], regular: &[&str], ephemeral: &[&str]| json!({"metadata": {"name": "p"}, "spec": {"containers": named(regular), "initContainers": named(init), "ephemeralContainers": named(ephemeral)}});
        let found = |pod: &Value, wanted| container(pod, wanted).unwrap_or_else(|e| e.message);
        let one = pod(&["setup"], &["web"], &["debugger"]);
        assert_eq!(
            (found(&one, None), found(&one, Some("debugger")), found(&one, Some(""))),
            ("web".into(), "debugger".into(), "web".into())
        );
        assert_eq!(found(&one, Some("x")), "container x is not valid for pod p");
        assert_eq!(
            found(&pod(&["setup"], &["a", "b"], &[]), None),
            "a container name must be specified for pod p, choose one of: [setup a b]"
        );
    }

    #[test]
    fn kubelets_are_asked_in_their_own_words() {
        let of = |subresource: &str, query: &str| parameters(subresource, &Query::parse(query)).map_err(|e| e.code);
        assert_eq!(
            of("exec", "command=sh&command=-c&command=a+b%26c&stdin=true&stdout=true&tty=false&container=x").unwrap(),
            "?input=1&output=1&command=sh&command=-c&command=a%20b%26c"
        );
        assert_eq!(of("attach", "stdout=1&stderr=1&tty=1&command=x").unwrap(), "?output=1&error=1&tty=1");
        assert_eq!(of("portforward", "ports=80&ports=443,8080").unwrap(), "?port=80%2C443%2C8080");
        assert_eq!((of("portforward", ""), of("portforward", "ports=x")), (Ok(String::new()), Err(400)));
    }

    #[test]
    fn refusals_read_as_upstreams() {
        let read = |code, text| {
            let s = refused(code, text, "p");
            format!("{} {} {}", s.code, s.reason, s.message)
        };
        assert_eq!(
            read(400, "container \"c\" in pod \"p\" is waiting to start: x"),
            "400 BadRequest container \"c\" in pod \"p\" is waiting to start: x"
        );
        assert_eq!(read(404, "no"), "404 NotFound the server could not find the requested resource ( pods/log p)");
        assert_eq!(read(500, "no"), "500 InternalError Internal error occurred: no");
    }
}
