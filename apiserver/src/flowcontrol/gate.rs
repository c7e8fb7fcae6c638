//! Does what [`super::queues`] decides: holds requests back, lets them go, and takes their seats back when they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::classify::{classify, flow};
use super::config::Config;
use super::metrics::{FlowMetrics, Of, Running};
use super::queues::{Arrival, Queues, Ticket};
use crate::auth::User;
use crate::bootstrap::flowcontrol;
use crate::http::request_info::RequestInfo;
use crate::storage::{Cache, Hub};

/// How long a request may wait for a seat: a quarter of a minute, as upstream's with the default timeout of requests.
const WAIT: Duration = Duration::from_secs(15);
/// A seat is held for the sending of an answer for this long at most, so that a client that reads slowly does not keep it.
const HELD_FOR_BODY: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    queues: Queues,
    waiting: HashMap<u64, oneshot::Sender<()>>,
}

impl State {
    fn start(&mut self) {
        for id in self.queues.start() {
            if let Some(go) = self.waiting.remove(&id) {
                // One that went away gives its seat back when it notices.
                let _ = go.send(());
            }
        }
    }
}

struct Compiled {
    config: Config,
    /// The sequences of the caches that it was made from.
    of: [u64; 2],
}

/// The gate that every request goes through.
pub struct Gate {
    schemas: Arc<Cache>,
    levels: Arc<Cache>,
    compiled: ArcSwap<Compiled>,
    state: Arc<Mutex<State>>,
    metrics: FlowMetrics,
    total: usize,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("total", &self.total).finish_non_exhaustive()
    }
}

/// A request's place among those that run; it has ended when this goes.
#[derive(Debug)]
pub struct Seat {
    held: Option<Held>,
    _running: Running,
}

/// What a classified request is told of it, for the answer's headers.
#[derive(Debug, Clone, Default)]
pub struct Classified {
    /// The uid of its FlowSchema.
    pub schema: String,
    /// The uid of its level.
    pub level: String,
}

struct Held {
    state: Arc<Mutex<State>>,
    ticket: Ticket,
    /// Whether it still waits.
    waits: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if self.waits {
            state.waiting.remove(&self.ticket.id);
            if state.queues.give_up(&self.ticket) {
                return;
            }
        }
        state.queues.finish(&self.ticket);
        state.start();
    }
}

impl Gate {
    /// A gate of so many seats, which goes by the objects that `hub` caches.
    #[must_use]
    pub fn new(hub: &Hub, total: usize, metrics: FlowMetrics) -> Self {
        let cache = |plural: &str| hub.cache(&format!("/registry/{}/{plural}/", crate::resources::flowcontrol::GROUP));
        let gate = Self {
            schemas: cache("flowschemas"),
            levels: cache("prioritylevelconfigurations"),
            compiled: ArcSwap::from_pointee(Compiled { config: Config::default(), of: [u64::MAX; 2] }),
            state: Arc::default(),
            metrics,
            total,
        };
        gate.config();
        gate
    }

    /// The configuration as of now.
    fn config(&self) -> arc_swap::Guard<Arc<Compiled>> {
        let of = [self.schemas.sequence(), self.levels.sequence()];
        let compiled = self.compiled.load();
        if compiled.of == of {
            return compiled;
        }
        let trees = |cache: &Arc<Cache>| cache.snapshot("", 0).0.iter().filter_map(|e| e.tree().ok()).collect::<Vec<_>>();
        // The system's own objects hold from the start; what is stored takes their place.
        let (schemas, levels) = (flowcontrol::schemas(), flowcontrol::levels());
        let (stored_schemas, stored_levels) = (trees(&self.schemas), trees(&self.levels));
        let config = Config::compile(schemas.iter().chain(&stored_schemas), levels.iter().chain(&stored_levels));
        {
            let mut state = self.state.lock();
            state.queues.configure(&config, self.total);
            state.start();
            self.metrics.limits(state.queues.levels());
        }
        self.compiled.store(Arc::new(Compiled { config, of }));
        self.compiled.load()
    }

    /// A seat for a request, waited for where needed; `width` is how many it takes. With it, or with the refusal, what it was classified as.
    ///
    /// # Errors
    /// 429 when too many wait already, or the wait was too long.
    pub async fn enter(&self, user: &User, info: &RequestInfo, width: usize) -> (Classified, Result<Seat, Status>) {
        let (classified, of, arrival) = {
            let compiled = self.config();
            let config = &compiled.config;
            let Some(schema) = classify(config, user, info) else {
                return (Classified::default(), Err(refusal()));
            };
            let level = config.levels.get(&schema.level);
            let classified = Classified { schema: schema.uid.clone(), level: level.map(|l| l.uid.clone()).unwrap_or_default() };
            let of = FlowMetrics::of(&schema.name, &schema.level);
            if level.is_some_and(|l| l.exempt) || lasts(info) {
                let seat = Seat { held: None, _running: self.metrics.runs(&of, width) };
                return (classified, Ok(seat));
            }
            let mut state = self.state.lock();
            let arrival = state.queues.arrive(&schema.level, flow(schema, user, info), width);
            let arrival = match arrival {
                Arrival::Runs(ticket) => Ok((ticket, None)),
                Arrival::Waits(ticket) => {
                    let (go, gone) = oneshot::channel();
                    state.waiting.insert(ticket.id, go);
                    Ok((ticket, Some(gone)))
                }
                Arrival::Refused(reason) => Err(reason),
            };
            (classified, of, arrival)
        };
        let seat = match arrival {
            Err(reason) => Err(reason),
            Ok((ticket, None)) => Ok(Held { state: self.state.clone(), ticket, waits: false }),
            Ok((ticket, Some(go))) => self.wait(&of, Held { state: self.state.clone(), ticket, waits: true }, go).await,
        };
        let seat = match seat {
            Ok(held) => {
                let running = self.metrics.runs(&of, held.ticket.width);
                Ok(Seat { held: Some(held), _running: running })
            }
            Err(reason) => {
                self.metrics.refused(&of, reason);
                Err(refusal())
            }
        };
        (classified, seat)
    }

    async fn wait(&self, of: &Of, mut held: Held, go: oneshot::Receiver<()>) -> Result<Held, &'static str> {
        /// Counts the wait as over also when the client goes away in its midst.
        struct Waiting<'a>(&'a FlowMetrics, &'a Of, tokio::time::Instant, bool);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.waited(self.1, self.2.elapsed().as_secs_f64(), self.3);
            }
        }
        self.metrics.waits(of);
        let mut waiting = Waiting(&self.metrics, of, tokio::time::Instant::now(), false);
        match tokio::time::timeout(WAIT, go).await {
            Ok(Ok(())) => {
                held.waits = false;
                waiting.3 = true;
                Ok(held)
            }
            _ => Err("time-out"),
        }
    }
}

/// Connections that last are bounded where they are made.
fn lasts(info: &RequestInfo) -> bool {
    matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "log" | "proxy")
}

fn refusal() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", 1)
}

impl Seat {
    /// Keeps the seat while an answer is sent: until the guard goes, but not for ever.
    #[must_use]
    pub fn while_sent(self) -> Option<oneshot::Sender<()>> {
        self.held.as_ref()?;
        let (sent, done) = oneshot::channel::<()>();
        tokio::spawn(async move {
            // Either way the seat is free again.
            let _ = tokio::time::timeout(HELD_FOR_BODY, done).await;
            drop(self);
        });
        Some(sent)
    }
}
