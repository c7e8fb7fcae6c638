//! The cluster that there shall be: its nodes and their addresses. Written to `/etc/ferrite/cluster.json` by `up`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::daemons::CONFIGURABLE;
use crate::paths;

/// More nodes than this on one machine help nobody, and addresses are handed out of one /24.
pub const MOST_NODES: u8 = 32;
/// The subnet between this machine and its nodes in namespaces; node k has address k, this machine has 1.
pub const NODE_SUBNET: &str = "10.89.0.0/24";
/// This machine's address in [`NODE_SUBNET`].
pub const NODE_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// ClusterIPs come from here; the first one is the apiserver's.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The ClusterIP of the `kubernetes` Service.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The ClusterIP of the `kube-dns` Service.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Pods get their addresses from here, each node a /24 of it.
pub const POD_RANGE: &str = "10.244.0.0/16";
/// The domain below which Services have names.
pub const DOMAIN: &str = "cluster.local";

/// All that `up` knows about the cluster of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The first is this machine itself, the others live in namespaces.
    pub nodes: Vec<Node>,
    /// The largest packet that leaves this machine in one piece.
    pub mtu: u32,
    /// Every image registry is reached through this URL.
    pub registry_mirror: Option<String>,
    /// Flags of daemons that somebody asked for, beside and instead of ours.
    #[serde(default)]
    pub flags: Vec<DaemonFlag>,
    /// This machine lets nobody lower an `oom_score_adj` (root without CAP_SYS_RESOURCE).
    pub restrict_oom_score_adj: bool,
}

/// A flag of a daemon: `DAEMON:NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonFlag {
    /// Of which daemon, on every node that runs it.
    pub daemon: String,
    /// The flag's name, without the dashes.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for DaemonFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(daemon, flag)| Some((daemon, flag.split_once('=')?)));
        let (daemon, (name, value)) = parsed.ok_or("want DAEMON:FLAG=VALUE, for instance kubelet:max-pods=200")?;
        if !CONFIGURABLE.contains(&daemon) {
            return Err(format!("{daemon:?} is none of {}", CONFIGURABLE.join(", ")));
        }
        let name = name.trim_start_matches('-');
        if name.is_empty() || name.contains(char::is_whitespace) || value.contains('\n') {
            return Err(format!("{text:?} names no flag"));
        }
        Ok(Self { daemon: daemon.to_owned(), name: name.to_owned(), value: value.to_owned() })
    }
}

/// What a person asks for; what is left open stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// How many nodes.
    pub nodes: Option<u8>,
    /// See [`Cluster::registry_mirror`].
    pub registry_mirror: Option<String>,
    /// See [`Cluster::flags`]. One without value takes the flag away again.
    pub flags: Vec<DaemonFlag>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name in the cluster, and its host name.
    pub name: String,
    /// The address under which the others reach it.
    pub address: Ipv4Addr,
    /// 1 is this machine; others live in namespaces.
    pub number: u8,
}

/// What is found out about this machine before there is a cluster.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The host name.
    pub name: String,
    /// The address from which it reaches the rest of the world.
    pub address: Ipv4Addr,
    /// See [`Cluster::mtu`].
    pub mtu: u32,
    /// See [`Cluster::restrict_oom_score_adj`].
    pub restrict_oom_score_adj: bool,
}

impl Node {
    /// Whether it is this machine itself, without namespaces around it.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.number == 1
    }

    /// Where, on this machine, the file is that the node sees as `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        if self.is_host() {
            return path.into();
        }
        match path.strip_prefix(paths::RUN).or_else(|| path.strip_prefix(paths::LOGS)) {
            Some(rest) if path.starts_with(paths::RUN) => format!("{}{rest}", paths::node_run_dir(&self.name)).into(),
            Some(rest) => format!("{}{rest}", paths::node_log_dir(&self.name)).into(),
            None => format!("{}{path}", paths::node_dir(&self.name)).into(),
        }
    }
}

impl Cluster {
    /// The cluster to have, given the one there is.
    ///
    /// # Errors
    /// A wish that cannot be met without taking the present cluster down; the message says so.
    pub fn wanted(machine: Machine, before: Option<&Self>, wishes: Wishes) -> anyhow::Result<Self> {
        let have = before.map_or(0, |c| c.nodes.len());
        let nodes = wishes.nodes.map_or(have.max(1), usize::from);
        if nodes == 0 || nodes > usize::from(MOST_NODES) {
            bail!("--nodes {nodes}: between 1 and {MOST_NODES} nodes are possible on one machine");
        }
        if nodes < have {
            bail!("this cluster has {have} nodes; nodes are added here, never taken away: run deploy/down first");
        }
        let first = before.and_then(|c| c.nodes.first()).map_or(&machine.name, |n| &n.name);
        if *first != machine.name {
            bail!(
                "the host name was {first} and is {} now, but the node cannot change its name: set it back, or run deploy/down first",
                machine.name
            );
        }
        let node = |number: u8| match number {
            1 => Node { name: machine.name.clone(), address: machine.address, number },
            k => Node { name: format!("{}-{k}", machine.name), address: Ipv4Addr::new(10, 89, 0, k), number },
        };
        let nodes = (1..=MOST_NODES).take(nodes).map(node).collect();
        let registry_mirror = wishes.registry_mirror.or_else(|| before.and_then(|c| c.registry_mirror.clone()));
        let mut flags = before.map_or_else(Vec::new, |c| c.flags.clone());
        for flag in wishes.flags {
            flags.retain(|f| (&f.daemon, &f.name) != (&flag.daemon, &flag.name));
            if !flag.value.is_empty() {
                flags.push(flag);
            }
        }
        Ok(Self { nodes, mtu: machine.mtu, registry_mirror, flags, restrict_oom_score_adj: machine.restrict_oom_score_adj })
    }

