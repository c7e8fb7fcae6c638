//! One request from head to tail: who, what, may they, which verb.

use std::sync::Arc;

use api::status::Status;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use daemon::http::Peer;
use futures::FutureExt as _;
use http::{HeaderValue, header};

use super::query::Query;
use super::request_info::{self, RequestInfo};
use super::{decode, discovery, limits, metrics, negotiate, respond};
use crate::auth::{Attributes, User};
use crate::catalog::Served;
use crate::connect;
use crate::resource::{Subresource, Verb};
use crate::server::Server;
use crate::verbs::options::{DeleteOptions, WriteOptions};
use crate::verbs::projection::Part;
use crate::verbs::update::Absent;
use crate::verbs::{self, Call, patch};

/// The longest URL that is served, in bytes.
const MAX_URL: usize = 32 << 10;

/// The service behind the listener.
pub fn router(server: Arc<Server>) -> Router {
    Router::new().fallback(entry).with_state(server)
}

/// Nothing that a request does may take the server down.
async fn entry(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = tokio::time::Instant::now();
    let info = request_info::parse(method.as_str(), &path, &Query::parse(request.uri().query().unwrap_or("")));
    let apply = request.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/apply-patch"));
    let served = info.is_resource
        && server
            .catalog
            .load()
            .find(&info.group, &info.version, &info.resource)
            .is_some_and(|r| info.subresource.is_empty() || r.subresource(&info.subresource).is_some());
    let entered = server.requests.enter(&info);
    let handled = std::panic::AssertUnwindSafe(handle(server.clone(), request)).catch_unwind().await;
    let mut response = match handled {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => respond::error(&status),
        Err(_) => {
            tracing::error!(%method, path, "a request made the server panic");
            respond::error(&Status::internal("the server hit a bug while handling the request"))
        }
    };
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert("audit-id", id);
    }
    drop(entered);
    server.requests.answered(metrics::asked(&info, served, apply), response.status().as_u16(), started.elapsed().as_secs_f64());
    tracing::debug!(%method, path, code = response.status().as_u16(), micros = started.elapsed().as_micros(), "request");
    response
}

async fn handle(server: Arc<Server>, request: Request) -> Result<Response, Status> {
    if request.uri().path_and_query().is_some_and(|p| p.as_str().len() > MAX_URL) {
        return Err(Status::new(414, "", "request URI too long"));
    }
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let info = request_info::parse(request.method().as_str(), request.uri().path(), &query);
    let peer = request.extensions().get::<Peer>().cloned();
    let mut user = server.authenticator.user(request.headers(), peer.as_ref())?;
    if let Some(other) = connect::impersonate::wanted(request.headers())? {
        connect::impersonate::check(&server, &user, &other)?;
        user = other;
    }
    let level = limits::level(&user, &info);
    let _seat = server.limits.seat(level).await.inspect_err(|_| server.requests.refused(level))?;
    authorize(&server, &user, &info)?;
    if info.is_resource { resource(server.clone(), request, info, query, user).await } else { path(&server, request, &info, user).await }
}

/// 403 unless the user may.
///
/// # Errors
/// The refusal, in the words people know.
pub fn authorize(server: &Server, user: &User, info: &RequestInfo) -> Result<(), Status> {
    let attributes = Attributes::from(info);
    if server.authorizer.allows(user, &attributes) {
        return Ok(());
    }
    Err(Status::forbidden(&info.group, &info.resource, &info.name, &attributes.refusal(&user.name)))
}

/// A path that is no resource.
async fn path(server: &Arc<Server>, request: Request, info: &RequestInfo, user: User) -> Result<Response, Status> {
    if let Some(response) = connect::paths::answer(server, &request, &user) {
        return response;
    }
    if let Some(response) = discovery::discovery(&server.catalog.load(), &info.path, request.headers()) {
        return Ok(response);
    }
    let health = daemon::endpoints::health_router(server.health.clone()).merge(daemon::endpoints::metrics_router(server.metrics.clone()));
    let known = matches!(info.path.trim_matches('/').split('/').next(), Some("healthz" | "livez" | "readyz" | "metrics"));
    if known {
        return match tower::ServiceExt::oneshot(health, request).await {
            Ok(response) => Ok(response.into_response()),
            Err(never) => match never {},
        };
    }
    Err(Status::no_such_resource())
}

