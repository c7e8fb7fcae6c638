//! The kubelet's flags: upstream's names and defaults.

use std::path::PathBuf;

use daemon::CommonFlags;

/// Flags of the kubelet.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "kubelet", version = daemon::KUBERNETES_VERSION, about = "Runs one node's pods in containerd")]
pub struct Flags {
    /// Flags of every daemon.
    #[command(flatten)]
    pub common: CommonFlags,
    /// How to reach the apiserver, and as whom.
    #[arg(long, default_value = "/etc/kubernetes/kubelet.conf", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// The runtime's socket.
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    pub container_runtime_endpoint: String,
    /// Address of the HTTPS server.
    #[arg(long, default_value = "0.0.0.0")]
    pub address: std::net::IpAddr,
    /// Port of the HTTPS server.
    #[arg(long, default_value_t = 10250)]
    pub port: u16,
    /// Address of the plain `/healthz`.
    #[arg(long, default_value = "127.0.0.1")]
    pub healthz_bind_address: std::net::IpAddr,
    /// Port of the plain `/healthz`; 0 for none.
    #[arg(long, default_value_t = 10248)]
    pub healthz_port: u16,
    /// Authority of the client certificates that the server accepts.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// The server's certificate; needed.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The server's key; needed.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: Option<PathBuf>,
    /// The node's name instead of the machine's host name.
    #[arg(long, default_value = "")]
    pub hostname_override: String,
    /// The node's addresses, one a family; found by the default route when empty.
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<std::net::IpAddr>,
    /// Labels to register the node with: `a=b,c=d`.
    #[arg(long, default_value = "")]
    pub node_labels: String,
    /// Taints to register the node with: `key=value:effect`.
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Whether to create the Node object.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub register_node: bool,
    /// The provider's id of this machine.
    #[arg(long, default_value = "")]
    pub provider_id: String,
    /// Where pods' files are.
    #[arg(long, default_value = "/var/lib/kubelet", value_name = "DIR")]
    pub root_dir: PathBuf,
    /// Where pods' logs are.
    #[arg(long, default_value = "/var/log/pods", value_name = "DIR")]
    pub pod_logs_dir: PathBuf,
    /// Directory of manifests of static pods.
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// How often that directory is looked at.
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub file_check_frequency: std::time::Duration,
    /// The cluster's DNS servers.
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The resolver configuration that pods get which use the node's.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// The most pods on this node.
    #[arg(long, default_value_t = 110)]
    pub max_pods: u32,
    /// The most processes in a pod; -1 for no limit.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub pod_max_pids: i64,
    /// The cgroup below which pods' cgroups are.
    #[arg(long, default_value = "/")]
    pub cgroup_root: String,
    /// Whether QoS classes and pods get cgroups.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub cgroups_per_qos: bool,
    /// Only `cgroupfs` is supported.
    #[arg(long, default_value = "cgroupfs", value_parser = ["cgroupfs"])]
    pub cgroup_driver: String,
    /// Whether containers' CPU limits are enforced by quota.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub cpu_cfs_quota: bool,
    /// Kept for the system: `cpu=100m,memory=100Mi,ephemeral-storage=1Gi`.
    #[arg(long, default_value = "")]
    pub system_reserved: String,
    /// Kept for Kubernetes' daemons.
    #[arg(long, default_value = "")]
    pub kube_reserved: String,
    /// How often the node's status is worked out.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub node_status_update_frequency: std::time::Duration,
    /// How often it is sent although nothing changed.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub node_status_report_frequency: std::time::Duration,
    /// How long the node's Lease lasts; renewed four times as often.
    #[arg(long, default_value_t = 40)]
    pub node_lease_duration_seconds: i32,
    /// How often a pod is looked at although nothing happened.
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub sync_frequency: std::time::Duration,
    /// Pods are evicted below these: `memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%`.
    #[arg(
        long,
        default_value = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"
    )]
    pub eviction_hard: String,
    /// How long a pressure condition stays after the pressure has gone.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub eviction_pressure_transition_period: std::time::Duration,
    /// Percentage of the image file system's use from which images are removed.
    #[arg(long, default_value_t = 85)]
    pub image_gc_high_threshold: u8,
    /// Percentage down to which they are removed.
    #[arg(long, default_value_t = 80)]
    pub image_gc_low_threshold: u8,
    /// Unused images younger than this are kept.
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub minimum_image_ttl_duration: std::time::Duration,
    /// Dead containers kept for each container of a pod.
    #[arg(long, default_value_t = 1)]
    pub maximum_dead_containers_per_container: usize,
    /// Whether images are pulled one at a time.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub serialize_image_pulls: bool,
    /// The most pulls at a time when they are not.
    #[arg(long, default_value_t = 5)]
    pub max_parallel_image_pulls: usize,
    /// A container's log is rotated at this size.
    #[arg(long, default_value = "10Mi")]
    pub container_log_max_size: String,
    /// Log files kept for a container.
    #[arg(long, default_value_t = 5)]
    pub container_log_max_files: usize,
    /// Sysctls beyond the safe ones that pods may set; a trailing `*` matches the rest.
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// RuntimeDefault seccomp where a pod says nothing.
    #[arg(long, default_value_t = false)]
    pub seccomp_default: bool,
}

impl AsRef<CommonFlags> for Flags {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

/// A duration as Go writes it: `10s`, `1m30s`, `500ms`.
///
/// # Errors
/// Not a duration.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let bad = || format!("invalid duration {text:?}: want something like 10s or 1m30s");
    let (mut rest, mut total) = (text, 0.0_f64);
    if rest.is_empty() {
        return Err(bad());
    }
    if rest == "0" {
        return Ok(std::time::Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |i| digits + i);
        total += number
            * match &rest[digits..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(bad()),
            };
        rest = &rest[unit_end..];
    }
    std::time::Duration::try_from_secs_f64(total).map_err(|_| bad())
}

/// `a=b,c=d` as pairs.
#[must_use]
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn durations() {
        for (text, millis) in [("10s", 10_000), ("1m30s", 90_000), ("500ms", 500), ("1.5h", 5_400_000), ("0", 0)] {
            assert_eq!(duration(text).map(|d| d.as_millis()), Ok(millis), "{text}");
        }
        for text in ["", "10", "s", "1x", "1..5s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn upstreams_spelling_is_accepted() {
        let flags =
            Flags::parse_from(["kubelet", "--register-node=false", "--node-ip=10.0.0.1,fd00::1", "--cgroups-per-qos", "--pod-max-pids=-1"]);
        assert_eq!((flags.register_node, flags.node_ip.len(), flags.cgroups_per_qos, flags.max_pods), (false, 2, true, 110));
    }
}
