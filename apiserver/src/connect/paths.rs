//! Paths that are no resources: version, OpenAPI, OpenID discovery, the list of paths.

use std::sync::Arc;

use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::json;

use crate::auth::User;
use crate::http::query::Query;
use crate::http::respond::{self, with_type};
use crate::openapi::Document;
use crate::server::Server;

/// The type of OpenAPI 2 as protobuf: the name that clients ask for has an `@`, which no media type may have.
const V2_PROTOBUF_SENT: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The answer to such a path; `None` for another one.
pub fn answer(server: &Arc<Server>, request: &Request, _user: &User) -> Option<Result<Response, Status>> {
    let path = request.uri().path().trim_end_matches('/');
    let json = |body: serde_json::Value| Some(Ok(with_type(200, "application/json", body.to_string())));
    let openapi = server.openapi.load();
    match path {
        "" => json(paths(server)),
        "/version" => json(version()),
        "/openapi/v2" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
            let protobuf = accept.contains("application/com.github.proto-openapi.spec.v2@v1.0+protobuf");
            Some(Ok(document(request, &openapi.v2(protobuf), if protobuf { V2_PROTOBUF_SENT } else { "application/json" })))
        }
        "/openapi/v3" => Some(Ok(with_type(200, "application/json", openapi.index()))),
        "/.well-known/openid-configuration" => {
            let issuer = server.authenticator.tokens.issuer();
            json(json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256", "RS256"],
            }))
        }
        "/openid/v1/jwks" => Some(Ok(with_type(200, "application/jwk-set+json", server.authenticator.tokens.jwks().to_string()))),
        _ => {
            let group_version = path.strip_prefix("/openapi/v3/")?;
            let Some(found) = openapi.group_version(group_version) else { return Some(Err(Status::no_such_resource())) };
            let mut response = document(request, &found, "application/json");
            let given = Query::parse(request.uri().query().unwrap_or(""));
            if given.get("hash").is_some_and(|h| Some(h) == openapi.hash(group_version)) {
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
            }
            Some(Ok(response))
        }
    }
}

fn document(request: &Request, document: &Document, content_type: &'static str) -> Response {
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    if known == Some(document.etag.as_str()) {
        return with_type(304, content_type, "");
    }
    let gzip = respond::takes_gzip(request.headers());
    let mut response =
        if gzip { with_type(200, content_type, document.gzip.clone()) } else { with_type(200, content_type, document.plain()) };
    let headers = response.headers_mut();
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// `/version`: the Kubernetes whose API this is, and the Ferrite that serves it.
fn version() -> serde_json::Value {
    let version = daemon::KUBERNETES_VERSION;
    let mut numbers = version.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next(), "minor": numbers.next(), "emulationMajor": "1", "emulationMinor": "35", "minCompatibilityMajor": "1", "minCompatibilityMinor": "34",
        "gitVersion": format!("{version}+ferrite{}", env!("CARGO_PKG_VERSION")), "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

fn paths(server: &Server) -> serde_json::Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for row in server.catalog.load().rows().iter().filter(|r| !r.group.is_empty()) {
        paths.push(format!("/apis/{}", row.group));
        paths.push(format!("/apis/{}/{}", row.group, row.version));
    }
    paths.sort();
    paths.dedup();
    json!({ "paths": paths })
}
