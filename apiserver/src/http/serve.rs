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
use super::{decode, discovery, metrics, negotiate, pretty, respond};
use crate::aggregation;
use crate::auth::{Attributes, User};
use crate::catalog::Served;
use crate::connect;
use crate::flowcontrol::Seat;
use crate::resource::{Subresource, Verb};
use crate::server::Server;
use crate::verbs::options::{DeleteOptions, WriteOptions};
use crate::verbs::projection::Part;
use crate::verbs::update::Absent;
use crate::verbs::{self, Call, patch};

/// The longest URL that is served, in bytes.
const MAX_URL: usize = 32 << 10;

/// Objects of a list that are the work of one seat. Upstream counts 100; items of lists are bytes passed on here.
const OBJECTS_PER_SEAT: usize = 1_000;
/// The most seats of one request, as upstream.
const SEATS_MAX: usize = 10;

/// The service behind the listener.
pub fn router(server: Arc<Server>) -> Router {
    Router::new().fallback(entry).with_state(server)
}

/// Nothing that a request does may take the server down.
async fn entry(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = tokio::time::Instant::now();
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let info = request_info::parse(method.as_str(), &path, &query);
    let people = info.verb != "watch" && pretty::wanted(&query, request.headers());
    let apply = request.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/apply-patch"));
    let served = info.is_resource
        && server
            .catalog
            .load()
            .find(&info.group, &info.version, &info.resource)
            .is_some_and(|r| info.subresource.is_empty() || r.subresource(&info.subresource).is_some());
    let entered = server.requests.enter(&info);
    let handled = std::panic::AssertUnwindSafe(handle(server.clone(), request, query, info.clone())).catch_unwind().await;
    let mut response = match handled {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => respond::error(&status),
        Err(_) => {
            tracing::error!(%method, path, "a request made the server panic");
            respond::error(&Status::internal("the server hit a bug while handling the request"))
        }
    };
    let plain = !response.headers().contains_key(header::CONTENT_ENCODING) && response.extensions().get::<pretty::AsItIs>().is_none();
    if people && plain && response.headers().get(header::CONTENT_TYPE).is_some_and(|v| v == "application/json") {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response = response.map(pretty::indented);
    }
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert("audit-id", id);
    }
    drop(entered);
    server.requests.answered(metrics::asked(&info, served, apply), response.status().as_u16(), started.elapsed().as_secs_f64());
    tracing::debug!(%method, path, code = response.status().as_u16(), micros = started.elapsed().as_micros(), "request");
    response
}

async fn handle(server: Arc<Server>, request: Request, query: Query, info: RequestInfo) -> Result<Response, Status> {
    if request.uri().path_and_query().is_some_and(|p| p.as_str().len() > MAX_URL) {
        return Err(Status::new(414, "", "request URI too long"));
    }
    let peer = request.extensions().get::<Peer>().cloned();
    if !is_health(&info.path) {
        server.start.over().await?;
    }
    let mut user = server.authenticator.user(request.headers(), peer.as_ref())?;
    if let Some(other) = connect::impersonate::wanted(request.headers())? {
        connect::impersonate::check(&server, &user, &other)?;
        user = other;
    }
    let (classified, seat) = server.gate.enter(&user, &info, width(&server, &info, &query)).await;
    let mut response = match seat {
        Ok(seat) => with_seat(server, seat, request, info, query, user).await,
        Err(refused) => respond::error(&refused),
    };
    for (name, uid) in [("x-kubernetes-pf-flowschema-uid", &classified.schema), ("x-kubernetes-pf-prioritylevel-uid", &classified.level)] {
        if let (false, Ok(uid)) = (uid.is_empty(), HeaderValue::from_str(uid)) {
            response.headers_mut().insert(name, uid);
        }
    }
    Ok(response)
}

/// What a request is answered that has its seat. That of a list is held until the list is sent, for most of the work is in that.
async fn with_seat(server: Arc<Server>, seat: Seat, request: Request, info: RequestInfo, query: Query, user: User) -> Response {
    let lists = info.is_resource && info.verb == "list";
    let remote = server.aggregation.of_path(&server.hub, &info.path);
    let answered = match (authorize(&server, &user, &info), remote) {
        (Err(refused), _) => Err(refused),
        (Ok(()), Some(remote)) => aggregation::proxy::pass(&server, request, &remote, &user, Attributes::from(&info)).await,
        (Ok(()), None) if info.is_resource => resource(server.clone(), request, info, query, user).await,
        (Ok(()), None) => path(&server, request, &info, user).await,
    };
    let response = answered.unwrap_or_else(|status| respond::error(&status));
    match lists.then(|| seat.while_sent()).flatten() {
        Some(guard) => response.map(|body| respond::guarded(body, guard)),
        None => response,
    }
}

