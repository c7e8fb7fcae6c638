//! Who makes a request: a proxy that may speak for others says so in headers, a client certificate of the cluster's authority, a
//! ServiceAccount's token or a bootstrap token; else nobody in particular.

use std::sync::Arc;

use api::status::Status;
use daemon::clock::Clock;
use daemon::http::Peer;
use http::{HeaderMap, header};

use super::certificates::Certificates;
use super::tokens::{Tokens, Verified};
use super::{User, bootstrap_tokens};
use crate::storage::Hub;

/// Finds out who asks.
#[derive(Debug)]
pub struct Authenticator {
    /// Issues and checks tokens.
    pub tokens: Tokens,
    certificates: Certificates,
    hub: Arc<Hub>,
    clock: Clock,
    bootstrap: bool,
}

impl Authenticator {
    /// An authenticator that looks up accounts and what tokens are bound to in `hub`'s caches. `bootstrap`: whether bootstrap tokens
    /// are taken.
    #[must_use]
    pub fn new(tokens: Tokens, certificates: Certificates, hub: Arc<Hub>, clock: Clock, bootstrap: bool) -> Self {
        Self { tokens, certificates, hub, clock, bootstrap }
    }

    /// Whose token it is, when it is valid for one of `audiences` (empty: this server's).
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn token(&self, token: &str, audiences: &[String]) -> Result<Verified, String> {
        let Some((id, secret)) = bootstrap_tokens::parse(token).filter(|_| self.bootstrap) else {
            return self.tokens.verify(token, audiences, &self.hub);
        };
        let audiences = self.tokens.own_audiences(audiences)?;
        Ok(Verified { user: bootstrap_tokens::verify(id, secret, self.clock.now(), &self.hub)?, audiences })
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401 for a token that is not valid.
    pub fn user(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<User, Status> {
        if let Some(user) = peer.and_then(|p| self.certificates.spoken_for(headers, p)) {
            return Ok(user);
        }
        if let Some(token) = bearer(headers) {
            return match self.token(&token, &[]) {
                Ok(verified) => Ok(verified.user),
                Err(why) => {
                    tracing::info!(why, "refused a token");
                    Err(Status::unauthorized())
                }
            };
        }
        Ok(peer.and_then(|p| self.certificates.user(p)).unwrap_or_else(User::anonymous))
    }
}

/// The token of the `Authorization` header, or of the WebSocket subprotocol that browsers use in its place.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols.split(',').find_map(|p| p.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, encoded).ok()?;
    String::from_utf8(bytes).ok()
}
