//! What a kubelet answers on our behalf: logs, exec, attach, port-forward, and its own proxy.

use std::sync::Arc;

use api::object::Meta as _;
use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use daemon::tls::{Identity, Roots, client_config};
use futures::future::BoxFuture;
use http::Method;
use serde_json::Value;

use super::tunnel::{Target, forward};
use crate::auth::Attributes;
use crate::http::respond::with_type;
use crate::server::Server;
use crate::verbs::Call;

/// The kubelet's port when a Node does not say.
const PORT: u16 = 10_250;

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
    Ok(Target { host, port: port.unwrap_or(PORT), tls: Some(tls(server)?), path })
}

/// The pod of a call.
fn pod(call: &Call) -> Result<Value, Status> {
    let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, &call.info.name)).ok_or_else(|| call.not_found())?;
    call.tree(&entry)
}

/// Every container's name: regular ones, then init, then ephemeral.
fn containers(pod: &Value) -> Vec<&str> {
    let names = |field: &str| pod.pointer(field).and_then(Value::as_array).into_iter().flatten().filter_map(|c| c["name"].as_str());
    names("/spec/containers").chain(names("/spec/initContainers")).chain(names("/spec/ephemeralContainers")).collect()
}

/// The container that a request is about: the one it names, the pod's default, or the only one.
fn container(call: &Call, pod: &Value) -> Result<String, Status> {
    let all = containers(pod);
    let name = pod.name();
    if let Some(wanted) = call.query.get("container").filter(|c| !c.is_empty()) {
        return if all.contains(&wanted) {
            Ok(wanted.to_owned())
        } else {
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
        };
    }
    let regular: Vec<&str> =
        pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    match (regular.as_slice(), all.len()) {
        ([only], 1) => Ok((*only).to_owned()),
        _ => {
            let init: Vec<&str> = all.iter().filter(|c| !regular.contains(c)).copied().collect();
            let also = if init.is_empty() { String::new() } else { format!(" or one of the init containers: [{}]", init.join(" ")) };
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]{also}",
                regular.join(" ")
            )))
        }
    }
}

fn raw_query(request: &Request) -> String {
    request.uri().query().map(|q| format!("?{q}")).unwrap_or_default()
}

/// `pods/log`
pub fn log(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        call.server.hub.fresh().await?;
        let pod = pod(&call)?;
        check_log_options(&call)?;
        let container = container(&call, &pod)?;
        let Some(node) = pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty()) else {
            return Ok(with_type(200, "text/plain", ""));
        };
        let path = format!("/containerLogs/{}/{}/{container}{}", pod.namespace(), pod.name(), raw_query(&request));
        let target = kubelet(&call.server, node, path)?;
        forward(request, target, call.server.shutdown.clone()).await
    })
}

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
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", &call.info.name, &errors)) }
}

/// `pods/exec`, `pods/attach`
pub fn stream(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        upgrade_allowed(&call, &request)?;
        call.server.hub.fresh().await?;
        let pod = pod(&call)?;
        let container = container(&call, &pod)?;
        let target = on_node(&call, &pod, &request, &format!("/{container}"))?;
        forward(request, target, call.server.shutdown.clone()).await
    })
}

/// `pods/portforward`
pub fn port_forward(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        upgrade_allowed(&call, &request)?;
        call.server.hub.fresh().await?;
        let pod = pod(&call)?;
        let target = on_node(&call, &pod, &request, "")?;
        forward(request, target, call.server.shutdown.clone()).await
    })
}

fn on_node(call: &Call, pod: &Value, request: &Request, tail: &str) -> Result<Target, Status> {
    let verb = match call.info.subresource.as_str() {
        "portforward" => "portForward",
        other => other,
    };
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty());
    let node = node.ok_or_else(|| Status::bad_request(format!("pod {} does not have a host assigned", pod.name())))?;
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("");
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!("cannot exec into a container in a completed pod; current phase is {phase}")));
    }
    let path = format!("/{verb}/{}/{}{tail}{}", pod.namespace(), pod.name(), raw_query(request));
    kubelet(&call.server, node, path)
}

/// A connection opened by GET (WebSocket) needs the right to create one, as one opened by POST does (KEP-4006).
fn upgrade_allowed(call: &Call, request: &Request) -> Result<(), Status> {
    if request.method() != Method::GET {
        return Ok(());
    }
    let attributes = Attributes { verb: "create".to_owned(), ..Attributes::from(&call.info) };
    if call.server.authorizer.allows(&call.user, &attributes) {
        return Ok(());
    }
    Err(Status::forbidden(&call.row.group, &call.row.plural, &call.info.name, &attributes.refusal(&call.user.name)))
}
