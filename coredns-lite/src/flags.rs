//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use daemon::CommonFlags;
use hickory_proto::rr::Name;

/// Answers DNS questions of one node: names of the cluster itself, other names by asking upstream servers.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "coredns-lite", version)]
pub struct Flags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened: its own flags have their docs")]
    pub common: CommonFlags,
    /// How to reach the apiserver, and as whom.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubernetes/coredns-lite.conf")]
    pub kubeconfig: PathBuf,
    /// The domain of the cluster.
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = domain)]
    pub cluster_domain: Name,
    /// On which addresses to answer. Those that are not loopback addresses become endpoints of the `kube-dns` Service.
    #[arg(long, value_name = "IP", value_delimiter = ',', default_value = "127.0.0.1")]
    pub bind_address: Vec<IpAddr>,
    /// On which port to answer, by UDP and TCP.
    #[arg(long, default_value_t = 53)]
    pub port: u16,
    /// Servers that are asked for names that are not the cluster's; those of --resolv-conf when empty.
    #[arg(long, value_name = "IP[:PORT]", value_delimiter = ',', value_parser = upstream)]
    pub forward: Vec<SocketAddr>,
    /// Where upstream servers are named; read again when it changes.
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// The node this runs on. With it, the EndpointSlice `kube-dns-<node>` is kept.
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Where /health, /ready and the like answer.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub health: SocketAddr,
    /// Where /metrics answers.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9153")]
    pub metrics: SocketAddr,
    /// How many answers from upstream are kept at most.
    #[arg(long, default_value_t = 4096)]
    pub cache_entries: usize,
}

impl AsRef<CommonFlags> for Flags {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

fn domain(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|e| e.to_string())?.to_lowercase();
    name.set_fqdn(true);
    if name.is_root() { Err("the cluster has a domain of its own".into()) } else { Ok(name) }
}

/// An address with the port of DNS unless it has another.
///
/// # Errors
/// The text is neither.
pub fn upstream(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().ok();
    let without = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    with_port.map_or_else(|| without().map_err(|_| format!("{text:?} is not an address")), Ok)
}
