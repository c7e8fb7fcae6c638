//! Changes of ConfigMaps and Secrets carried into the volumes of running pods at once, not at the next minute.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::VolumeHost;
use super::watched::Changed;
use crate::pods::Pods;

/// Refreshes the volumes of every pod that shows a changed object, until `shutdown`. A pod whose volumes were not there
/// yet is its worker's to mount.
pub async fn keep_fresh(host: VolumeHost, pods: Arc<Pods>, mut changes: Receiver<Changed>, shutdown: CancellationToken) {
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => change,
        };
        let mut changed = HashSet::new();
        let mut missed = false;
        let mut next = first;
        loop {
            match next {
                Ok(change) => drop(changed.insert(change)),
                Err(RecvError::Lagged(_)) => missed = true,
                Err(RecvError::Closed) => return,
            }
            next = match changes.try_recv() {
                Ok(change) => Ok(change),
                Err(tokio::sync::broadcast::error::TryRecvError::Lagged(n)) => Err(RecvError::Lagged(n)),
                Err(_) => break,
            };
        }
        for known in pods.all() {
            let pod = &known.pod;
            let shown = missed || changed.iter().any(|c| shows(pod, c));
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            if !shown || !host.pod_dir(uid).join("volumes").is_dir() {
                continue;
            }
            if let Err(error) = super::mount(&host, pod).await {
                let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
                tracing::warn!(namespace, name, %error, "refreshing volumes");
            }
        }
    }
}

/// Whether a volume of the pod shows the object.
fn shows(pod: &Pod, changed: &Changed) -> bool {
    if pod.metadata.namespace.as_deref() != Some(&changed.namespace) {
        return false;
    }
    let secret = changed.kind == "Secret";
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.into_iter().any(|volume| {
        let own = if secret {
            volume.secret.as_ref().and_then(|s| s.secret_name.as_deref())
        } else {
            volume.config_map.as_ref().map(|m| m.name.as_str())
        };
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        let mut projected = sources.filter_map(|s| {
            if secret { s.secret.as_ref().map(|s| s.name.as_str()) } else { s.config_map.as_ref().map(|m| m.name.as_str()) }
        });
        own == Some(&changed.name) || projected.any(|name| name == changed.name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(volume: serde_json::Value, kind: &'static str, name: &str, expected: bool) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": {"containers": [], "volumes": [volume]}})).unwrap();
        let changed = |namespace: &str| Changed { kind, namespace: namespace.into(), name: name.into() };
        assert_eq!(shows(&pod, &changed("ns")), expected);
        assert!(!shows(&pod, &changed("other")));
    }

    #[test]
    fn a_pod_shows_what_its_volumes_name() {
        check(json!({"name": "v", "configMap": {"name": "a"}}), "ConfigMap", "a", true);
        check(json!({"name": "v", "configMap": {"name": "a"}}), "Secret", "a", false);
        check(json!({"name": "v", "secret": {"secretName": "a"}}), "Secret", "a", true);
        check(
            json!({"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "m"}}]}}),
            "ConfigMap",
            "m",
            true,
        );
        check(json!({"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}), "Secret", "s", true);
        check(json!({"name": "v", "emptyDir": {}}), "Secret", "", false);
    }
}
