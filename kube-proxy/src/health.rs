//! What load balancers ask: is this node's proxy well (`/healthz`), is it alive (`/livez`), and has this node endpoints of
//! a Service (health check node ports).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use daemon::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::ObjectKey;

/// How the proxy is. Everybody holds the same one.
#[derive(Debug, Clone)]
pub struct ProxyHealth {
    state: Arc<Mutex<HealthState>>,
    clock: Clock,
    /// A change that waits longer than this to be in the rules means that something is wrong.
    timeout: SignedDuration,
}

#[derive(Debug, Default)]
struct HealthState {
    /// When the oldest change was seen that is not in the rules.
    waiting_since: Option<Timestamp>,
    updated: Option<Timestamp>,
    leaving: bool,
}

impl ProxyHealth {
    /// Not well yet: nothing was synced.
    #[must_use]
    pub fn new(clock: Clock, timeout: SignedDuration) -> Self {
        Self { state: Arc::default(), clock, timeout }
    }

    /// A change was seen.
    pub fn queued(&self) {
        self.state.lock().waiting_since.get_or_insert(self.clock.now());
    }

    /// All changes seen are in the rules.
    pub fn updated(&self) {
        let mut state = self.state.lock();
        state.waiting_since = None;
        state.updated = Some(self.clock.now());
    }

    /// Whether the node is being taken away, so that load balancers should not choose it.
    pub fn set_leaving(&self, leaving: bool) {
        self.state.lock().leaving = leaving;
    }

    /// Whether the rules are what they should be.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let state = self.state.lock();
        let overdue = state.waiting_since.is_some_and(|since| self.clock.now().duration_since(since) > self.timeout);
        state.updated.is_some() && !overdue
    }

    /// The routes `/healthz` and `/livez`.
    pub fn router(&self) -> Router {
        async fn healthz(State(health): State<ProxyHealth>) -> Response {
            let eligible = !health.state.lock().leaving;
            health.answer(health.is_healthy() && eligible, Some(eligible))
        }
        async fn livez(State(health): State<ProxyHealth>) -> Response {
            health.answer(health.is_healthy(), None)
        }
        Router::new().route("/healthz", get(healthz)).route("/livez", get(livez)).with_state(self.clone())
    }

    fn answer(&self, well: bool, eligible: Option<bool>) -> Response {
        let now = self.clock.now();
        let updated = self.state.lock().updated.unwrap_or(now);
        let mut body = serde_json::json!({ "lastUpdated": updated.to_string(), "currentTime": now.to_string() });
        if let Some(eligible) = eligible {
            body["nodeEligible"] = eligible.into();
        }
        json(well, &body)
    }
}

fn json(well: bool, body: &serde_json::Value) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, body.to_string()).into_response()
}

/// The health check node ports of Services with `externalTrafficPolicy: Local`.
#[derive(Debug)]
pub struct HealthPorts {
    open: BTreeMap<u16, HealthPort>,
    proxy: ProxyHealth,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct HealthPort {
    answer: Arc<Mutex<(ObjectKey, usize)>>,
    stop: CancellationToken,
}

impl HealthPorts {
    /// None open.
    #[must_use]
    pub fn new(proxy: ProxyHealth, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { open: BTreeMap::new(), proxy, tasks, stop }
    }

    /// Opens, closes and updates ports so that these are answered: port, Service, number of endpoints on this node.
    pub async fn sync(&mut self, wanted: &BTreeMap<u16, (ObjectKey, usize)>) {
        self.open.retain(|port, open| {
            let stays = wanted.contains_key(port);
            if !stays {
                open.stop.cancel();
            }
            stays
        });
        for (port, answer) in wanted {
            if let Some(open) = self.open.get(port) {
                *open.answer.lock() = answer.clone();
                continue;
            }
            let addr = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), *port);
            match TcpListener::bind(addr).await {
                Ok(listener) => {
                    let open = HealthPort { answer: Arc::new(Mutex::new(answer.clone())), stop: self.stop.child_token() };
                    let app = Router::new().fallback(get(local_endpoints)).with_state((open.answer.clone(), self.proxy.clone()));
                    self.tasks.spawn(daemon::http::serve(listener, None, app, open.stop.clone()));
                    self.open.insert(*port, open);
                }
                Err(error) => {
                    let ObjectKey { namespace, name } = &answer.0;
                    tracing::warn!(namespace, name, port, %error, "cannot listen on the health check node port; tried again at the next sync");
                }
            }
        }
    }
}

type PortState = (Arc<Mutex<(ObjectKey, usize)>>, ProxyHealth);

async fn local_endpoints(State((answer, proxy)): State<PortState>) -> Response {
    let (service, count) = answer.lock().clone();
    let healthy = proxy.is_healthy();
    let body = serde_json::json!({
        "service": { "namespace": service.namespace, "name": service.name },
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    });
    let mut response = json(healthy && count > 0, &body);
    response.headers_mut().insert("X-Load-Balancing-Endpoint-Weight", count.into());
    response
}
