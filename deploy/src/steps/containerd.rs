//! The configuration of each node's containerd: its own directories and socket, so that another containerd or docker of this
//! machine is not disturbed; the pod network; the registry mirror.

use super::Outcome;
use crate::cluster::{Cluster, Node};
use crate::up::Up;
use crate::{files, paths};

/// # Errors
/// A file cannot be written.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let mut written = 0;
    for node in &up.cluster.nodes {
        for (path, text) in configuration(&up.cluster) {
            written += usize::from(files::ensure(&node.file(&path), text.as_bytes(), files::PUBLIC)?);
        }
        files::ensure_dir(&node.file(&format!("{}/cni/net.d", paths::CONFIG)))?;
        written += usize::from(no_stale_network(node)?);
    }
    Ok(Outcome::of(written > 0, "configuration"))
}

/// A half-written network configuration would keep containerd from making a whole one.
fn no_stale_network(node: &Node) -> anyhow::Result<bool> {
    let path = node.file(&format!("{}/cni/net.d/10-containerd-net.conflist", paths::CONFIG));
    match std::fs::read(&path) {
        Ok(text) if serde_json::from_slice::<serde_json::Value>(&text).is_err() => files::remove(&path),
        _ => Ok(false),
    }
}

/// The files, as a node sees their paths.
fn configuration(cluster: &Cluster) -> Vec<(String, String)> {
    let mut all = vec![
        (format!("{}/containerd.toml", paths::CONFIG), containerd(cluster)),
        (format!("{}/cni/conflist.template", paths::CONFIG), network(cluster.mtu)),
    ];
    if let Some(mirror) = &cluster.registry_mirror {
        // `_default` stands for every registry; naming the mirror as the server keeps containerd from trying the real one.
        let hosts = format!("server = \"{mirror}\"\n\n[host.\"{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        all.push((format!("{}/certs.d/_default/hosts.toml", paths::CONFIG), hosts));
    }
    all
}

fn containerd(cluster: &Cluster) -> String {
    let (config, state, run) = (paths::CONFIG, paths::STATE, paths::RUN);
    format!(
        r#"# Written by `ferrite up`.
version = 2
root = "{state}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{socket}"

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{config}/cni/net.d"
    conf_template = "{config}/cni/conflist.template"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{run}/runc"
      SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{config}/certs.d"
"#,
        socket = paths::CONTAINERD_SOCKET,
        pause = paths::PAUSE_IMAGE,
        restrict = cluster.restrict_oom_score_adj,
        plugins = paths::CNI_PLUGINS,
    )
}

/// containerd fills in the node's pod range, once the kubelet has told it.
fn network(mtu: u32) -> String {
    format!(
        r#"{{
  "cniVersion": "0.4.0",
  "name": "ferrite",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "{bridge}",
      "mtu": {mtu},
      "isGateway": true,
      "hairpinMode": true,
      "ipMasq": false,
      "ipam": {{
        "type": "host-local",
        "dataDir": "{state}/cni",
        "ranges": [[{{ "subnet": "{{{{.PodCIDR}}}}" }}]],
        "routes": [{{ "dst": "0.0.0.0/0" }}]
      }}
    }}
  ]
}}
"#,
        bridge = paths::POD_BRIDGE,
        state = paths::STATE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_template_becomes_json() {
        let text = network(1400).replace("{{.PodCIDR}}", "10.244.0.0/24");
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(parsed["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.0.0/24");
        assert_eq!(parsed["plugins"][0]["mtu"], 1400);
    }
}
