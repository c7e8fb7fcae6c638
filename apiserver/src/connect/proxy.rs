//! `proxy` of pods, Services and nodes: `[scheme:]name[:port]/proxy/path`. Requests and answers are streamed as they are; only headers are
//! looked at, and redirects and links of pages that stay on the target are led back here.

use std::net::IpAddr;
use std::sync::Arc;

use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use daemon::http::Peer;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, header};
use serde_json::Value;

use super::admitted::{connection, warned};
use super::backend::Target;
use super::headers::{self, Origin};
use super::html;
use super::kubelet::kubelet;
use super::tunnel::{Asking, forward, host};
use crate::http::respond::with_type;
use crate::outbound::tls::unverified;
use crate::verbs::Call;

/// A proxied object's name, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(what: &str, text: &'a str) -> Result<Self, Status> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Status::bad_request(format!("invalid {what} request {text:?}")));
        }
        Ok(Self { https: scheme == "https", name, port })
    }

    /// This scheme at an address that was found. TLS to pods: nobody's authority has signed what they show, and they are asked by address. As
    /// upstream, it is taken as it is; they are shown no certificate of ours, and nothing of the client's credentials is sent to them.
    fn at(&self, host: String, port: u16, path: String) -> Target {
        Target { host, port, tls: self.https.then(|| Arc::new(unverified(None))), name: None, path }
    }
}

/// A port's number. Upstream's client says the same of a name.
fn number(port: &str) -> Result<u16, Status> {
    port.parse().map_err(|_| Status::unavailable(format!("error trying to reach service: dial tcp: lookup tcp/{port}: unknown port")))
}

/// Where a URL's path has the object and its subresource, and the path at the target, all as they were written.
fn split(path: &str, namespaced: bool) -> (&str, &str) {
    // /api/v1/namespaces/NAMESPACE/RESOURCE/NAME/proxy, or /api/v1/RESOURCE/NAME/proxy
    let slashes = if namespaced { 8 } else { 6 };
    let end = path.match_indices('/').nth(slashes - 1).map_or(path.len(), |(at, _)| at);
    path.split_at(end)
}

/// Serves the proxy subresource of a pod.
pub fn pod(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let named = Named::parse("pod", &call.info.name)?;
        call.server.hub.fresh().await?;
        let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, named.name));
        let entry = entry.ok_or_else(|| Status::not_found("", "pods", named.name))?;
        let pod = call.tree(&entry)?;
        let (host, port) = pods_address(&pod, &named)?;
        pass(&call, request, |path| named.at(host, port, path)).await
    })
}

/// Serves the proxy subresource of a Service: one of its ready endpoints.
pub fn service(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let named = Named::parse("service", &call.info.name)?;
        call.server.hub.fresh().await?;
        let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, named.name));
        let entry = entry.ok_or_else(|| Status::not_found("", "services", named.name))?;
        let service = call.tree(&entry)?;
        let caches = |prefix: &str| call.server.hub.cache(prefix);
        let slices = caches("/registry/discovery.k8s.io/endpointslices/").snapshot(&format!("{}/", call.info.namespace), 0).0;
        let slices = slices.iter().filter(|e| e.label("kubernetes.io/service-name") == Some(named.name));
        let slices = slices.map(|e| e.tree().map_err(Status::internal)).collect::<Result<Vec<_>, _>>()?;
        let pods = caches("/registry/pods/");
        let pod = |name: &str| pods.get(&format!("{}/{name}", call.info.namespace)).and_then(|e| e.tree().ok());
        let mut ready = ready(&service, &named, &slices, pod)?;
        if ready.is_empty() {
            return Err(Status::unavailable(format!("no endpoints available for service {:?}", call.info.name)));
        }
        let index = usize::try_from(rand::random::<u64>() % ready.len() as u64).unwrap_or(0);
        let (host, port) = ready.swap_remove(index);
        pass(&call, request, |path| named.at(host, port, path)).await
    })
}

/// Serves the proxy subresource of a node: its kubelet, or what else listens there.
pub fn node(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let named = Named::parse("node", &call.info.name)?;
        let kubelet = kubelet(&call.server, named.name, String::new())?;
        if named.port.is_empty() || named.port == kubelet.port.to_string() {
            return pass(&call, request, |path| Target { path, ..kubelet }).await;
        }
        // Our identity is for kubelets alone.
        let port = number(named.port)?;
        let host = proxyable(&kubelet.host)?;
        pass(&call, request, |path| named.at(host, port, path)).await
    })
}