/// How many seats a request takes: lists of many objects more than one, in upstream's manner.
fn width(server: &Server, info: &RequestInfo, query: &Query) -> usize {
    if !info.is_resource || info.verb != "list" || !info.name.is_empty() {
        return 1;
    }
    let stored = server.catalog.load().find(&info.group, &info.version, &info.resource).map_or(0, |row| row.cache.len());
    let limit = query.number("limit").ok().flatten().and_then(|l| usize::try_from(l).ok()).filter(|l| *l > 0);
    limit.map_or(stored, |limit| limit.min(stored)).div_ceil(OBJECTS_PER_SEAT).clamp(1, SEATS_MAX)
}

/// Whether the path is one of the health checks, or the metrics.
fn is_health(path: &str) -> bool {
    matches!(path.trim_matches('/').split('/').next(), Some("healthz" | "livez" | "readyz" | "metrics"))
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
    if let Some(response) =
        discovery::discovery(&server.catalog.load(), &server.aggregation.others(&server.hub), &info.path, request.headers())
    {
        return Ok(response);
    }
    let health = daemon::endpoints::health_router(server.health.clone()).merge(daemon::endpoints::metrics_router(server.metrics.clone()));
    if is_health(&info.path) {
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
            "create" | "deletecollection" => return Err(not_allowed(&row, &info)),
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
    // What is only asked and never kept has no metadata to show.
    let asked = row.virtual_kind && row.verbs == [Verb::Create];
    let media = negotiate::accept(accept, known, !asked);
    let (parts, body) = request.into_parts();
    let (now, headers) = (server.clock.now(), parts.headers.clone());
    let custom = match row.subresource(&info.subresource) {
        None if !info.subresource.is_empty() => return Err(Status::no_such_resource()),
        Some(Subresource::Custom { .. }) => true,
        _ => row.virtual_kind,
    };
    let media = if custom && !asked { media.unwrap_or(negotiate::Media::JSON) } else { media? };
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
    shown_as(&call)?;
    let renderer = call.renderer()?;
    let part = row.subresource(&call.info.subresource).map_or(Part::Whole, Part::Sub);
    let reply = match call.info.verb.as_str() {
        "get" => verbs::get::get(&call).await?,
        "list" => {
            let (body, size) = verbs::list::list(&call).await?;
            let gzip = respond::takes_gzip(&call.headers) && !pretty::wanted(&call.query, &call.headers);
            return Ok(respond::list(body, call.media.format, size, gzip));
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
            if let Part::Sub(Subresource::Scale { .. }) = part {
                let scale = decode::tree(&call.headers, &body)?;
                patch::scale(&call, part, &options, &|_| Ok(scale.clone())).await?
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
        _ => return Err(not_allowed(&row, &call.info)),
    };
    respond::reply(reply, &renderer)
}

/// 405 for a verb that the row does not have.
fn supported(row: &Served, info: &RequestInfo) -> Result<(), Status> {
    let allowed = match row.subresource(&info.subresource) {
        Some(sub) => discovery::part(row, sub).3.contains(&info.verb.as_str()),
        None => Verb::ALL.iter().any(|v| v.name() == info.verb && row.verbs.contains(v)),
    };
    let named = !info.name.is_empty() || matches!(info.verb.as_str(), "create" | "list" | "watch" | "deletecollection");
    let right = allowed && named && (info.verb != "create" || info.name.is_empty());
    if right { Ok(()) } else { Err(not_allowed(row, info)) }
}

/// 405 in upstream's words, which differ for custom resources.
pub(crate) fn not_allowed(row: &Served, info: &RequestInfo) -> Status {
    if row.schema.is_some() { Status::method_not_supported(&row.group, &row.plural, &info.verb) } else { Status::method_not_allowed() }
}

/// 406 for the metadata of a list where there is one object, and the other way round.
fn shown_as(call: &Call) -> Result<(), Status> {
    let lists = matches!(call.info.verb.as_str(), "list" | "deletecollection");
    let Some(as_list) = call.media.as_list.filter(|as_list| *as_list != lists && call.info.verb != "watch") else { return Ok(()) };
    let (row, list) = (&call.row, if lists { "List" } else { "" });
    let go = match row.group.split('.').next().unwrap_or("") {
        _ if row.schema.is_some() => format!("*unstructured.Unstructured{list}"),
        "" => format!("*core.{}{list}", row.kind),
        group => format!("*{group}.{}{list}", row.kind),
    };
    let message = match as_list {
        true => format!("you requested PartialObjectMetadataList, but the requested object is not a list ({go})"),
        false => format!("you requested PartialObjectMetadata, but the requested object is a list ({go})"),
    };
    Err(Status::new(406, "NotAcceptable", message))
}
