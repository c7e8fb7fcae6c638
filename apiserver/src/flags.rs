//! The apiserver's flags, with upstream's names and defaults.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use daemon::CommonFlags;

use crate::admission::Stays;

/// Flags of the apiserver.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "apiserver", version, about = "Serves the Kubernetes API from etcd")]
pub struct Flags {
    /// Flags that every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port to listen on.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// The address at which the members of the cluster reach this server.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// etcd servers, comma-separated.
    #[arg(long, value_delimiter = ',', required = true)]
    pub etcd_servers: Vec<String>,
    /// The authority of etcd's certificates.
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// The client certificate for etcd.
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// The authority of client certificates.
    #[arg(long)]
    pub client_ca_file: PathBuf,
    /// The serving certificate.
    #[arg(long)]
    pub tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long)]
    pub tls_private_key_file: PathBuf,
    /// The issuer of ServiceAccount tokens.
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    pub service_account_issuer: String,
    /// Public keys that tokens may be signed with; may be repeated.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// The private key that signs tokens.
    #[arg(long)]
    pub service_account_signing_key_file: PathBuf,
    /// The range of cluster IPs.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: ipnet::Ipv4Net,
    /// The range of node ports.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// The client certificate for kubelets.
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// The authority of kubelets' serving certificates.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// The client certificate that aggregated apiservers and webhooks may know us by.
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    /// The authority of proxies that say in headers for whom they ask; without it nobody may.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// The common names that such a proxy's certificate may have; empty for any.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers that hold the user's name; the first that is there counts.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    /// Headers that hold the user's uid.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers that hold the user's groups.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    /// What headers begin with that hold further facts of the user.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// How long Events are kept, in seconds.
    #[arg(long, default_value_t = 3_600)]
    pub event_ttl: i64,
    /// Requests that run at once: with --max-mutating-requests-inflight the seats that priority levels share.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Writes that run at once; see --max-requests-inflight.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// Seconds that pods stay on a node that is not ready, unless they say otherwise.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// Seconds that pods stay on a node that is not heard of, unless they say otherwise.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
    /// Takes the tokens in Secrets of type bootstrap.kubernetes.io/token in kube-system, for machines that join.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_bootstrap_token_auth: bool,
    /// How secrets are encrypted at rest: an EncryptionConfiguration.
    #[arg(long)]
    pub encryption_provider_config: Option<PathBuf>,
}

impl AsRef<CommonFlags> for Flags {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

/// What of the flags the verbs and handlers need.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address at which the members of the cluster reach this server.
    pub advertise_address: IpAddr,
    /// The port at that address.
    pub port: u16,
    /// How to reach kubelets.
    pub kubelets: Option<KubeletTls>,
    /// The range of cluster IPs that the flags say.
    pub service_range: ipnet::Ipv4Net,
    /// That one and those of further ServiceCIDRs, as of now.
    pub service_ranges: std::sync::Arc<arc_swap::ArcSwap<Vec<ipnet::Ipv4Net>>>,
    /// The first and last node port.
    pub node_ports: RangeInclusive<u16>,
    /// The authority of client certificates.
    pub client_ca: PathBuf,
    /// How proxies say for whom they ask, where they may.
    pub request_header: Option<RequestHeader>,
    /// How long pods stay on nodes that are lost.
    pub stays: Stays,
}

/// How proxies say for whom they ask.
#[derive(Debug, Clone)]
pub struct RequestHeader {
    /// The authority of their certificates.
    pub ca: PathBuf,
    /// The common names that these may have; empty for any.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name.
    pub username: Vec<String>,
    /// Headers with the user's uid.
    pub uid: Vec<String>,
    /// Headers with the user's groups.
    pub group: Vec<String>,
    /// Prefixes of headers with further facts.
    pub extra_prefix: Vec<String>,
}

impl Flags {
    /// How proxies say for whom they ask; nothing when no authority is named for them.
    #[must_use]
    pub fn request_header(&self) -> Option<RequestHeader> {
        Some(RequestHeader {
            ca: self.requestheader_client_ca_file.clone()?,
            allowed_names: self.requestheader_allowed_names.clone(),
            username: self.requestheader_username_headers.clone(),
            uid: self.requestheader_uid_headers.clone(),
            group: self.requestheader_group_headers.clone(),
            extra_prefix: self.requestheader_extra_headers_prefix.clone(),
        })
    }
}

/// Files for connections to kubelets.
#[derive(Debug, Clone)]
pub struct KubeletTls {
    /// Our client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority of kubelets' certificates.
    pub ca: PathBuf,
}

/// Parses `30000-32767`.
///
/// # Errors
/// What is no range of ports.
pub fn port_range(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let parsed = text.split_once('-').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    match parsed {
        Some((first, last)) if first > 0 && first <= last => Ok(first..=last),
        _ => anyhow::bail!("{text:?} is no range of ports such as 30000-32767"),
    }
}
