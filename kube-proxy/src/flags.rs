//! The command line, with upstream's names and defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use daemon::CommonFlags;
use ipnet::IpNet;

/// Routes Services and enforces NetworkPolicies on one node, in one nftables table of its own.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "kube-proxy", version)]
pub struct Flags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened: its own flags have their docs")]
    pub common: CommonFlags,
    /// How to reach the apiserver, and as whom.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubernetes/kube-proxy.conf")]
    pub kubeconfig: PathBuf,
    /// The name of this node, where it is not the host's name.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The range of all pods. Traffic to Services from elsewhere gets this node's address as its source.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// The address of this node by which others reach it; otherwise the Node's InternalIP.
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// As --node-ip, by upstream's name; the unspecified address says nothing.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Where /healthz and /livez answer; empty for nowhere.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: Listen,
    /// Where /metrics answers; empty for nowhere.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: Listen,
    /// On which of this node's addresses node ports answer: ranges, or `primary` for the node's own address. All when empty.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub nodeport_addresses: Vec<NodePortAddresses>,
    /// Give all traffic to Services this node's address as its source.
    #[arg(long)]
    pub masquerade_all: bool,
    /// How Services are implemented; there is one way.
    #[arg(long, default_value = "nftables", value_parser = ["nftables"])]
    pub proxy_mode: String,
    /// Remove the rules, routes and links of the proxy, and exit.
    #[arg(long)]
    pub cleanup: bool,
    /// How pods of other nodes are reached: `auto` goes directly to nodes on the same link and by VXLAN to the others.
    #[arg(long, default_value = "auto", value_enum)]
    pub pod_routes: PodRoutes,
    /// The least time between two changes of the rules.
    #[arg(long, value_name = "DURATION", default_value = "50ms")]
    pub nftables_min_sync_period: GoDuration,
    /// How often rules and routes are compared with what they should be, without a reason.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub nftables_sync_period: GoDuration,
    /// Connections to track for each CPU; 0 leaves the limit as it is.
    #[arg(long, default_value_t = 32_768)]
    pub conntrack_max_per_core: u32,
    /// Connections to track at least, however few CPUs there are.
    #[arg(long, default_value_t = 131_072)]
    pub conntrack_min: u32,
    /// How long an idle TCP connection is remembered; 0 leaves it as it is.
    #[arg(long, value_name = "DURATION", default_value = "24h0m0s")]
    pub conntrack_tcp_timeout_established: GoDuration,
    /// How long a half-closed TCP connection is remembered; 0 leaves it as it is.
    #[arg(long, value_name = "DURATION", default_value = "1h0m0s")]
    pub conntrack_tcp_timeout_close_wait: GoDuration,
    /// How long an unanswered UDP packet is remembered; 0 leaves it as it is.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub conntrack_udp_timeout: GoDuration,
    /// How long an idle UDP exchange is remembered; 0 leaves it as it is.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub conntrack_udp_timeout_stream: GoDuration,
}

impl AsRef<CommonFlags> for Flags {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

impl Flags {
    /// How many connections to track, if that is to be set.
    #[must_use]
    pub fn conntrack_max(&self) -> Option<u64> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let max = u64::from(self.conntrack_max_per_core) * cores;
        (max > 0).then(|| max.max(u64::from(self.conntrack_min)))
    }

    /// The address given for this node, if one was.
    #[must_use]
    pub fn given_node_ip(&self) -> Option<IpAddr> {
        self.node_ip.or(Some(self.bind_address).filter(|ip| !ip.is_unspecified()))
    }
}

/// How pods of other nodes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PodRoutes {
    /// Directly where possible.
    Auto,
    /// Directly only.
    Direct,
    /// By VXLAN only.
    Vxlan,
    /// Somebody else sees to it.
    None,
}

/// An element of `--nodeport-addresses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's own address.
    Primary,
    /// Addresses in a range.
    Range(IpNet),
}

impl FromStr for NodePortAddresses {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "primary" { Ok(Self::Primary) } else { text.parse().map(Self::Range) }
    }
}

/// Where to listen; nowhere when empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|a| Self(Some(a))) }
    }
}

/// A duration as Go writes it: `1h30m0s`, `50ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a duration such as 1h30m, 10s or 50ms");
        let mut rest = text;
        let mut sum = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let seconds = match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                _ => return Err(wrong()),
            };
            let number: f64 = number.parse().map_err(|_| wrong())?;
            sum += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
            rest = tail;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(sum)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        let check = |text: &str, expected: Option<u64>| {
            let got = text.parse::<GoDuration>().ok().map(|d| u64::try_from(d.0.as_millis()).unwrap());
            assert_eq!(got, expected, "{text}");
        };
        check("24h0m0s", Some(86_400_000));
        check("1.5s", Some(1500));
        check("50ms", Some(50));
        check("0s", Some(0));
        check("", None);
        check("5", None);
        check("5d", None);
        check("99999999999999999999h", None);
    }

    #[test]
    fn upstreams_command_line_is_understood() {
        let line = "kube-proxy --kubeconfig=/k --cluster-cidr=10.244.0.0/16 --hostname-override=n --nodeport-addresses=primary,10.0.0.0/8 \
                    --healthz-bind-address= --v=4";
        let flags = <Flags as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(flags.nodeport_addresses.len(), 2);
        assert_eq!(flags.healthz_bind_address, Listen(None));
    }
}
