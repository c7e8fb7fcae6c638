//! The client: connections kept open for each place, deadlines, bounded answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use daemon::tls::Identity;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use super::config::ClientConfig;
use super::dial::Dialer;
use super::{tls, words};
use crate::storage::Hub;

/// Places with connections kept open at most; the one that was not used for longest makes room.
const PLACES: usize = 256;
/// Idle connections kept to one place.
const IDLE: usize = 16;
/// How long an idle connection is kept.
const IDLE_FOR: Duration = Duration::from_secs(60);

type Pool = Client<HttpsConnector<Dialer>, Body>;

/// Makes requests to others.
pub struct Outbound {
    hub: Arc<Hub>,
    /// The front proxy's certificate, when there is one.
    identity: Option<Arc<Identity>>,
    pools: Mutex<HashMap<ClientConfig, (Pool, Instant)>>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("pools", &self.pools.lock().len()).finish_non_exhaustive()
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The code.
    pub code: u16,
    /// The body.
    pub body: Bytes,
}

impl Outbound {
    /// Services are looked up in `hub`; `identity` is shown where we act for others.
    #[must_use]
    pub fn new(hub: Arc<Hub>, identity: Option<Arc<Identity>>) -> Self {
        Self { hub, identity, pools: Mutex::default() }
    }

    /// TLS to somebody.
    ///
    /// # Errors
    /// A bundle that holds no usable certificate.
    pub fn tls(&self, config: &ClientConfig) -> Result<rustls::ClientConfig, String> {
        tls::config(&config.trust, self.identity.clone().filter(|_| config.as_front_proxy))
    }

    /// A dialer to somebody, for connections of one's own.
    #[must_use]
    pub fn dialer(&self, config: &ClientConfig) -> Dialer {
        Dialer { hub: self.hub.clone(), place: Arc::new(config.place.clone()) }
    }

    fn pool(&self, config: &ClientConfig) -> Result<Pool, String> {
        let now = Instant::now();
        let mut pools = self.pools.lock();
        if let Some((pool, used)) = pools.get_mut(config) {
            *used = now;
            return Ok(pool.clone());
        }
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(self.tls(config)?).https_only().enable_http1();
        let pool: Pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE)
            .build(connector.wrap_connector(self.dialer(config)));
        if pools.len() >= PLACES
            && let Some(oldest) = pools.iter().min_by_key(|(_, (_, used))| *used).map(|(config, _)| config.clone())
        {
            pools.remove(&oldest);
        }
        pools.insert(config.clone(), (pool.clone(), now));
        Ok(pool)
    }

    /// Sends a request as it is, but for its host; the answer's body comes while it is read.
    ///
    /// # Errors
    /// Why there is no answer, in Go's words.
    pub async fn send(&self, config: &ClientConfig, request: Request<Body>) -> Result<Response<Incoming>, String> {
        self.pool(config)?.request(request).await.map_err(|e| words::of(&e))
    }

    /// Posts JSON and reads the whole answer.
    ///
    /// # Errors
    /// Why there is no answer within the time, or none of at most `most` bytes: `Post "https://...": why`.
    pub async fn post(&self, config: &ClientConfig, query: &str, body: Vec<u8>, within: Duration, most: usize) -> Result<Answer, String> {
        let url = config.url(query);
        let exchange = async {
            let request = Request::post(&url)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json, */*")
                .header(header::USER_AGENT, "kube-apiserver-admission")
                .body(Body::from(body))
                .map_err(|e| e.to_string())?;
            whole(self.send(config, request).await?, most).await
        };
        let outcome = tokio::time::timeout(within, exchange).await.unwrap_or_else(|_| Err(words::DEADLINE.to_owned()));
        outcome.map_err(|why| format!("Post {url:?}: {why}"))
    }

    /// Gets a path and reads the whole answer.
    ///
    /// # Errors
    /// Why there is no answer within the time, or none of at most `most` bytes.
    pub async fn get(&self, config: &ClientConfig, request: Request<Body>, within: Duration, most: usize) -> Result<Answer, String> {
        let exchange = async { whole(self.send(config, request).await?, most).await };
        tokio::time::timeout(within, exchange).await.unwrap_or_else(|_| Err(words::DEADLINE.to_owned()))
    }
}

async fn whole(response: Response<Incoming>, most: usize) -> Result<Answer, String> {
    let code = response.status();
    if code == StatusCode::SWITCHING_PROTOCOLS {
        return Err("the server switched protocols, which nobody asked for".to_owned());
    }
    let body = Limited::new(response.into_body(), most).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => words::of(&*error),
        Err(_) => format!("http: response body too large: more than {most} bytes"),
    })?;
    Ok(Answer { code: code.as_u16(), body: body.to_bytes() })
}
