//! Paths that are no resources: version, OpenAPI, OpenID discovery, the list of paths.

use std::sync::Arc;

use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::json;

use crate::auth::User;
use crate::http::pretty::AsItIs;
use crate::http::query::Query;
use crate::http::respond::{self, with_type};
use crate::openapi::{Addition, Document, OpenApi};
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
            let others = server.aggregation.others(&server.hub);
            let additions: Vec<&Addition> = others.iter().filter_map(|o| o.known.swagger.as_deref()).collect();
            Some(Ok(document(
                request,
                &openapi.v2_merged(protobuf, &additions),
                if protobuf { V2_PROTOBUF_SENT } else { "application/json" },
            )))
        }
        "/openapi/v3" => Some(index(server, &openapi)),
        "/.well-known/openid-configuration" => {
            let issuer = server.authenticator.tokens.issuer();
            let configuration = json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256", "RS256"],
            });
            let mut response = with_type(200, "application/json", configuration.to_string());
            response.extensions_mut().insert(AsItIs);
            Some(Ok(response))
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

/// The index of OpenAPI documents: our own and those of aggregated servers.
fn index(server: &Server, openapi: &OpenApi) -> Result<Response, Status> {
    let others = server.aggregation.others(&server.hub);
    let mut documented = others.iter().filter(|o| !o.known.openapi.is_empty()).peekable();
    if documented.peek().is_none() {
        return Ok(with_type(200, "application/json", openapi.index()));
    }
    let mut index: serde_json::Value = serde_json::from_slice(&openapi.index()).map_err(Status::internal)?;
    for other in documented {
        index["paths"][format!("apis/{}/{}", other.group, other.version)] = json!({"serverRelativeURL": other.known.openapi});
    }
    Ok(with_type(200, "application/json", index.to_string()))
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

/// The commit that was built, for whoever builds with this variable set.
const COMMIT: &str = match option_env!("FERRITE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// `/version`: the Kubernetes whose API this is, and the Ferrite that serves it.
fn version() -> serde_json::Value {
    let version = daemon::KUBERNETES_VERSION;
    let mut numbers = version.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next(), "minor": numbers.next(), "emulationMajor": "1", "emulationMinor": "35", "minCompatibilityMajor": "1", "minCompatibilityMinor": "34",
        "gitVersion": format!("{version}+ferrite{}", env!("CARGO_PKG_VERSION")), "gitCommit": COMMIT, "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
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
    for other in server.aggregation.others(&server.hub) {
        paths.push(format!("/apis/{}", other.group));
        paths.push(format!("/apis/{}/{}", other.group, other.version));
    }
    paths.sort();
    paths.dedup();
    json!({ "paths": paths })
}
