//! Requests as they go over the wire, for tests that look at codes, headers and bytes.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

/// How long a test waits for an answer or for the next event of a watch.
const WITHIN: Duration = Duration::from_secs(20);

/// A client of one user that gives answers as they came.
#[derive(Clone)]
pub struct Wire {
    client: kube::Client,
    headers: Vec<(String, String)>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// An answer, whatever its code.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The request's method and path, for messages.
    pub asked: String,
    /// The code.
    pub code: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{}: {} with no JSON ({e}): {}", self.asked, self.code, self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, when the code is this one.
    ///
    /// # Panics
    /// When the code is another.
    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{} gave {}", self.asked, self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The object, when the request succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.code), "{} gave {} {}", self.asked, self.code, self.text());
        self.json()
    }

    /// Code, reason and message of a refusal, on one line.
    ///
    /// # Panics
    /// When it is no Status of a failure.
    #[must_use]
    #[track_caller]
    pub fn refusal(&self) -> String {
        let status = self.json();
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()), "{} gave {status}", self.asked);
        assert_eq!(status["code"], self.code, "{}: the Status has the code of the answer", self.asked);
        let text = |f: &str| status[f].as_str().unwrap_or("").to_owned();
        format!("{} {}: {}", self.code, text("reason"), text("message"))
    }

    /// A header's text; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

impl Wire {
    /// Requests through `client`.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client, headers: vec![] }
    }

    /// The same with a further header on every request.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut wire = self.clone();
        wire.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        wire.headers.push((name.to_owned(), value.to_owned()));
        wire
    }

    /// The same with a header beside those of the same name, as groups to impersonate are sent.
    #[must_use]
    pub fn and(&self, name: &str, value: &str) -> Self {
        let mut wire = self.clone();
        wire.headers.push((name.to_owned(), value.to_owned()));
        wire
    }

    async fn open(&self, method: &Method, path: &str, body: Vec<u8>) -> anyhow::Result<http::Response<Body>> {
        let mut request = Request::builder().method(method).uri(path);
        let mut typed = body.is_empty();
        for (name, value) in &self.headers {
            typed |= name.eq_ignore_ascii_case("content-type");
            request = request.header(name, value);
        }
        if !typed {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        Ok(self.client.send(request.body(Body::from(body))?).await?)
    }

    /// Sends a request; gives an error when there is no whole answer.
    ///
    /// # Errors
    /// The connection breaks, or no answer comes in time.
    pub async fn try_send(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> anyhow::Result<Answer> {
        let asked = format!("{method} {}", path.chars().take(200).collect::<String>());
        let exchange = async {
            let response = self.open(&method, path, body.into()).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { asked: asked.clone(), code: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(WITHIN, exchange).await.with_context(|| format!("{asked}: no answer"))?
    }

    /// Sends a request.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.try_send(method, path, body).await.expect("an answer")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, vec![]).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body.to_string()).await
    }

    /// PATCH of a kind: `json`, `merge`, `strategic` or `apply`.
    pub async fn patch(&self, kind: &str, path: &str, body: &Value) -> Answer {
        let media = match kind {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "apply" => "application/apply-patch+yaml",
            _ => "application/strategic-merge-patch+json",
        };
        self.with("content-type", media).send(Method::PATCH, path, body.to_string()).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, vec![]).await
    }

    /// DELETE with options.
    pub async fn delete_with(&self, path: &str, options: &Value) -> Answer {
        self.send(Method::DELETE, path, options.to_string()).await
    }

    /// Starts a watch.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn watch(&self, path: &str) -> Watching {
        self.try_watch(path).await.expect("a watch")
    }

    /// Starts a watch.
    ///
    /// # Errors
    /// No connection, or the server refuses.
    pub async fn try_watch(&self, path: &str) -> anyhow::Result<Watching> {
        let response = tokio::time::timeout(WITHIN, self.open(&Method::GET, path, vec![])).await.context("no answer to a watch")??;
        let code = response.status().as_u16();
        anyhow::ensure!(code == 200, "GET {path} gave {code}");
        Ok(Watching { body: response.into_body(), rest: Vec::new() })
    }
}

/// A watch as it comes in.
#[derive(Debug)]
pub struct Watching {
    body: Body,
    rest: Vec<u8>,
}

impl Watching {
    /// The next event; `None` when the server has ended the watch, or the connection broke.
    ///
    /// # Panics
    /// When nothing happens for long, or what comes is no JSON.
    pub async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(WITHIN, self.line()).await.expect("an event of the watch in time")
    }

    /// As [`Watching::next`], without an end to the waiting.
    ///
    /// # Panics
    /// When what comes is no JSON.
    pub async fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event is a line of JSON"));
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }

    /// The next event as `TYPE name`.
    ///
    /// # Panics
    /// When the watch ends instead.
    pub async fn short(&mut self) -> String {
        let event = self.next().await.expect("another event");
        format!("{} {}", event["type"].as_str().unwrap_or("?"), event["object"]["metadata"]["name"].as_str().unwrap_or("-"))
    }
}
