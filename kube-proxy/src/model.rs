//! What the proxy knows of the cluster, in its own words: the input of [`crate::compile`].
//!
//! Small on purpose: an object that arrives is reduced to this and dropped. Addresses of both families are kept; the
//! compiler takes those of the table's family.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A namespace and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// `namespace/name`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A transport protocol that a Service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// From the API's word; none for a word it does not have.
    #[must_use]
    pub fn parse(word: Option<&str>) -> Option<Self> {
        match word.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// IANA's number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// From IANA's number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// All that is known of Services, endpoints, pods and policies.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// Services that the proxy serves: not headless, not `ExternalName`, not another proxy's.
    pub services: BTreeMap<ObjectKey, Service>,
    /// EndpointSlices by their own name.
    pub slices: BTreeMap<ObjectKey, Slice>,
    /// Pods: those of this node, and with policies about, everybody's.
    pub pods: BTreeMap<ObjectKey, Pod>,
    /// Labels of namespaces; filled only when there are policies.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// NetworkPolicies.
    pub policies: BTreeMap<ObjectKey, crate::policy::Policy>,
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its cluster addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of its load balancer that deliver to nodes unchanged (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// From where the load balancer's addresses may be used; empty means from everywhere.
    pub source_ranges: Vec<IpNet>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `ClientIP` affinity: for how many seconds.
    pub affinity: Option<u32>,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// Where load balancers ask whether this node has endpoints.
    pub health_check_node_port: Option<u16>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, by which EndpointSlices refer to it; may be empty.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// Its number on nodes.
    pub node_port: Option<u16>,
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// The Service it belongs to.
    pub service: String,
    /// Name, protocol and number of each port.
    pub ports: Vec<(String, Protocol, u16)>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its first address: all addresses of an endpoint are fungible, and one is used.
    pub address: IpAddr,
    /// Takes new traffic.
    pub ready: bool,
    /// Answers, though it may be terminating.
    pub serving: bool,
    /// Is going away.
    pub terminating: bool,
    /// The node it is on.
    pub node: Option<String>,
    /// Zones that should use it; empty when not said.
    pub zones: Vec<String>,
    /// Nodes that should use it; empty when not said.
    pub nodes: Vec<String>,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it is on this node.
    pub local: bool,
    /// Its labels; only kept when there are policies.
    pub labels: BTreeMap<String, String>,
    /// Ports that it has on the node.
    pub host_ports: Vec<HostPort>,
    /// Names of its container ports.
    pub named_ports: Vec<(String, Protocol, u16)>,
}

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// On this address only; none means on every address.
    pub host_ip: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the node.
    pub host_port: u16,
    /// The port of the container.
    pub container_port: u16,
}

/// The node that the rules are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its zone, from `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Its addresses on which node ports and host ports answer.
    pub addresses: Vec<IpAddr>,
    /// The range of its pods.
    pub pod_cidrs: Vec<IpNet>,
    /// The range of all pods; traffic from elsewhere is off-cluster.
    pub cluster_cidr: Option<IpNet>,
    /// Rewrite the source of all traffic to Services.
    pub masquerade_all: bool,
}