/// Passes a request on to the target at the rest of its path.
async fn pass(call: &Call, mut request: Request, target: impl FnOnce(String) -> Target) -> Result<Response, Status> {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    if !matches!(method, Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS) {
        return Err(Status::method_not_supported(&call.row.group, &call.row.plural, method.as_str()));
    }
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let (prefix, tail) = split(&path, !call.info.namespace.is_empty());
    if tail.is_empty() && matches!(method, Method::GET | Method::HEAD) && !headers::is_upgrade(request.headers()) {
        return with_slash(&format!("{path}/{query}"));
    }
    let warnings = connection(call).await?;
    let target = target(format!("{}{query}", if tail.is_empty() { "/" } else { tail }));
    let asked_for = host(&request).unwrap_or_default();
    let client = request.extensions().get::<Peer>().map(|p| p.addr.ip().to_canonical());
    headers::forwarded(request.headers_mut(), &Origin { client, host: asked_for.clone(), path: path.clone() });
    let mut response = forward(call, request, &target, Asking::Service).await?;
    let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
    if let Some(here) = location.and_then(|l| headers::redirect(l, prefix, &target.authority(), &asked_for)) {
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&here).map_err(Status::internal)?);
    }
    if html::is_page(response.headers()) && method != Method::HEAD {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        let (prefix, target) = (prefix.to_owned(), target.authority());
        response = response.map(|page| html::body(page, move |link| headers::redirect(link, &prefix, &target, &asked_for)));
    }
    Ok(warned(response, &warnings))
}

/// Relative links work only below a slash.
fn with_slash(location: &str) -> Result<Response, Status> {
    let mut response = with_type(301, "text/plain", "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(location).map_err(Status::internal)?);
    Ok(response)
}

/// An address that may be proxied to: that of a machine or pod somewhere else, as upstream rules.
fn proxyable(host: &str) -> Result<String, Status> {
    let unicast = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast()),
    };
    match host.parse::<IpAddr>() {
        Ok(ip) if !unicast(ip.to_canonical()) => Err(Status::bad_request("address not allowed")),
        _ => Ok(host.to_owned()),
    }
}

/// A pod's address, and the port that is named, or its first.
fn pods_address(pod: &Value, named: &Named<'_>) -> Result<(String, u16), Status> {
    let host = pod.pointer("/status/podIP").and_then(Value::as_str).filter(|ip| ip.parse::<IpAddr>().is_ok());
    let host = proxyable(host.ok_or_else(|| Status::bad_request("address not allowed"))?)?;
    if !named.port.is_empty() {
        return Ok((host, number(named.port)?));
    }
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let first = containers.filter_map(|c| c.pointer("/ports/0/containerPort")?.as_u64()).next();
    let port = first.unwrap_or(if named.https { 443 } else { 80 });
    Ok((host, u16::try_from(port).map_err(|_| Status::bad_request(format!("invalid port {port}")))?))
}

