//! Authentication and authorisation of requests to a daemon, delegated to the apiserver.
//!
//! A client certificate of the cluster's authority, or a bearer token that a TokenReview accepts, says who asks; a
//! SubjectAccessReview says whether they may. Answers are kept as long as upstream keeps them.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::Instant;
use x509_parser::prelude::FromDer as _;

use crate::http::Peer;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's uid, when known.
    pub uid: String,
    /// The groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further facts that an authorizer may look at.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user a certificate names: subject CN and every O (Kubernetes' x509 authentication).
    #[must_use]
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        let name = cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let mut groups: Vec<String> = cert.subject().iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
        groups.push("system:authenticated".to_owned());
        (!name.is_empty()).then(|| Self { name, groups, ..Self::default() })
    }

    /// The user of a request that says nothing about who makes it.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()], ..Self::default() }
    }
}

/// What a request wants to do, in the terms of a SubjectAccessReview.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A verb on a path such as `/metrics`.
    Path {
        /// Lower-case HTTP method.
        verb: String,
        /// The path.
        path: String,
    },
    /// A verb on a resource, such as `get nodes/metrics`.
    Resource {
        /// Kubernetes verb.
        verb: String,
        /// Plural.
        resource: String,
        /// Subresource or empty.
        subresource: String,
        /// The object's name.
        name: String,
    },
}

const TOKEN_TTL: Duration = Duration::from_secs(120);
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const DENIED_TTL: Duration = Duration::from_secs(30);
/// Entries kept in each cache; the oldest make room.
const CACHE_ENTRIES: usize = 1_024;

/// Asks the apiserver who is asking, and whether they may.
#[derive(Clone)]
pub struct Delegated {
    client: Client,
    tokens: Arc<Mutex<Expiring<String, Option<User>>>>,
    decisions: Arc<Mutex<Expiring<(User, Action), bool>>>,
}

impl Delegated {
    /// Reviews are made with `client`, whose user needs the role `system:auth-delegator`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, tokens: Arc::default(), decisions: Arc::default() }
    }

    /// The user, when the request may do `action`.
    ///
    /// # Errors
    /// 401 for a token nobody vouches for, 403 for what is not allowed, 500 when the apiserver could not be asked; with the text for the body.
    pub async fn check(&self, headers: &HeaderMap, peer: Option<&Peer>, action: Action) -> Result<User, (StatusCode, String)> {
        let user = self.authenticate(headers, peer).await?;
        if user.groups.iter().any(|g| g == "system:masters") || self.authorize(&user, &action).await? {
            return Ok(user);
        }
        let what = match &action {
            Action::Path { verb, path } => format!("verb={verb}, path={path}"),
            Action::Resource { verb, resource, subresource, name } => {
                format!("verb={verb}, resource={resource}, subresource={subresource}, name={name}")
            }
        };
        Err((StatusCode::FORBIDDEN, format!("Forbidden (user={}, {what})", user.name)))
    }

    async fn authenticate(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<User, (StatusCode, String)> {
        if let Some(user) = peer.and_then(|p| p.user.as_deref()) {
            return Ok(user.clone());
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(User::anonymous()) };
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(unauthorized)?.trim().to_owned();
        if let Some(known) = self.tokens.lock().get(&token) {
            return known.ok_or_else(unauthorized);
        }
        let review = TokenReview { spec: TokenReviewSpec { token: Some(token.clone()), audiences: None }, ..TokenReview::default() };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await.map_err(|e| failed("TokenReview", &e))?;
        let status = answer.status.unwrap_or_default();
        let user = (status.authenticated == Some(true)).then(|| {
            let user = status.user.unwrap_or_default();
            User {
                name: user.username.unwrap_or_default(),
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            }
        });
        self.tokens.lock().put(token, user.clone(), TOKEN_TTL);
        user.ok_or_else(unauthorized)
    }

    async fn authorize(&self, user: &User, action: &Action) -> Result<bool, (StatusCode, String)> {
        let key = (user.clone(), action.clone());
        if let Some(known) = self.decisions.lock().get(&key) {
            return Ok(known);
        }
        let mut spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            ..SubjectAccessReviewSpec::default()
        };
        match action.clone() {
            Action::Path { verb, path } => {
                spec.non_resource_attributes = Some(NonResourceAttributes { verb: Some(verb), path: Some(path) })
            }
            Action::Resource { verb, resource, subresource, name } => {
                spec.resource_attributes = Some(ResourceAttributes {
                    verb: Some(verb),
                    resource: Some(resource),
                    subresource: Some(subresource),
                    name: Some(name),
                    version: Some("v1".to_owned()),
                    ..ResourceAttributes::default()
                });
            }
        }
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer =
            Api::all(self.client.clone()).create(&PostParams::default(), &review).await.map_err(|e| failed("SubjectAccessReview", &e))?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        self.decisions.lock().put(key, allowed, if allowed { ALLOWED_TTL } else { DENIED_TTL });
        Ok(allowed)
    }
}

impl std::fmt::Debug for Delegated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delegated").finish_non_exhaustive()
    }
}

fn failed(what: &str, error: &kube::Error) -> (StatusCode, String) {
    tracing::error!(error = crate::describe(error), "{what} failed");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("Internal error: {what} failed"))
}

/// A bounded map whose entries end by themselves.
#[derive(Debug)]
struct Expiring<K, V>(HashMap<K, (V, Instant)>);

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Expiring<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).filter(|(_, until)| *until > Instant::now()).map(|(v, _)| v.clone())
    }

    fn put(&mut self, key: K, value: V, ttl: Duration) {
        if self.0.len() >= CACHE_ENTRIES {
            let now = Instant::now();
            self.0.retain(|_, (_, until)| *until > now);
            if self.0.len() >= CACHE_ENTRIES
                && let Some(soonest) = self.0.iter().min_by_key(|(_, (_, until))| *until).map(|(k, _)| k.clone())
            {
                self.0.remove(&soonest);
            }
        }
        self.0.insert(key, (value, Instant::now() + ttl));
    }
}
