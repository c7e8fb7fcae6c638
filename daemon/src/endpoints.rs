//! `/healthz`, `/livez`, `/readyz` and `/metrics`, the same in every daemon.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::RwLock;

use crate::metrics::Metrics;

/// Says whether a part of the daemon is well; the error is what ails it.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The named checks behind the health endpoints.
#[derive(Clone, Default)]
pub struct Health(Arc<RwLock<Vec<(String, Check)>>>);

impl Health {
    /// No checks: always healthy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that every health endpoint consults.
    pub fn add(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.write().push((name.to_owned(), Box::new(check)));
    }

    /// The answer to a health request: `ok`, or the failing checks in the verbose form that Kubernetes uses.
    fn answer(&self, endpoint: &str, only: Option<&str>, verbose: bool) -> Response {
        let checks = self.0.read();
        if let Some(name) = only
            && name != "ping"
            && !checks.iter().any(|(n, _)| n == name)
        {
            return (StatusCode::NOT_FOUND, format!("404 page not found: no check {name}\n")).into_response();
        }
        let mut lines = String::from("[+]ping ok\n");
        let mut failed = false;
        for (name, check) in checks.iter().filter(|(n, _)| only.is_none_or(|o| o == n)) {
            match check() {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    failed = true;
                    tracing::debug!(check = name, error = why, "health check failed");
                    lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
                }
            }
        }
        match (failed, verbose) {
            (true, _) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n")).into_response(),
            (false, true) => format!("{lines}{endpoint} check passed\n").into_response(),
            (false, false) => "ok".into_response(),
        }
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.read().iter().map(|(name, _)| name)).finish()
    }
}

/// Routes for the health endpoints; open to everybody, as upstream's are.
pub fn health_router(health: Health) -> Router {
    async fn whole(State((health, name)): State<(Health, &'static str)>, uri: axum::http::Uri) -> Response {
        let verbose = uri.query().is_some_and(|q| q.split('&').any(|p| p.split('=').next() == Some("verbose")));
        health.answer(name, None, verbose)
    }
    async fn one(State((health, name)): State<(Health, &'static str)>, Path(check): Path<String>) -> Response {
        health.answer(name, Some(&check), false)
    }
    ["healthz", "livez", "readyz"].into_iter().fold(Router::new(), |router, name| {
        let routes = Router::new().route(&format!("/{name}"), get(whole)).route(&format!("/{name}/{{check}}"), get(one));
        router.merge(routes.with_state((health.clone(), name)))
    })
}

/// The route for `/metrics`. What it tells is for those who are allowed to ask.
pub fn metrics_router(metrics: Metrics) -> Router {
    async fn render(State(metrics): State<Metrics>) -> Response {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], metrics.render()).into_response()
    }
    Router::new().route("/metrics", get(render)).with_state(metrics)
}
