//! `componentstatuses`: asks the parts of the control plane how they are, when somebody looks. Deprecated upstream, and as simple there:
//! the scheduler and the controller-manager are looked for on this machine.

use std::time::Duration;

use api::status::Status;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::http::render::ListMeta;
use crate::http::respond;
use crate::outbound::tls::unverified;
use crate::verbs::{self, Call, Reply};

/// How long a part may take to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// The most bytes of a health answer that are shown.
const MOST: usize = 4 << 10;
/// What clients are told besides.
const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";
/// Names and health URLs, in the order of a list.
const PARTS: [(&str, &str); 3] =
    [("controller-manager", "https://127.0.0.1:10257/healthz"), ("etcd-0", ""), ("scheduler", "https://127.0.0.1:10259/healthz")];

/// `get` and `list`.
pub fn serve(call: Call, _: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        if call.info.verb == "get" {
            let (name, url) = PARTS.iter().find(|(name, _)| *name == call.info.name).ok_or_else(|| call.not_found())?;
            let object = part(&call, name, url).await;
            return respond::reply(
                Reply { code: 200, body: verbs::Body::Object(object), warnings: vec![DEPRECATED.to_owned()] },
                &call.renderer()?,
            );
        }
        let objects = futures::future::join_all(PARTS.iter().map(|(name, url)| part(&call, name, url))).await;
        let items: Vec<Vec<u8>> = objects.iter().map(|o| o.to_string().into_bytes()).collect();
        let body = call.renderer()?.list(&ListMeta::default(), items.iter().map(Vec::as_slice))?;
        let mut response = respond::with_type(200, call.media.format.content_type(), body);
        respond::warn(response.headers_mut(), &[DEPRECATED.to_owned()]);
        Ok(response)
    })
}

async fn part(call: &Call, name: &str, url: &str) -> Value {
    let asked = async {
        if url.is_empty() {
            call.server.hub.etcd().version().await.map(|_| "ok".to_owned()).map_err(|e| e.to_string())
        } else {
            ask(url).await
        }
    };
    let found = tokio::time::timeout(WITHIN, asked).await.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
    let (status, message) = match found {
        Ok(answer) => ("True", answer),
        Err(why) => ("False", if url.is_empty() { why } else { format!("Get {url:?}: {why}") }),
    };
    json!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name, "creationTimestamp": null},
        "conditions": [{"type": "Healthy", "status": status, "message": message}],
    })
}

/// The answer of a health endpoint on this machine. The parts show certificates of their own making, as upstream's do; nothing secret
/// is sent to them, and what they say is only shown.
async fn ask(url: &str) -> Result<String, String> {
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(unverified(None)).https_only().enable_http1().build();
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.get(url.parse().map_err(|e| format!("{e}"))?).await.map_err(|e| reason(&e))?;
    let code = response.status();
    let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|e| e.to_string())?.to_bytes();
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    if code.is_success() { Ok(text) } else { Err(format!("{code}: {text}")) }
}

/// The innermost cause: what connecting failed with.
fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
