//! Who makes a request: a client certificate of the cluster's authority, or a ServiceAccount's token; else nobody in particular.

use std::sync::Arc;

use api::status::Status;
use daemon::http::Peer;
use http::{HeaderMap, header};

use super::User;
use super::tokens::Tokens;
use crate::storage::Hub;

/// Finds out who asks.
#[derive(Debug)]
pub struct Authenticator {
    /// Issues and checks tokens.
    pub tokens: Tokens,
    hub: Arc<Hub>,
}

impl Authenticator {
    /// An authenticator that looks up accounts and what tokens are bound to in `hub`'s caches.
    #[must_use]
    pub fn new(tokens: Tokens, hub: Arc<Hub>) -> Self {
        Self { tokens, hub }
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401 for a token that is not valid.
    pub fn user(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<User, Status> {
        if let Some(token) = bearer(headers) {
            return match self.tokens.verify(&token, &[], &self.hub) {
                Ok(verified) => Ok(verified.user),
                Err(why) => {
                    tracing::info!(why, "refused a token");
                    Err(Status::unauthorized())
                }
            };
        }
        let certificate = peer.and_then(|p| p.certificates.first());
        Ok(certificate.and_then(|c| User::from_certificate(c)).unwrap_or_else(User::anonymous))
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
