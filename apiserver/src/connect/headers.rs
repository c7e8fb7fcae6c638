//! What of a request's headers goes to the next hop, and what of an answer's comes back. Pure.
//!
//! Never passed on: what belongs to one connection (RFC 9110, 7.6.1), and what says who the client is: that is for us alone.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use crate::http::pretty::AsItIs;

/// Headers that belong to one connection.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Beginnings of headers that say who the client is: its own words, and those of a proxy in front of us.
const IDENTITY: [&str; 2] = ["impersonate-", "x-remote-"];
/// The WebSocket subprotocol that carries a browser's token.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
/// What answers may not say in our name: our own origin's rules are ours.
const CORS: [&str; 4] =
    ["access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin"];

/// Whether a list of tokens, which may be spread over several headers, has this one.
#[must_use]
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

/// The tokens of a comma-separated list.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim).filter(|t| !t.is_empty())
}

/// Whether a request asks for another protocol on its connection.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) && has_token(headers, &header::CONNECTION, "upgrade")
}

/// Where a proxied request came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client.
    pub client: Option<IpAddr>,
    /// The host that the client asked for.
    pub host: String,
    /// The path that the client asked for, as it was written.
    pub path: String,
}

/// Makes a request's headers those for the next hop.
pub fn onward(headers: &mut HeaderMap) {
    let upgrade = is_upgrade(headers).then(|| headers.get_all(header::UPGRADE).iter().cloned().collect::<Vec<_>>());
    strip(headers);
    for protocol in upgrade.iter().flatten() {
        headers.append(header::UPGRADE, protocol.clone());
    }
    if upgrade.is_some() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    // HTTP/2 clients may send cookies apart (RFC 9113, 8.2.3).
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let cookies: Vec<&str> = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).collect();
        replace(headers, &header::COOKIE, &cookies.join("; "));
    }
}

/// Takes out what says who the client is.
pub fn anonymous(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let identity = |name: &HeaderName| IDENTITY.iter().any(|prefix| name.as_str().starts_with(prefix));
    let named: Vec<HeaderName> = headers.keys().filter(|n| identity(n)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
    if tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|t| t.starts_with(TOKEN_PROTOCOL)) {
        let others: Vec<&str> = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).filter(|t| !t.starts_with(TOKEN_PROTOCOL)).collect();
        replace(headers, &header::SEC_WEBSOCKET_PROTOCOL, &others.join(", "));
    }
}

/// Says where a proxied request came from. What the client itself says of that is believed only of the hops before it.
pub fn forwarded(headers: &mut HeaderMap, from: &Origin) {
    if let Some(client) = from.client {
        let name = HeaderName::from_static("x-forwarded-for");
        let client = client.to_string();
        let hops: Vec<&str> = tokens(headers, &name).chain([client.as_str()]).collect();
        replace(headers, &name, &hops.join(", "));
    }
    for (name, value) in [("x-forwarded-host", from.host.as_str()), ("x-forwarded-proto", "https"), ("x-forwarded-uri", &from.path)] {
        replace(headers, &HeaderName::from_static(name), value);
    }
}

