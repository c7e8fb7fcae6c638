//! Changes of ConfigMaps and Secrets carried into the volumes of running pods at once, not at the next minute; and each
//! minute word to [`Watched`] of what pods still need.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::VolumeHost;
use super::watched::{Kind, Named, Watched};
use crate::env;
use crate::pods::Pods;

/// How often it is said what pods need; well below the time after which a watch is let go.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Refreshes the volumes of every pod that shows a changed object, until `shutdown`. A pod whose volumes were not there
/// yet is its worker's to mount.
pub async fn keep_fresh(host: VolumeHost, pods: Arc<Pods>, watched: Watched, shutdown: CancellationToken) {
    let mut changes = watched.changes();
    let mut minutes = tokio::time::interval(SAY_EVERY);
    loop {
        let mut next = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = minutes.tick() => {
                pods.all().iter().flat_map(|known| needed(&known.pod)).for_each(|object| watched.keep(&object));
                continue;
            }
            change = changes.recv() => change,
        };
        // What else has changed by now, so that a pod that shows several is refreshed once.
        let mut changed = HashSet::new();
        let mut missed = false;
        loop {
            match next {
                Ok(change) => drop(changed.insert(change)),
                Err(RecvError::Lagged(_)) => missed = true,
                Err(RecvError::Closed) => return,
            }
            next = match changes.try_recv() {
                Ok(change) => Ok(change),
                Err(TryRecvError::Lagged(n)) => Err(RecvError::Lagged(n)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
        }
        for known in pods.all() {
            let pod = &known.pod;
            let mounted = host.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default()).join(super::VOLUMES).is_dir();
            if !mounted || !(missed || shown(pod).iter().any(|object| changed.contains(object))) {
                continue;
            }
            if let Err(error) = super::mount(&host, pod).await {
                let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
                tracing::warn!(namespace, name, %error, "refreshing volumes");
            }
        }
    }
}

fn named(pod: &Pod, kind: Kind, name: &str) -> Named {
    Named { kind, namespace: pod.metadata.namespace.clone().unwrap_or_default(), name: name.to_owned() }
}

/// The objects that the pod's volumes show.
fn shown(pod: &Pod) -> Vec<Named> {
    let mut out = vec![];
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let projected: Vec<_> = volume.projected.iter().flat_map(|p| p.sources.iter().flatten()).collect();
        let maps = projected.iter().filter_map(|s| s.config_map.as_ref()).map(|m| &m.name).chain(volume.config_map.iter().map(|m| &m.name));
        out.extend(maps.map(|name| named(pod, Kind::ConfigMap, name)));
        let secrets = volume.secret.iter().filter_map(|s| s.secret_name.as_ref());
        let secrets = projected.iter().filter_map(|s| s.secret.as_ref()).map(|s| &s.name).chain(secrets);
        out.extend(secrets.map(|name| named(pod, Kind::Secret, name)));
    }
    out
}

/// The objects without which a container of the pod cannot be started again.
fn needed(pod: &Pod) -> Vec<Named> {
    let mut out = shown(pod);
    let Some(spec) = &pod.spec else { return out };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let (maps, secrets) = env::wanted(container);
        out.extend(maps.iter().map(|name| named(pod, Kind::ConfigMap, name)));
        out.extend(secrets.iter().map(|name| named(pod, Kind::Secret, name)));
    }
    out.extend(spec.image_pull_secrets.iter().flatten().map(|r| named(pod, Kind::Secret, &r.name)));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(spec: serde_json::Value, shown_names: &str, needed_names: &str) {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([]);
        }
        let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap();
        let text = |objects: Vec<Named>| {
            let line = |o: &Named| format!("{:?} {}/{}", o.kind, o.namespace, o.name);
            objects.iter().map(line).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(text(shown(&pod)), shown_names);
        assert_eq!(text(needed(&pod)), needed_names);
    }

    #[test]
    fn a_pod_shows_what_its_volumes_name() {
        let check_volume = |volume, names: &str| check(json!({"volumes": [volume]}), names, names);
        check_volume(json!({"name": "v", "configMap": {"name": "a"}}), "ConfigMap ns/a");
        check_volume(json!({"name": "v", "secret": {"secretName": "a"}}), "Secret ns/a");
        let sources = json!([{"secret": {"name": "s"}}, {"configMap": {"name": "m"}}, {"serviceAccountToken": {"path": "t"}}]);
        check_volume(json!({"name": "v", "projected": {"sources": sources}}), "ConfigMap ns/m, Secret ns/s");
        check_volume(json!({"name": "v", "emptyDir": {}}), "");
    }

    #[test]
    fn a_pod_needs_what_its_containers_and_images_name_too() {
        let container = json!({"name": "c", "envFrom": [{"configMapRef": {"name": "e"}}],
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "k", "key": "x"}}}]});
        check(json!({"containers": [container], "imagePullSecrets": [{"name": "p"}]}), "", "ConfigMap ns/e, Secret ns/k, Secret ns/p");
    }
}
