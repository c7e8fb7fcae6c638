//! A door to an apiserver that often fails, for tests of clients: some requests get an error in place of an answer, some are carried
//! out and answered with an error, and every watch is cut after a while.
//!
//! Which request fails how is counted out, not left to chance.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::Body;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::ApiServer;

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

/// The errors that come in turn: code, reason, and whether the request is carried out nevertheless.
const FAULTS: [(u16, &str, bool); 6] = [
    (500, "InternalError", false),
    (409, "Conflict", false),
    (503, "ServiceUnavailable", true),
    (429, "TooManyRequests", false),
    (500, "InternalError", true),
    (504, "Timeout", true),
];

/// The door. It closes with its handle.
#[derive(Debug)]
pub struct FlakyDoor {
    /// A kubeconfig of somebody who comes through it.
    pub kubeconfig: PathBuf,
    task: JoinHandle<()>,
    faults: Arc<AtomicUsize>,
}

impl Drop for FlakyDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FlakyDoor {
    /// Opens one for `user`: one in `every` requests fails, and no watch lasts longer than `watch`.
    ///
    /// # Errors
    /// No port, or a folder that cannot be written.
    pub async fn open(server: &ApiServer, user: &str, every: usize, watch: Duration) -> anyhow::Result<Self> {
        let client = server.client_of(user, None).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let kubeconfig = server.dir().join("flaky.conf");
        let authority = server.pki.file("ca.crt");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: test\n  cluster: {{server: '{url}', certificate-authority: '{}'}}\n\
             users:\n- name: user\n  user: {{}}\ncontexts:\n- name: test\n  context: {{cluster: test, user: user}}\ncurrent-context: test\n",
            authority.display(),
        );
        std::fs::write(&kubeconfig, text)?;
        let faults = Arc::new(AtomicUsize::new(0));
        let counted = faults.clone();
        let task = tokio::spawn(async move {
            let requests = Arc::new(AtomicUsize::new(0));
            // A listener that fails ends the door, and with it the test that waits for what comes through.
            while let Ok((stream, _)) = listener.accept().await {
                let (client, requests, faults) = (client.clone(), requests.clone(), counted.clone());
                tokio::spawn(async move {
                    let serve = service_fn(|request| {
                        let fault = requests.fetch_add(1, Ordering::Relaxed) % every == every - 1;
                        let fault = fault.then(|| FAULTS[faults.fetch_add(1, Ordering::Relaxed) % FAULTS.len()]);
                        pass(client.clone(), request, fault, watch)
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // A connection that breaks is one more fault.
                    server.serve_connection(TokioIo::new(stream), serve).await.ok();
                });
            }
        });
        Ok(Self { kubeconfig, task, faults })
    }

    /// How many requests have failed so far.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.faults.load(Ordering::Relaxed)
    }
}

fn error(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
                        "message": "the door is stuck"});
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

async fn pass(
    client: kube::Client,
    request: Request<Incoming>,
    fault: Option<(u16, &'static str, bool)>,
    watch: Duration,
) -> Result<Answer, Infallible> {
    if let Some((code, reason, false)) = fault {
        return Ok(error(code, reason));
    }
    let watches = request.uri().query().is_some_and(|q| q.contains("watch=true") || q.contains("watch=1"));
    let Ok(answer) = forward(&client, request).await else { return Ok(error(502, "InternalError")) };
    if let Some((code, reason, true)) = fault {
        return Ok(error(code, reason));
    }
    let (mut parts, body) = answer.into_parts();
    for hop in ["connection", "transfer-encoding", "content-length"] {
        parts.headers.remove(hop);
    }
    let body = if watches {
        let cut = Box::pin(tokio::time::sleep(watch));
        StreamBody::new(BodyStream::new(body).take_until(cut)).boxed_unsync()
    } else {
        body.boxed_unsync()
    };
    Ok(Response::from_parts(parts, body))
}

async fn forward(client: &kube::Client, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut onward = Request::builder().method(parts.method).uri(path);
    if let Some(headers) = onward.headers_mut() {
        *headers = HeaderMap::from_iter(
            parts
                .headers
                .into_iter()
                .filter_map(|(name, value)| Some((name?, value)))
                .filter(|(name, _)| name != "host" && name != "content-length"),
        );
    }
    Ok(client.send(onward.body(Body::from(body.to_vec()))?).await?)
}