    /// This machine's own node.
    #[must_use]
    pub fn host(&self) -> &Node {
        &self.nodes[0]
    }

    /// The nodes in namespaces.
    #[must_use]
    pub fn others(&self) -> &[Node] {
        &self.nodes[1..]
    }

    /// Where clients find the apiserver.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://{}:6443", self.host().address)
    }

    /// Where the cluster is written down.
    #[must_use]
    pub fn path() -> PathBuf {
        format!("{}/cluster.json", paths::CONFIG).into()
    }

    /// Reads the cluster of this machine; `None` when there is none.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn load() -> anyhow::Result<Option<Self>> {
        let path = Self::path();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let cluster: Self =
            serde_json::from_slice(&text).with_context(|| format!("{} is not what `up` wrote: run deploy/down first", path.display()))?;
        if cluster.nodes.is_empty() {
            bail!("{} names no node: run deploy/down first", path.display());
        }
        Ok(Some(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { name: "vm".into(), address: Ipv4Addr::new(192, 0, 2, 2), mtu: 1400, restrict_oom_score_adj: false }
    }

    fn wanted(before: Option<&Cluster>, nodes: Option<u8>) -> Result<String, String> {
        let cluster = Cluster::wanted(machine(), before, Wishes { nodes, ..Wishes::default() }).map_err(|e| e.to_string())?;
        Ok(cluster.nodes.iter().map(|n| format!("{}={}", n.name, n.address)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn nodes_are_added_and_the_first_keeps_its_address() {
        let one = Cluster::wanted(machine(), None, Wishes::default()).expect("a cluster");
        assert_eq!(wanted(None, None).as_deref(), Ok("vm=192.0.2.2"));
        assert_eq!(wanted(Some(&one), Some(3)).as_deref(), Ok("vm=192.0.2.2 vm-2=10.89.0.2 vm-3=10.89.0.3"));
        let three = Cluster::wanted(machine(), Some(&one), Wishes { nodes: Some(3), ..Wishes::default() }).expect("a cluster");
        assert_eq!(wanted(Some(&three), None), wanted(Some(&three), Some(3)), "no wish keeps what there is");
        assert!(wanted(Some(&three), Some(1)).is_err_and(|e| e.contains("deploy/down")));
        assert!(wanted(None, Some(0)).is_err());
        assert!(wanted(None, Some(200)).is_err());
    }

    #[test]
    fn a_mirror_is_remembered() {
        let mirror = Some("http://10.0.0.1:5000".to_owned());
        let wishes = Wishes { registry_mirror: mirror.clone(), ..Wishes::default() };
        let first = Cluster::wanted(machine(), None, wishes).expect("a cluster");
        assert_eq!(Cluster::wanted(machine(), Some(&first), Wishes::default()).expect("a cluster").registry_mirror, mirror);
    }

    #[test]
    fn flags_are_remembered_until_they_are_changed_or_emptied() {
        let with = |before: Option<&Cluster>, flags: &[&str]| {
            let flags = flags.iter().map(|f| f.parse().expect("a flag")).collect();
            Cluster::wanted(machine(), before, Wishes { flags, ..Wishes::default() }).expect("a cluster")
        };
        let shown = |c: &Cluster| c.flags.iter().map(|f| format!("{}:{}={}", f.daemon, f.name, f.value)).collect::<Vec<_>>().join(" ");
        let first = with(None, &["kubelet:max-pods=7", "apiserver:v=4"]);
        let second = with(Some(&first), &["kubelet:--max-pods=8"]);
        assert_eq!(shown(&second), "apiserver:v=4 kubelet:max-pods=8");
        assert_eq!(shown(&with(Some(&second), &["apiserver:v="])), "kubelet:max-pods=8");
        for bad in ["", "kubelet", "kubelet:max-pods", "nobody:v=1", "kubelet:=1", "kubelet:a b=1"] {
            assert!(bad.parse::<DaemonFlag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn files_of_a_node_in_namespaces_are_below_its_directory() {
        let node = Node { name: "vm-2".into(), address: NODE_GATEWAY, number: 2 };
        for (inside, outside) in [
            ("/etc/kubernetes/kubelet.conf", "/var/lib/ferrite/nodes/vm-2/etc/kubernetes/kubelet.conf"),
            ("/run/ferrite/supervisor.sock", "/run/ferrite/nodes/vm-2/supervisor.sock"),
            ("/var/log/ferrite/kubelet.log", "/var/log/ferrite/vm-2/kubelet.log"),
        ] {
            assert_eq!(node.file(inside), PathBuf::from(outside));
        }
    }
}