/// The ready endpoints of a Service's port, which is given by name or number, or is the one without a name. Endpoints that are no pods are
/// left out: whoever may write them could otherwise have us ask any address.
fn ready(service: &Value, named: &Named<'_>, slices: &[Value], pod: impl Fn(&str) -> Option<Value>) -> Result<Vec<(String, u16)>, Status> {
    let list = |value: &Value, field: &str| value.pointer(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, field: &str| value.pointer(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let name = match named.port.parse::<u64>() {
        Err(_) => named.port.to_owned(),
        Ok(number) => {
            let port = list(service, "/spec/ports").into_iter().find(|p| p["port"].as_u64() == Some(number));
            let none = || Status::unavailable(format!("no service port {number} found for service {:?}", named.name));
            text(&port.ok_or_else(none)?, "/name")
        }
    };
    let mut found = vec![];
    for slice in slices {
        let port = list(slice, "/ports").into_iter().find(|p| text(p, "/name") == name).and_then(|p| p["port"].as_u64());
        let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in list(slice, "/endpoints").iter().filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false))) {
            let address = text(endpoint, "/addresses/0");
            let target = (text(endpoint, "/targetRef/kind") == "Pod").then(|| pod(&text(endpoint, "/targetRef/name"))).flatten();
            let is_its =
                |pod: &Value| text(pod, "/status/podIP") == address || list(pod, "/status/podIPs").iter().any(|ip| ip["ip"] == *address);
            if target.as_ref().is_some_and(is_its)
                && let Ok(host) = proxyable(&address)
            {
                found.push((host, port));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_with_scheme_and_port() {
        let named = |t| Named::parse("pod", t).map(|n| (n.https, n.name.to_owned(), n.port.to_owned())).map_err(|e| (e.code, e.message));
        let is = |https: bool, name: &str, port: &str| Ok((https, name.to_owned(), port.to_owned()));
        assert_eq!(named("a"), is(false, "a", ""));
        assert_eq!(named("a:80"), is(false, "a", "80"));
        assert_eq!(named("https:a:http"), is(true, "a", "http"));
        assert_eq!(named("https:a:"), is(true, "a", ""));
        for wrong in ["a:b:c:d", ":80", "gopher:a:70", ""] {
            assert_eq!(named(wrong), Err((400, format!("invalid pod request {wrong:?}"))));
        }
    }

    #[test]
    fn the_path_at_the_target_is_as_it_was_written() {
        assert_eq!(
            split("/api/v1/namespaces/n/pods/https%3Ap%3A1/proxy/a%2Fb/../c//", true),
            ("/api/v1/namespaces/n/pods/https%3Ap%3A1/proxy", "/a%2Fb/../c//")
        );
        assert_eq!(split("/api/v1/namespaces/proxy/services/proxy/proxy", true), ("/api/v1/namespaces/proxy/services/proxy/proxy", ""));
        assert_eq!(split("/api/v1/nodes/n/proxy/", false), ("/api/v1/nodes/n/proxy", "/"));
        assert_eq!(split("/api/v1/nodes/n/proxy", false), ("/api/v1/nodes/n/proxy", ""));
    }

    #[test]
    fn pods_are_found_at_their_address_and_first_port() {
        let pod = |ip: &str| json!({"status": {"podIP": ip}, "spec": {"containers": [{}, {"ports": [{"containerPort": 8080}, {"containerPort": 1}]}]}});
        let at = |pod: &Value, name: &str| pods_address(pod, &Named::parse("pod", name).unwrap()).map_err(|e| e.message);
        assert_eq!(at(&pod("10.0.0.1"), "p"), Ok(("10.0.0.1".into(), 8080)));
        assert_eq!(at(&pod("10.0.0.1"), "p:9"), Ok(("10.0.0.1".into(), 9)));
        let bare = json!({"status": {"podIP": "10.0.0.1"}, "spec": {"containers": [{}]}});
        assert_eq!((at(&bare, "p"), at(&bare, "https:p:")), (Ok(("10.0.0.1".into(), 80)), Ok(("10.0.0.1".into(), 443))));
        for ip in ["", "127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "224.0.0.1", "0.0.0.0", "fe80::1"] {
            assert_eq!(at(&pod(ip), "p"), Err("address not allowed".into()), "{ip}");
        }
        assert!(at(&pod("10.0.0.1"), "p:what").unwrap_err().contains("unknown port"));
    }

    #[test]
    fn services_are_their_ready_pods() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "", "port": 81}]}});
        let endpoint = |ip: &str, kind: &str, pod: &str, ready: bool| json!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": {"kind": kind, "name": pod}});
        let slices = [
            json!({"ports": [{"name": "web", "port": 8080}, {"port": 8081}], "endpoints": [
                endpoint("10.0.0.1", "Pod", "a", true), endpoint("10.0.0.2", "Pod", "b", false), endpoint("10.9.9.9", "Pod", "a", true),
                endpoint("10.0.0.1", "Node", "a", true), endpoint("10.0.0.3", "Pod", "gone", true)]}),
            json!({"ports": [{"name": "other", "port": 1}], "endpoints": [endpoint("10.0.0.1", "Pod", "a", true)]}),
        ];
        let pod = |name: &str| match name {
            "a" => Some(json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}})),
            "b" => Some(json!({"status": {"podIP": "10.0.0.2"}})),
            _ => None,
        };
        let at = |name: &str| ready(&service, &Named::parse("service", name).unwrap(), &slices, pod).map_err(|e| e.message);
        let only = |port: u16| Ok(vec![("10.0.0.1".to_owned(), port)]);
        assert_eq!((at("s:web"), at("s:80"), at("s:81"), at("s")), (only(8080), only(8080), only(8081), only(8081)));
        assert_eq!(at("s:82"), Err("no service port 82 found for service \"s\"".into()));
        assert_eq!(at("s:none"), Ok(vec![]));
    }
}
