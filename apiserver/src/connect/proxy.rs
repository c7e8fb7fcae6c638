//! `proxy` of pods, Services and nodes: `[scheme:]name[:port]/proxy/path`.

use api::object::Meta as _;
use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderValue, header};
use serde_json::Value;

use super::kubelet::kubelet;
use super::tunnel::{Target, forward};
use crate::http::respond::with_type;
use crate::verbs::Call;

/// A proxied object's name, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

fn parse(text: &str) -> Result<Named<'_>, Status> {
    let parts: Vec<&str> = text.split(':').collect();
    let (https, name, port) = match parts.as_slice() {
        [name] => (false, *name, ""),
        [scheme @ ("http" | "https"), name] if !name.is_empty() && name.parse::<u16>().is_err() => (*scheme == "https", *name, ""),
        [name, port] => (false, *name, *port),
        ["" | "http", name, port] => (false, *name, *port),
        ["https", name, port] => (true, *name, *port),
        _ => return Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
    };
    Ok(Named { https, name, port })
}

/// The path at the target; `None` when the client has to be sent to the same URL with a slash at its end.
fn path_at_target(call: &Call, request: &Request) -> Option<String> {
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let raw = request.uri().path();
    let marker = "/proxy";
    let from = raw.find(&format!("/{}{marker}", call.info.name)).map(|at| at + 1 + call.info.name.len() + marker.len());
    let tail = from.map_or("", |from| &raw[from..]);
    if tail.is_empty() { None } else { Some(format!("{tail}{query}")) }
}

/// Serves the proxy subresource of a pod.
pub fn pod(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let named = parse(&call.info.name)?;
        call.server.hub.fresh().await?;
        let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, named.name)).ok_or_else(|| call.not_found())?;
        let pod = call.tree(&entry)?;
        let host = pod.pointer("/status/podIP").and_then(Value::as_str).filter(|ip| !ip.is_empty());
        let host = host.ok_or_else(|| Status::bad_request("address not allowed"))?.to_owned();
        let first = || pod.pointer("/spec/containers/0/ports/0/containerPort").and_then(Value::as_u64);
        let port =
            if named.port.is_empty() { first().map_or(Ok(80), port)? } else { named.port.parse().map_err(|_| bad_port(named.port))? };
        send(&call, request, host, port, named.https).await
    })
}

/// Serves the proxy subresource of a Service: one of its ready endpoints.
pub fn service(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let named = parse(&call.info.name)?;
        call.server.hub.fresh().await?;
        let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, named.name)).ok_or_else(|| call.not_found())?;
        let service = call.tree(&entry)?;
        let (host, port) = endpoint(&call, &service, named.port)?;
        send(&call, request, host, port, named.https).await
    })
}

/// Serves the proxy subresource of a node: its kubelet.
pub fn node(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let named = parse(&call.info.name)?;
        let Some(path) = path_at_target(&call, &request) else { return Ok(with_slash(&request)) };
        let mut target = kubelet(&call.server, named.name, path)?;
        if !named.port.is_empty() {
            target.port = named.port.parse().map_err(|_| bad_port(named.port))?;
        }
        forward(request, target, call.server.shutdown.clone()).await
    })
}

async fn send(call: &Call, request: Request, host: String, port: u16, https: bool) -> Result<Response, Status> {
    let Some(path) = path_at_target(call, &request) else { return Ok(with_slash(&request)) };
    // As upstream: what a pod serves by TLS is not verified by anybody's authority but the cluster's.
    let tls = if https { Some(super::kubelet::tls(&call.server)?) } else { None };
    forward(request, Target { host, port, tls, path }, call.server.shutdown.clone()).await
}

fn with_slash(request: &Request) -> Response {
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let mut response = with_type(301, "text/plain", "");
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", request.uri().path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn bad_port(text: &str) -> Status {
    Status::bad_request(format!("invalid port {text:?}"))
}

fn port(number: u64) -> Result<u16, Status> {
    u16::try_from(number).map_err(|_| bad_port(&number.to_string()))
}

/// A ready endpoint of a Service's port, which is given by name or number, or is the only one.
fn endpoint(call: &Call, service: &Value, wanted: &str) -> Result<(String, u16), Status> {
    let unavailable = || Status::unavailable(format!("no endpoints available for service {:?}", call.info.name));
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = match (wanted, ports) {
        ("", [only]) => Some(only),
        ("", _) => ports.iter().find(|p| p["name"].as_str().unwrap_or("").is_empty()),
        _ => ports.iter().find(|p| p["name"] == wanted || p["port"].as_u64() == wanted.parse().ok()),
    };
    let name =
        found.ok_or_else(|| Status::unavailable(format!("no service port {wanted:?} found for service {:?}", service.name())))?["name"]
            .as_str()
            .unwrap_or("");
    let slices = call.server.hub.cache("/registry/discovery.k8s.io/endpointslices/");
    let prefix = format!("{}/", call.info.namespace);
    let mut ready: Vec<(String, u16)> = vec![];
    for entry in slices.snapshot(&prefix, 0).0.iter().filter(|e| e.label("kubernetes.io/service-name") == Some(service.name())) {
        let slice = entry.tree().map_err(Status::internal)?;
        let number = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| p["name"].as_str().unwrap_or("") == name)
            .and_then(|p| p["port"].as_u64());
        let Some(number) = number else { continue };
        for endpoint in
            slice["endpoints"].as_array().into_iter().flatten().filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)))
        {
            if let Some(address) = endpoint.pointer("/addresses/0").and_then(Value::as_str) {
                ready.push((address.to_owned(), port(number)?));
            }
        }
    }
    if ready.is_empty() {
        return Err(unavailable());
    }
    let index = usize::try_from(rand::random::<u64>() % ready.len() as u64).unwrap_or(0);
    Ok(ready.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_scheme_and_port() {
        let named = |t| parse(t).map(|n| (n.https, n.name.to_owned(), n.port.to_owned())).map_err(|e| e.code);
        let is = |https: bool, name: &str, port: &str| Ok((https, name.to_owned(), port.to_owned()));
        assert_eq!(named("a"), is(false, "a", ""));
        assert_eq!(named("a:80"), is(false, "a", "80"));
        assert_eq!(named("https:a:http"), is(true, "a", "http"));
        assert_eq!(named("https:a"), is(true, "a", ""));
        assert_eq!(named("a:b:c:d"), Err(400));
    }
}
