//! Passing a request on to another server, upgrades included: bytes in, bytes out, untouched.
//!
//! After a 101 both connections are joined until either side goes, the server stops, or the user loses the right to it. Header case,
//! duplicate headers and half-closed streams are kept, because the protocols above (SPDY, WebSocket) are none of our business here.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use super::backend::Target;
use super::backend::{self, Unreachable};
use super::headers;
use crate::auth::{Attributes, User};
use crate::server::Server;
use crate::verbs::Call;

/// Upgraded connections at once. Each holds two sockets and some 128 KiB; upstream has no bound but its memory.
const MOST: usize = 4_096;
/// How often it is looked whether a user still may what an open tunnel does.
const REAUTHORISE: Duration = Duration::from_secs(10);

/// The places for tunnels.
#[derive(Debug, Clone)]
pub struct Tunnels(Arc<Semaphore>);

impl Default for Tunnels {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// What lets a tunnel be. Upgraded connections outlive their request by hours, so the right to them is looked at again and again.
#[derive(Debug)]
pub struct Permit {
    server: Arc<Server>,
    user: User,
    attributes: Attributes,
    _place: OwnedSemaphorePermit,
}

impl Permit {
    /// A permit for what a user asks for.
    ///
    /// # Errors
    /// 429 when there are too many tunnels already.
    pub fn take(server: &Arc<Server>, user: &User, attributes: Attributes) -> Result<Self, Status> {
        let place = server.tunnels.0.clone().try_acquire_owned();
        let place = place.map_err(|_| Status::too_many_requests("too many connections to pods and nodes, please try again later", 1))?;
        Ok(Self { server: server.clone(), user: user.clone(), attributes, _place: place })
    }

    /// A permit to create what a call is about.
    ///
    /// # Errors
    /// 429 when there are too many tunnels already.
    pub fn to_create(call: &Call) -> Result<Self, Status> {
        Self::take(&call.server, &call.user, Attributes { verb: "create".to_owned(), ..Attributes::from(&call.info) })
    }

    /// Returns when the tunnel has to end for our own reasons.
    pub async fn lost(&self) {
        loop {
            tokio::select! {
                () = self.server.shutdown.cancelled() => return,
                () = tokio::time::sleep(REAUTHORISE) => {}
            }
            if !self.server.authorizer.allows(&self.user, &self.attributes) {
                tracing::info!(why = self.attributes.refusal(&self.user.name), "ending a connection whose right was taken away");
                return;
            }
        }
    }
}

/// What a request that cannot be passed on is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// A service or pod: 503.
    Service,
    /// A kubelet, for an upgraded connection.
    Dialing,
    /// A kubelet, for its answer.
    Get,
}

impl Asking {
    /// The refusal, in upstream's words.
    #[must_use]
    pub fn failed(self, target: &Target, error: &Unreachable) -> Status {
        match self {
            Self::Service => Status::unavailable(format!("error trying to reach service: {error}")),
            Self::Dialing => Status::new(500, "", format!("error dialing backend: {error}")),
            Self::Get => Status::new(500, "", format!("Get {:?}: {error}", target.url())),
        }
    }
}

/// Passes a call's request to `target`, without what says who the client is, and its answer back.
///
/// # Errors
/// A target that cannot be reached.
pub async fn forward(call: &Call, mut request: Request, target: &Target, asking: Asking) -> Result<Response, Status> {
    headers::anonymous(request.headers_mut());
    pass(request, target, asking, || Permit::take(&call.server, &call.user, Attributes::from(&call.info))).await
}

/// Passes `request` to `target` and its answer back. The request's headers get ready for the next hop, the answer's for the client; what
/// the request says of its user is its caller's to see to. An upgraded connection needs a permit.
///
/// # Errors
/// A target that cannot be reached.
pub async fn pass(
    mut request: Request,
    target: &Target,
    asking: Asking,
    permit: impl FnOnce() -> Result<Permit, Status>,
) -> Result<Response, Status> {
    let upgrade = if headers::is_upgrade(request.headers()) { Some((hyper::upgrade::on(&mut request), permit()?)) } else { None };
    let host = host(&request);
    headers::onward(request.headers_mut());
    let host = host.unwrap_or_else(|| target.authority());
    request.headers_mut().insert(header::HOST, host.parse().map_err(|_| Status::bad_request(format!("invalid host {host:?}")))?);
    let mut response = backend::send(target, request).await.map_err(|e| asking.failed(target, &e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some((client, permit)) = upgrade else {
            return Err(Status::internal("the server upgraded a request that asked for no upgrade"));
        };
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (client, server) = match tokio::try_join!(client, server) {
                Ok(both) => both,
                Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
            };
            tokio::select! {
                () = daemon::join::join(TokioIo::new(client), TokioIo::new(server)) => {}
                () = permit.lost() => {}
            }
        });
        return Ok(response.map(|_| Body::empty()));
    }
    headers::back(&mut response);
    Ok(response.map(Body::new))
}

/// The host that the client asked for: HTTP/2 says it in the URL.
#[must_use]
pub fn host(request: &Request) -> Option<String> {
    let header = request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).map(str::to_owned);
    header.or_else(|| request.uri().authority().map(ToString::to_string)).filter(|h| !h.is_empty())
}