async fn resource(server: Arc<Server>, request: Request, info: RequestInfo, query: Query, user: User) -> Result<Response, Status> {
    let found = server.catalog.load().find(&info.group, &info.version, &info.resource).cloned();
    let row = found.ok_or_else(Status::no_such_resource)?;
    let mut info = info;
    if row.is_namespaced() {
        // Across namespaces there is looking, but neither making nor sweeping.
        match info.verb.as_str() {
            _ if !info.namespace.is_empty() => {}
            "list" | "watch" => {}
            "create" | "deletecollection" => return Err(Status::method_not_supported(&row.group, &row.plural, &info.verb)),
            _ => return Err(Status::no_such_resource()),
        }
    } else if info.namespace.is_empty() || info.namespace == info.name {
        // A namespace's own namespace is for the authorizer; its object lives in none.
        info.namespace.clear();
    } else {
        return Err(Status::no_such_resource());
    }
    let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let known = api::schema::Schema::builtin().kind_of(&row.group, &row.version, &row.kind).is_some();
    let media = negotiate::accept(accept, known);
    let (parts, body) = request.into_parts();
    let (now, headers) = (server.clock.now(), parts.headers.clone());
    let custom = match row.subresource(&info.subresource) {
        None if !info.subresource.is_empty() => return Err(Status::no_such_resource()),
        Some(Subresource::Custom { .. }) => true,
        _ => row.virtual_kind,
    };
    let media = if custom { media.unwrap_or(negotiate::Media::JSON) } else { media? };
    let call = Call { server, row, info, query, user, media, headers, now };
    if custom {
        return connect::dispatch(call, Request::from_parts(parts, body)).await;
    }
    dispatch(call, body).await
}

/// The verb for a request about a whole object or a part of it.
async fn dispatch(call: Call, body: Body) -> Result<Response, Status> {
    let row = call.row.clone();
    supported(&row, &call.info)?;
    let renderer = call.renderer()?;
    let part = row.subresource(&call.info.subresource).map_or(Part::Whole, Part::Sub);
    let reply = match call.info.verb.as_str() {
        "get" => verbs::get::get(&call).await?,
        "list" => {
            let (body, size) = verbs::list::list(&call).await?;
            return Ok(respond::list(body, call.media.format, size, respond::takes_gzip(&call.headers)));
        }
        "watch" => {
            let (format, stream) = verbs::watch::watch(&call).await?;
            let content_type = verbs::watch::content_type(format, call.media.view);
            return Ok(respond::with_type(200, content_type, Body::from_stream(stream)));
        }
        "create" => {
            let options = WriteOptions::parse(&call)?;
            let body = decode::read(&call.headers, body).await?;
            let mut warnings = vec![];
            let object = call.decode_body(&body, &options, &mut warnings)?;
            verbs::create::create(&call, object, &options, warnings).await?
        }
        "update" => {
            let options = WriteOptions::parse(&call)?;
            let body = decode::read(&call.headers, body).await?;
            if let Part::Sub(Subresource::Scale { spec, .. }) = part {
                let scale = decode::tree(&call.headers, &body)?;
                patch::scale(&call, part, &options, spec, &|_| Ok(scale.clone())).await?
            } else {
                let mut warnings = vec![];
                let mut object = call.decode_body(&body, &options, &mut warnings)?;
                // A body that does not belong to the URL is wrong whether or not the object is there.
                verbs::write::identify(&call, &mut object)?;
                let absent = if row.create_on_update && part.name().is_empty() { Absent::Create } else { Absent::NotFound };
                verbs::update::update(&call, part, absent, &options, warnings, &|_| Ok(object.clone())).await?
            }
        }
        "patch" => {
            let options = WriteOptions::parse(&call)?;
            let content_type = call.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
            let body = decode::read(&call.headers, body).await?;
            if content_type.starts_with("application/apply-patch+yaml") {
                patch::apply(&call, part, &body, &options).await?
            } else {
                let kind = patch::Kind::of(&content_type).ok_or_else(|| Status::unsupported_media_type(&patch::ACCEPTED))?;
                patch::patch(&call, part, kind, &body, &options).await?
            }
        }
        verb @ ("delete" | "deletecollection") => {
            let body = decode::read(&call.headers, body).await?;
            let tree = if body.is_empty() { None } else { Some(decode::tree(&call.headers, &body)?) };
            let options = DeleteOptions::parse(&call, tree.as_ref())?;
            if verb == "delete" {
                verbs::delete::delete(&call, &options).await?
            } else {
                verbs::delete::collection(&call, &options).await?
            }
        }
        _ => return Err(Status::method_not_supported(&row.group, &row.plural, &call.info.verb)),
    };
    respond::reply(reply, &renderer)
}

/// 405 for a verb that the row does not have.
fn supported(row: &Served, info: &RequestInfo) -> Result<(), Status> {
    let allowed = if info.subresource.is_empty() {
        Verb::ALL.iter().any(|v| v.name() == info.verb && row.verbs.contains(v))
    } else {
        matches!(info.verb.as_str(), "get" | "update" | "patch")
    };
    let named = !info.name.is_empty() || matches!(info.verb.as_str(), "create" | "list" | "watch" | "deletecollection");
    let right = allowed && named && (info.verb != "create" || info.name.is_empty());
    if right { Ok(()) } else { Err(Status::method_not_supported(&row.group, &row.plural, &info.verb)) }
}
