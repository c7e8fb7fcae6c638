//! Static pods: manifests in a directory of this node.
//!
//! A file is a pod. Its uid is a hash of its content and the node's name, so a changed file is another pod and an unchanged one is the same after
//! a restart. A file that cannot be read or is no pod is logged and left out; the pods of the others go on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use inotify::{Inotify, WatchMask};
use k8s_openapi::api::core::v1::{Container, Pod, Toleration};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::{Event, Source};
use crate::images::reference;

/// The annotation with the hash of a static pod.
pub const HASH: &str = "kubernetes.io/config.hash";
/// The annotation that says where a pod comes from.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// The largest manifest that is read: what the apiserver takes at most.
const MAX_BYTES: u64 = 3 << 20;
/// The most manifests: a node has no more pods.
const MAX_FILES: usize = 512;

/// Follows the manifests in `dir` until `shutdown`.
pub async fn follow(dir: PathBuf, node: String, every: Duration, events: mpsc::Sender<Event>, shutdown: CancellationToken) {
    let mut known: BTreeMap<String, Pod> = BTreeMap::new();
    let mut buffer = [0_u8; 1024];
    let mut changes = watch(&dir).and_then(|i| Ok(i.into_event_stream(&mut buffer)?)).map_err(|error| {
        tracing::debug!(dir = %dir.display(), error = format!("{error:#}"), "changes of manifests are noticed by looking only");
    });
    let mut first = true;
    loop {
        match read_all(&dir, &node) {
            Ok(now) => {
                for (uid, pod) in known.iter().filter(|(uid, _)| !now.contains_key(*uid)) {
                    tracing::info!(uid, "static pod removed");
                    if events.send(Event::Gone(Source::File, Box::new(pod.clone()))).await.is_err() {
                        return;
                    }
                }
                for (_, pod) in now.iter().filter(|(uid, _)| !known.contains_key(*uid)) {
                    if events.send(Event::Applied(Source::File, Box::new(pod.clone()))).await.is_err() {
                        return;
                    }
                }
                if first && events.send(Event::Synced(Source::File, now.keys().cloned().collect())).await.is_err() {
                    return;
                }
                (known, first) = (now, false);
            }
            Err(error) => tracing::warn!(dir = %dir.display(), error = format!("{error:#}"), "the manifests could not be read"),
        }
        let changed = async {
            match &mut changes {
                Ok(stream) => drop(stream.next().await),
                Err(()) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
            // Editors write in several steps; the next look is soon enough for the rest.
            () = changed => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn watch(dir: &Path) -> anyhow::Result<Inotify> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::CLOSE_WRITE | WatchMask::MOVED_FROM | WatchMask::MOVED_TO;
    inotify.watches().add(dir, mask)?;
    Ok(inotify)
}

fn read_all(dir: &Path, node: &str) -> anyhow::Result<BTreeMap<String, Pod>> {
    let mut pods = BTreeMap::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(pods),
        Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
    };
    for entry in entries.take(MAX_FILES) {
        let path = entry?.path();
        let hidden = path.file_name().and_then(|n| n.to_str()).is_none_or(|n| n.starts_with('.'));
        if hidden || !path.is_file() {
            continue;
        }
        let pod = std::fs::metadata(&path)
            .map_err(anyhow::Error::from)
            .and_then(|m| if m.len() > MAX_BYTES { anyhow::bail!("it has {} bytes", m.len()) } else { Ok(std::fs::read_to_string(&path)?) })
            .and_then(|text| parse(&text, node));
        match pod {
            Ok(pod) => drop(pods.insert(pod.metadata.uid.clone().unwrap_or_default(), pod)),
            Err(error) => tracing::warn!(file = %path.display(), error = format!("{error:#}"), "not a static pod"),
        }
    }
    Ok(pods)
}

/// The pod that a manifest describes, as this node runs it.
///
/// # Errors
/// Not YAML or JSON, not a Pod, without a name or containers.
pub fn parse(text: &str, node: &str) -> anyhow::Result<Pod> {
    let tree: serde_json::Value = serde_saphyr::from_str(text).context("reading YAML")?;
    anyhow::ensure!(tree["kind"] == "Pod" && tree["apiVersion"] == "v1", "the manifest is not of kind Pod, apiVersion v1");
    let mut pod: Pod = serde_json::from_value(tree).context("reading the pod")?;
    let spec = pod.spec.as_mut().context("the pod has no spec")?;
    anyhow::ensure!(!spec.containers.is_empty(), "the pod has no containers");
    let name = pod.metadata.name.as_deref().filter(|n| !n.is_empty()).context("the pod has no name")?;
    let digest = Sha256::new().chain_update(node).chain_update("\n").chain_update(text).finalize();
    let hash: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    pod.metadata.name = Some(format!("{name}-{node}"));
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    pod.metadata.uid = Some(hash.clone());
    // A changed file is another pod (KEP-5067).
    pod.metadata.generation = Some(1);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(HASH.to_owned(), hash);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    spec.node_name = Some(node.to_owned());
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.enable_service_links.get_or_insert(true);
    // Nothing drives a static pod from its node.
    let everything = Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    spec.tolerations.get_or_insert_default().push(everything);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        default_container(container);
    }
    pod.status = None;
    Ok(pod)
}

fn default_container(container: &mut Container) {
    if container.image_pull_policy.is_none() {
        let image = container.image.as_deref().unwrap_or_default();
        let latest = reference::with_default_tag(image).is_ok_and(|i| i.ends_with(":latest"));
        container.image_pull_policy = Some(if latest { "Always" } else { "IfNotPresent" }.to_owned());
    }
    if let Some(resources) = &mut container.resources {
        for (name, limit) in resources.limits.clone().unwrap_or_default() {
            resources.requests.get_or_insert_default().entry(name).or_insert(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: nginx}]}\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = parse(MANIFEST, "n1").expect("a pod");
        assert_eq!((pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref()), (Some("web-n1"), Some("default")));
        assert_eq!(pod.metadata.generation, Some(1));
        assert_eq!(pod.metadata.uid, parse(MANIFEST, "n1").expect("a pod").metadata.uid);
        assert_ne!(pod.metadata.uid, parse(MANIFEST, "n2").expect("a pod").metadata.uid);
        assert_ne!(pod.metadata.uid, parse(&MANIFEST.replace("nginx", "nginx:1"), "n1").expect("a pod").metadata.uid);
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for text in
            ["", "{", "kind: Service\napiVersion: v1", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}", &MANIFEST.replace("web", "\"\"")]
        {
            assert!(parse(text, "n1").is_err(), "{text}");
        }
    }

    #[test]
    fn files_of_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("web.yaml"), MANIFEST).expect("written");
        std::fs::write(dir.path().join("bad.yaml"), "kind: [").expect("written");
        std::fs::write(dir.path().join(".hidden.yaml"), MANIFEST.replace("web", "x")).expect("written");
        assert_eq!(read_all(dir.path(), "n1").expect("read").len(), 1);
        assert!(read_all(&dir.path().join("none"), "n1").expect("read").is_empty());
    }
}
