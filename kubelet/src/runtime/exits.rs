//! Hears from containerd when a container ends, so that it is noticed at once and not at the next look.
//!
//! Only an accelerator, and the only thing here that is containerd's own and not CRI: without it everything works, a second later.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use containerd_client::events::TaskExit;
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use daemon::backoff::Backoff;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::Event;

/// The namespace in which containerd's CRI plugin keeps its containers.
const FILTER: &str = r#"namespace==k8s.io,topic=="/tasks/exit""#;
/// The CRI plugin hears of the exit at the same time as we do, and takes note once it has cleaned up: after a moment mostly, after a
/// second on a busy machine. So one looks again, ever later: after so many milliseconds.
const LOOKS: [u64; 5] = [20, 50, 150, 500, 1_500];

/// Sends [`Event::Relist`] whenever a container ends, until `shutdown`. `live` says whether exits are heard at the moment.
pub async fn follow(endpoint: String, events: mpsc::Sender<Event>, live: Arc<AtomicBool>, shutdown: CancellationToken) {
    let path = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(&endpoint));
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = listen(&path, &events, &live, &mut backoff) => ended,
        };
        live.store(false, Ordering::Relaxed);
        tracing::debug!(error = ended.err().map(|e| format!("{e:#}")), "not hearing of containers' ends; looking every second");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

async fn listen(path: &PathBuf, events: &mpsc::Sender<Event>, live: &AtomicBool, backoff: &mut Backoff) -> anyhow::Result<()> {
    let mut client = EventsClient::new(containerd_client::connect(path).await?);
    let mut stream = client.subscribe(SubscribeRequest { filters: vec![FILTER.to_owned()] }).await?.into_inner();
    live.store(true, Ordering::Relaxed);
    backoff.reset();
    // What ended before we listened.
    events.send(Event::Relist).await?;
    let mut looks = [].iter();
    loop {
        let next = looks.as_slice().first();
        tokio::select! {
            message = stream.message() => {
                let Some(envelope) = message? else { return Ok(()) };
                let exit = envelope.event.and_then(|any| TaskExit::decode(any.value.as_slice()).ok());
                // An exec in a container, such as a probe, ends too and is nobody's business here.
                if exit.is_none_or(|e| e.id == e.container_id) {
                    looks = LOOKS.iter();
                }
            }
            () = tokio::time::sleep(Duration::from_millis(next.copied().unwrap_or_default())), if next.is_some() => {
                looks.next();
                events.send(Event::Relist).await?;
            }
        }
    }
}
