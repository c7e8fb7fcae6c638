//! Passing a request on to an aggregated server: as the front proxy, with the user in headers (`X-Remote-*`).

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::registry::Remote;
use crate::auth::{Attributes, User};
use crate::connect::backend::Target;
use crate::connect::headers;
use crate::connect::tunnel::{self, Asking, Permit};
use crate::http::respond::with_type;
use crate::outbound::dial;
use crate::server::Server;

/// An answer begins within this time, a watch's too; it may last longer.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// Passes a request on, and the answer back. `attributes` is what the user asks for, looked at again while an upgraded connection lasts.
///
/// # Errors
/// A request that cannot be written down again.
pub async fn pass(
    server: &Arc<Server>,
    mut request: Request,
    remote: &Remote,
    user: &User,
    attributes: Attributes,
) -> Result<Response, Status> {
    let client = match &remote.client {
        Ok(client) if remote.available => client,
        _ => return Ok(unavailable("service unavailable")),
    };
    identify(request.headers_mut(), user);
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    if headers::is_upgrade(request.headers()) {
        let found = dial::candidates(&server.hub, &client.place).ok().and_then(|all| all.into_iter().next());
        let Some((host, port)) = found else { return Ok(unavailable("service unavailable")) };
        let tls = server.outbound.tls(client).map_err(Status::internal)?;
        let target = Target { host, port, tls: Some(Arc::new(tls)), name: Some(client.server_name()), path };
        return tunnel::pass(request, &target, Asking::Service, || Permit::take(server, user, attributes)).await;
    }
    headers::onward(request.headers_mut());
    // The connection is HTTP/1.1, whatever the client speaks.
    request.headers_mut().remove(header::HOST);
    *request.version_mut() = http::Version::HTTP_11;
    *request.uri_mut() = format!("https://{}{path}", client.authority()).parse::<Uri>().map_err(|e| Status::bad_request(e.to_string()))?;
    match tokio::time::timeout(BEGINS_WITHIN, server.outbound.send(client, request)).await {
        Err(_) => Err(Status::timeout("request did not complete within the allotted timeout")),
        Ok(Ok(mut response)) => {
            headers::back(&mut response);
            Ok(response.map(Body::new))
        }
        Ok(Err(why)) => Ok(unavailable(&format!("error trying to reach service: {why}"))),
    }
}

/// 503 as upstream sends it: text, which clients turn into words of their own.
fn unavailable(why: &str) -> Response {
    let mut response = with_type(503, "text/plain; charset=utf-8", format!("{why}\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Says in headers for whom we ask, and takes out what the client said of that and what is for us alone.
fn identify(headers: &mut HeaderMap, user: &User) {
    let ours = |name: &str| name.starts_with("x-remote-") || name.starts_with("impersonate-");
    let said: Vec<HeaderName> = headers.keys().filter(|n| ours(n.as_str())).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
    let mut add = |name: &str, value: &str| {
        // What no header can carry is left out: the other server then knows less of the user, never another one.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escape(key));
        for value in values {
            add(&name, value);
        }
    }
}

/// A key as part of a header's name: what no name may have is percent-encoded.
fn escape(key: &str) -> String {
    let mut out = String::new();
    for byte in key.to_lowercase().bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if plain { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02x}")) }
    }
    out
}

/// A request of our own to an aggregated server, as upstream's aggregator makes it.
///
/// # Errors
/// A path that is none.
pub fn own(remote: &Remote, path: &str) -> Result<http::Request<Body>, String> {
    let authority = remote.client.as_ref().map_err(Clone::clone)?.authority();
    let user = User { name: "system:kube-aggregator".to_owned(), groups: vec!["system:masters".to_owned()], ..User::default() };
    let mut request = http::Request::get(format!("https://{authority}{path}")).body(Body::empty()).map_err(|e| e.to_string())?;
    identify(request.headers_mut(), &user);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_named_and_nobody_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-remote-group", "system:masters"), ("impersonate-user", "x"), ("authorization", "Bearer t"), ("accept", "a")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut user = User { name: "me".to_owned(), groups: vec!["a".to_owned(), "b".to_owned()], ..User::default() };
        user.extra.insert("Scopes/x".to_owned(), vec!["s".to_owned()]);
        identify(&mut headers, &user);
        let mut shown: Vec<String> = headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        shown.sort();
        assert_eq!(shown, ["accept=a", "x-remote-extra-scopes%2fx=s", "x-remote-group=a", "x-remote-group=b", "x-remote-user=me"]);
    }
}
