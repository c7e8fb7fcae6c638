//! Where pods come from: the apiserver's, bound to this node.

use std::collections::BTreeSet;
use std::sync::Arc;

use daemon::{describe, follow};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::{Event, Source};
use crate::mirrors::is_mirror;
use crate::statuses::Statuses;

/// Follows the pods that are bound to `node`, until `shutdown`. A watch that breaks is taken up again; meanwhile nothing is said, so
/// pods go on as they were.
pub async fn follow(client: Client, node: String, statuses: Arc<Statuses>, events: mpsc::Sender<Event>, shutdown: CancellationToken) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut stream = follow::events(Api::<Pod>::all(client), config);
    let mut listed: Option<BTreeSet<String>> = None;
    loop {
        let next = tokio::select! {
            () = shutdown.cancelled() => return,
            next = stream.next() => next,
        };
        let event = match next {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(node, error = describe(&error), "the watch on this node's pods broke; trying again");
                continue;
            }
            Some(Ok(watcher::Event::Init)) => {
                listed = Some(BTreeSet::new());
                continue;
            }
            Some(Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod))) => {
                if is_mirror(&pod) {
                    statuses.mirror_seen(&pod);
                    continue;
                }
                let pod = slim(pod);
                if let (Some(listed), Some(uid)) = (listed.as_mut(), pod.metadata.uid.clone()) {
                    listed.insert(uid);
                }
                Event::Applied(Source::Api, Box::new(pod))
            }
            Some(Ok(watcher::Event::Delete(pod))) if is_mirror(&pod) => {
                statuses.mirror_gone(&pod);
                continue;
            }
            Some(Ok(watcher::Event::Delete(pod))) => Event::Gone(Source::Api, Box::new(slim(pod))),
            Some(Ok(watcher::Event::InitDone)) => Event::Synced(Source::Api, listed.take().unwrap_or_default()),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// The pod without what nobody here reads.
fn slim(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod
}
