//! A webhook of the test's own: it answers reviews by a function, and remembers what it was asked.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use base64::Engine as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::HttpsServer;

/// What a webhook answers to the `request` of a review at a path. `null` is answered with 404; `{"code": n}` with that code and no body,
/// `{"wait": seconds}` allows after that long.
pub type Answer = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// A webhook server.
pub struct Reviewer {
    /// The server.
    pub server: HttpsServer,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").field("server", &self.server).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct App {
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

/// The answer to a question: the review's own version and uid, and what the test says.
async fn review(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let body: Bytes = request.into_body().collect().await.expect("a body").to_bytes();
    let question: Value = serde_json::from_slice(&body).expect("a review");
    app.asked.lock().push((path.clone(), question.clone()));
    let mut response = (app.answer)(&path, &question["request"]);
    if response.is_null() {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    if let Some(code) = response.get("code").and_then(Value::as_u64) {
        return StatusCode::from_u16(u16::try_from(code).expect("a code")).expect("a code").into_response();
    }
    if let Some(seconds) = response.get("wait").and_then(Value::as_u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        response = json!({"allowed": true});
    }
    if response.get("uid").is_none() {
        response["uid"] = question["request"]["uid"].clone();
    }
    Json(json!({"apiVersion": question["apiVersion"], "kind": question["kind"], "response": response})).into_response()
}

/// An answer that changes the object by a JSON patch.
#[must_use]
pub fn patched(patch: &Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

impl Reviewer {
    /// Starts one on loopback; `names` are further names that its certificate is for.
    ///
    /// # Errors
    /// No port.
    pub async fn start(names: &[&str], answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0", names, answer).await
    }

    /// As [`Reviewer::start`], at an address.
    ///
    /// # Errors
    /// No such address.
    pub async fn start_at(
        address: &str,
        names: &[&str],
        answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let asked = Arc::default();
        let app = App { answer: Arc::new(answer), asked: Arc::clone(&asked) };
        let server = HttpsServer::start_at(address, names, None, Router::new().fallback(review).with_state(app)).await?;
        Ok(Self { server, asked })
    }

    /// A `clientConfig` that names this server by URL.
    #[must_use]
    pub fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://localhost:{}{path}", self.server.port()), "caBundle": self.server.ca_bundle})
    }

    /// The `request`s of the reviews at a path so far.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Value> {
        self.asked.lock().iter().filter(|(p, _)| p == path).map(|(_, q)| q["request"].clone()).collect()
    }

    /// Whole reviews at a path so far.
    #[must_use]
    pub fn reviews(&self, path: &str) -> Vec<Value> {
        self.asked.lock().iter().filter(|(p, _)| p == path).map(|(_, q)| q.clone()).collect()
    }
}
