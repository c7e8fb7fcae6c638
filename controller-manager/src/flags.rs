//! The flags, with upstream's names and defaults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use daemon::CommonFlags;
use daemon::leader::LeaderFlags;
use ipnet::IpNet;

/// Runs the control loops of a cluster.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "controller-manager", version = daemon::KUBERNETES_VERSION)]
pub struct Flags {
    /// Flags that every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Leader election.
    #[command(flatten)]
    pub leader: LeaderFlags,
    /// Where the apiserver is and who we are.
    #[arg(long, default_value = "/etc/kubernetes/controller-manager.conf", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Address to serve health and metrics on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to serve health and metrics on; 0 serves nothing.
    #[arg(long, default_value_t = 10257)]
    pub secure_port: u16,
    /// Certificate to serve with. Without one, nothing is served.
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authority of the client certificates of those who ask for metrics.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Controllers to run: `*` is all that are on by default, `foo` is foo, `-foo` is not foo. The first that matches counts.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// Gives each node a range of pod addresses.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// Where pod addresses come from: one range, or one of each family.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub cluster_cidr: Vec<IpNet>,
    /// Bits of a node's IPv4 range.
    #[arg(long, default_value_t = 24)]
    pub node_cidr_mask_size: u8,
    /// Bits of a node's IPv6 range.
    #[arg(long, default_value_t = 64)]
    pub node_cidr_mask_size_ipv6: u8,
    /// Service addresses, which no node's range may overlap.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// The authority that pods shall trust: published as the ConfigMap kube-root-ca.crt in each namespace.
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// Key that signs the tokens of Secrets of type kubernetes.io/service-account-token.
    #[arg(long, value_name = "FILE")]
    pub service_account_private_key_file: Option<PathBuf>,
    /// Certificate that signs CertificateSigningRequests.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// Key of that certificate.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// The longest that a signed certificate is valid.
    #[arg(long, default_value = "8760h", value_parser = duration)]
    pub cluster_signing_duration: Duration,
    /// How often a node is looked at.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub node_monitor_period: Duration,
    /// How long a node may be silent before it is Unknown.
    #[arg(long, default_value = "40s", value_parser = duration)]
    pub node_monitor_grace_period: Duration,
    /// How long a new node may be silent.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub node_startup_grace_period: Duration,
    /// Nodes a second, in a healthy zone, whose pods are evicted.
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f64,
    /// The same in an unhealthy zone of some size.
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f64,
    /// A zone up to this many nodes is small: when unhealthy, nothing in it is evicted.
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    /// The share of nodes not Ready from which a zone is unhealthy.
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f64,
    /// Ended pods beyond this number are deleted, oldest first; 0 keeps all.
    #[arg(long, default_value_t = 12_500)]
    pub terminated_pod_gc_threshold: usize,
    /// How often every object is looked at though nothing changed.
    #[arg(long, default_value = "12h", value_parser = duration)]
    pub min_resync_period: Duration,
    /// Deployments worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    /// ReplicaSets worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    /// ReplicationControllers worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    /// DaemonSets worked on at a time.
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    /// StatefulSets worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    /// Jobs worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    /// CronJobs worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    /// Services whose Endpoints are worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    /// Services whose EndpointSlices are worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    /// Endpoints mirrored at a time.
    #[arg(long, default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    /// Pods with ephemeral volumes worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_ephemeralvolume_syncs: usize,
    /// How often a HorizontalPodAutoscaler is looked at.
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    /// How long scaling down waits for recommendations to fall.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// How far from its target a metric may be without anything being done, as a share of the target.
    #[arg(long, default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// For how long after a pod's start what it uses of the CPU may be its start's doing.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    /// A pod that became unready within this time after its start was never ready.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Duration,
    /// HorizontalPodAutoscalers worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    /// Namespaces worked on at a time.
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    /// Objects the garbage collector works on at a time.
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    /// Resource quotas worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    /// Service account tokens worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    /// Ended objects with a time to live worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
}

impl AsRef<CommonFlags> for Flags {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

impl Flags {
    /// Whether `--controllers` asks for the controller called `name`.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        let said = |c: &&String| c.strip_prefix('-').unwrap_or(c) == name;
        match self.controllers.iter().find(said) {
            Some(choice) => !choice.starts_with('-'),
            None => self.controllers.iter().any(|c| c == "*"),
        }
    }
}

/// A duration as Go writes it: `40s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 40s or 1m30s");
    let (mut rest, mut total) = (text, Duration::ZERO);
    if rest == "0" {
        return Ok(total);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = &rest[unit.len()..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn flags(line: &[&str]) -> Flags {
        Flags::parse_from(std::iter::once(&"x").chain(line))
    }

    #[test]
    fn defaults_are_upstream_s() {
        let f = flags(&[]);
        assert_eq!((f.secure_port, f.node_monitor_grace_period, f.allocate_node_cidrs), (10257, Duration::from_secs(40), false));
        assert!(f.wants("deployment-controller"));
    }

    #[test]
    fn controllers_are_chosen_by_name() {
        let f = flags(&["--controllers=*,-job-controller"]);
        assert!(f.wants("deployment-controller") && !f.wants("job-controller"));
        let f = flags(&["--controllers=job-controller"]);
        assert!(!f.wants("deployment-controller") && f.wants("job-controller"));
    }

    #[test]
    fn durations_are_go_s() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert!(duration("5").is_err() && duration("x").is_err() && duration("5d").is_err());
    }
}