/// Makes another server's answer one for the client; its body stays as it is.
pub fn back<B>(response: &mut Response<B>) {
    strip(response.headers_mut());
    for name in CORS {
        response.headers_mut().remove(name);
    }
    response.extensions_mut().insert(AsItIs);
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION).filter_map(|t| HeaderName::try_from(t).ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Sets a header, or removes it where nothing is left to say or no header can say it.
fn replace(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    headers.remove(name);
    if !value.is_empty()
        && let Ok(value) = HeaderValue::from_str(value)
    {
        headers.insert(name, value);
    }
}

/// Where a redirect of the target leads, seen from the client: below `prefix`, when it stays on the target. `None` leaves it.
#[must_use]
pub fn redirect(location: &str, prefix: &str, target: &str, asked_for: &str) -> Option<String> {
    let path = match location.split_once("://") {
        Some((_, rest)) => {
            let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            if host != target && host != asked_for {
                return None;
            }
            path
        }
        None if location.starts_with("//") || !location.starts_with('/') => return None,
        None => location,
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    (!path.starts_with(&format!("{prefix}/"))).then(|| format!("{prefix}{slash}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> HeaderMap {
        let pairs = text.lines().map(|l| l.trim().split_once(": ").unwrap());
        pairs.map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap())).collect()
    }

    fn text(headers: &HeaderMap) -> String {
        let mut lines: Vec<String> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n")
    }

    #[track_caller]
    fn check(given: &str, expected: &str) {
        let mut headers = map(given);
        onward(&mut headers);
        anonymous(&mut headers);
        assert_eq!(text(&headers), expected);
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        check(
            "accept: */*\nconnection: close, X-Mine\nx-mine: 1\nkeep-alive: 5\nproxy-connection: x\nte: trailers\nupgrade: h2c\ntrailer: x",
            "accept: */*",
        );
    }

    #[test]
    fn an_upgrade_is_asked_for_again() {
        check(
            "connection: keep-alive, upgrade\nupgrade: SPDY/3.1\nx-stream-protocol-version: v4\nx-stream-protocol-version: v3",
            "connection: Upgrade\nupgrade: SPDY/3.1\nx-stream-protocol-version: v3\nx-stream-protocol-version: v4",
        );
    }

    #[test]
    fn who_the_client_is_stays_with_us() {
        check(
            "authorization: Bearer x\nproxy-authorization: x\nimpersonate-user: a\nimpersonate-extra-b: c\nx-remote-user: a\nx-remote-extra-b: c\ncookie: a=b\ncookie: c=d",
            "cookie: a=b; c=d",
        );
        check(
            "sec-websocket-protocol: base64url.bearer.authorization.k8s.io.eA, v4.channel.k8s.io\nsec-websocket-protocol: chat",
            "sec-websocket-protocol: v4.channel.k8s.io, chat",
        );
        check("sec-websocket-protocol: base64url.bearer.authorization.k8s.io.eA", "");
    }

    #[test]
    fn pods_are_told_where_a_request_came_from() {
        let mut headers = map("x-forwarded-for: 10.0.0.1\nx-forwarded-host: lie\nx-forwarded-proto: gopher");
        let from = Origin { client: Some("10.0.0.2".parse().unwrap()), host: "api:6443".into(), path: "/api/v1/x/proxy/y".into() };
        forwarded(&mut headers, &from);
        assert_eq!(
            text(&headers),
            "x-forwarded-for: 10.0.0.1, 10.0.0.2\nx-forwarded-host: api:6443\nx-forwarded-proto: https\nx-forwarded-uri: /api/v1/x/proxy/y"
        );
    }

    #[test]
    fn an_answer_says_nothing_in_our_name() {
        let mut response = Response::new(());
        *response.headers_mut() =
            map("content-type: text/html\nconnection: keep-alive\ntransfer-encoding: chunked\naccess-control-allow-origin: *");
        back(&mut response);
        assert_eq!(text(response.headers()), "content-type: text/html");
        assert!(response.extensions().get::<AsItIs>().is_some());
    }

    #[test]
    fn redirects_stay_below_the_proxy() {
        let to = |location: &str| redirect(location, "/p/proxy", "10.0.0.1:80", "api:6443").unwrap_or_else(|| "as it is".into());
        assert_eq!(to("/a/b/?c"), "/p/proxy/a/b/?c");
        assert_eq!(to("http://10.0.0.1:80/a"), "/p/proxy/a");
        assert_eq!(to("https://api:6443/a"), "/p/proxy/a");
        assert_eq!(to("http://10.0.0.1:80"), "/p/proxy/");
        assert_eq!(to("http://10.0.0.1:80?a"), "/p/proxy/?a");
        assert_eq!(to("https://api:6443/p/proxy/a"), "as it is");
        assert_eq!(to("/p/proxy/a"), "as it is");
        for elsewhere in ["a/b", "../a", "http://example.com/a", "//example.com/a", "?x=y", ""] {
            assert_eq!(to(elsewhere), "as it is", "{elsewhere}");
        }
    }
}
