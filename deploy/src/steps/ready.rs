//! Waits until every node is Ready.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::{Outcome, access};
use crate::up::Up;

/// A node takes a few seconds; one on a busy machine with slow disks takes longer.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// # Errors
/// A node is not Ready in time, with what it says about itself.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let nodes: Api<Node> = Api::all(access::client().await?);
    let missing = |found: &[Node]| {
        let names = up.cluster.nodes.iter().map(|n| n.name.as_str());
        names.filter_map(|name| why_not_ready(name, found)).collect::<Vec<_>>()
    };
    let was_ready = up.before.is_some() && nodes.list(&Default::default()).await.is_ok_and(|list| missing(&list.items).is_empty());
    up.wait("the nodes", READY_WITHIN, || async {
        let why = missing(&nodes.list(&Default::default()).await?.items);
        if why.is_empty() { Ok(Some(())) } else { Err(anyhow::anyhow!(why.join("; "))) }
    })
    .await?;
    let after = up.ready_now()?;
    let names: Vec<&str> = up.cluster.nodes.iter().map(|n| n.name.as_str()).collect();
    let when = if was_ready { String::new() } else { format!(", {after:.1} s after the start") };
    Ok(Outcome::of(!was_ready, format!("Ready: {}{when}", names.join(", "))))
}

fn why_not_ready(name: &str, found: &[Node]) -> Option<String> {
    let Some(node) = found.iter().find(|n| n.metadata.name.as_deref() == Some(name)) else {
        return Some(format!("{name} has not registered"));
    };
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    match conditions.into_iter().find(|c| c.type_ == "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("{name}: {}", ready.message.as_deref().unwrap_or("not Ready"))),
        None => Some(format!("{name} says nothing about being Ready")),
    }
}
