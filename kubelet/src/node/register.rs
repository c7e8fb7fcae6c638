//! Creates the Node object, or takes over the one that is there.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::machine::Machine;
use crate::flags::{Flags, pairs};
use crate::kubelet::Kubelet;

/// The Node object as it is registered.
///
/// # Errors
/// A taint that cannot be read.
pub fn node(machine: &Machine, flags: &Flags) -> anyhow::Result<Node> {
    let mut node = Node::default();
    node.metadata.name = Some(machine.name.clone());
    let own = [
        ("kubernetes.io/hostname", machine.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &machine.architecture),
    ];
    let mut labels: std::collections::BTreeMap<String, String> = own.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    labels.extend(pairs(&flags.node_labels));
    node.metadata.labels = Some(labels);
    node.metadata.annotations = Some([("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())].into());
    let taints = flags.register_with_taints.iter().filter(|t| !t.is_empty()).map(|t| taint(t)).collect::<anyhow::Result<Vec<_>>>()?;
    node.spec = Some(NodeSpec {
        taints: (!taints.is_empty()).then_some(taints),
        provider_id: Some(flags.provider_id.clone()).filter(|p| !p.is_empty()),
        ..NodeSpec::default()
    });
    Ok(node)
}

/// `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> anyhow::Result<Taint> {
    let (key_value, effect) = text.rsplit_once(':').with_context(|| format!("taint {text:?}: want key=value:effect"))?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        bail!("taint {text:?}: the effect is NoSchedule, PreferNoSchedule or NoExecute");
    }
    let (key, value) = key_value.split_once('=').unwrap_or((key_value, ""));
    Ok(Taint { key: key.into(), value: Some(value.to_owned()).filter(|v| !v.is_empty()), effect: effect.into(), time_added: None })
}

/// Registers the node; one of its name that exists keeps its spec and gets our labels.
///
/// # Errors
/// The apiserver does not take it.
pub async fn register(kubelet: &Kubelet) -> anyhow::Result<Node> {
    let api: Api<Node> = Api::all(kubelet.client.clone());
    let wanted = node(&kubelet.machine, &kubelet.flags)?;
    match api.create(&PostParams::default(), &wanted).await {
        Ok(node) => {
            tracing::info!(node = kubelet.node_name, "node registered");
            kubelet.events.node(&node, crate::events::Kind::Normal, "Starting", "Starting kubelet.");
            Ok(node)
        }
        Err(kube::Error::Api(s)) if s.code == 409 => {
            let patch = json!({"metadata": {"labels": wanted.metadata.labels, "annotations": wanted.metadata.annotations}});
            let node = api
                .patch(&kubelet.node_name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .context("updating the node's labels")?;
            tracing::info!(node = kubelet.node_name, "node was registered before");
            kubelet.events.node(&node, crate::events::Kind::Normal, "Starting", "Starting kubelet.");
            Ok(node)
        }
        Err(error) => Err(error).context("registering the node"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints() {
        let t = taint("node-role.kubernetes.io/control-plane=:NoSchedule").expect("a taint");
        assert_eq!((t.key.as_str(), t.value, t.effect.as_str()), ("node-role.kubernetes.io/control-plane", None, "NoSchedule"));
        assert!(taint("a=b").is_err() && taint("a=b:Never").is_err());
    }
}
