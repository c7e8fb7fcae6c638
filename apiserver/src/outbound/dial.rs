//! Connections to where somebody is. Endpoints of a Service are looked up anew for each.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom as _;
use tokio::net::TcpStream;

use super::config::Place;
use super::resolve::{self, Endpoint, Nowhere};
use super::words::{self, Said};
use crate::storage::Hub;

/// How long one connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Endpoints of a Service that are tried, when the first ones do not answer.
const ENDPOINTS: usize = 3;

/// Connects to one place.
#[derive(Clone)]
pub struct Dialer {
    /// What knows where Services are.
    pub hub: Arc<Hub>,
    /// Where to.
    pub place: Arc<Place>,
}

impl Dialer {
    /// A connection.
    ///
    /// # Errors
    /// Why there is none, in Go's words.
    pub async fn connect(&self) -> Result<TcpStream, Said> {
        let mut last = Said(String::new());
        for (host, port) in candidates(&self.hub, &self.place)?.into_iter().take(ENDPOINTS) {
            last = match tokio::time::timeout(CONNECT, TcpStream::connect((host.as_str(), port))).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(|e| Said(words::io(&e)))?;
                    return Ok(stream);
                }
                // The only words that the resolver's failure can be told by.
                Ok(Err(error)) if error.to_string().starts_with("failed to lookup address") => {
                    Said(format!("dial tcp: lookup {host}: no such host"))
                }
                Ok(Err(error)) => Said(format!("dial tcp {}: {}", shown(&host, port), words::io(&error))),
                Err(_) => Said(format!("dial tcp {}: i/o timeout", shown(&host, port))),
            };
        }
        Err(last)
    }
}

fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Where a place may be reached, in the order in which to try.
///
/// # Errors
/// A Service that is not there or leads nowhere.
pub fn candidates(hub: &Hub, place: &Place) -> Result<Vec<Endpoint>, Said> {
    let (namespace, name, port) = match place {
        Place::Url { host, port, .. } => return Ok(vec![(host.clone(), *port)]),
        Place::Service { namespace, name, port, .. } => (namespace, name, port),
    };
    let mut found = of_service(hub, namespace, name, &port.to_string())?.map_err(|nowhere| match nowhere {
        Nowhere::Port => Said(format!("no service port {port} found for service {name:?}")),
        Nowhere::Endpoints => Said(format!("no endpoints available for service {name:?}")),
    })?;
    found.shuffle(&mut rand::rng());
    Ok(found)
}

/// The ready endpoints of a Service's port, as the caches have them.
///
/// # Errors
/// A Service that is not there.
pub fn of_service(hub: &Hub, namespace: &str, name: &str, port: &str) -> Result<Result<Vec<Endpoint>, Nowhere>, Said> {
    let unreadable = |e: serde_json::Error| Said(e.to_string());
    let entry = hub.cache("/registry/services/").get(&format!("{namespace}/{name}"));
    let service = entry.ok_or_else(|| Said(format!("service {name:?} not found")))?.tree().map_err(unreadable)?;
    let slices = hub.cache("/registry/discovery.k8s.io/endpointslices/").snapshot(&format!("{namespace}/"), 0).0;
    let own = slices.iter().filter(|e| e.label("kubernetes.io/service-name") == Some(name));
    let slices = own.map(|e| e.tree()).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    Ok(resolve::endpoints(&service, &slices, port))
}

impl tower::Service<http::Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = Said;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Said>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Said>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.connect().await.map(TokioIo::new) })
    }
}
