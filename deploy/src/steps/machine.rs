//! What this machine is, and writing down what it was before us and what it is to become.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::Outcome;
use crate::cluster::{Cluster, Machine, NODE_SUBNET};
use crate::ledger::Ledger;
use crate::up::Up;
use crate::{command, files, paths};

/// The number of CAP_SYS_RESOURCE, without which nobody lowers an `oom_score_adj`.
const CAP_SYS_RESOURCE: u32 = 24;

/// Looks at this machine.
///
/// # Errors
/// It has no usable name or no address.
pub fn look() -> anyhow::Result<Machine> {
    let name = nix::unistd::gethostname().context("asking for the host name")?;
    let name = name.to_str().context("the host name is not text")?.to_lowercase();
    let routes = command::ip("-json -4 route show default")?;
    let addresses = command::ip("-json -4 address show")?;
    let (address, mtu) = primary(&routes, &addresses)?;
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let capabilities = status.lines().find_map(|l| l.strip_prefix("CapEff:")).context("no CapEff in /proc/self/status")?;
    let capabilities = u64::from_str_radix(capabilities.trim(), 16).context("CapEff in /proc/self/status")?;
    Ok(Machine { name, address, mtu, restrict_oom_score_adj: capabilities & (1 << CAP_SYS_RESOURCE) == 0 })
}

/// The address of the interface with the default route, or of the first interface that has a global one.
fn primary(routes: &str, addresses: &str) -> anyhow::Result<(Ipv4Addr, u32)> {
    let routes: serde_json::Value = serde_json::from_str(routes).context("the routes that `ip` shows")?;
    let links: serde_json::Value = serde_json::from_str(addresses).context("the addresses that `ip` shows")?;
    let gateway = routes[0]["dev"].as_str();
    let found = links.as_array().into_iter().flatten().filter_map(|link| {
        let name = link["ifname"].as_str()?;
        let ours = name == paths::NODE_BRIDGE || name == paths::POD_BRIDGE;
        let address = link["addr_info"].as_array()?.iter().find(|a| a["scope"] == "global")?["local"].as_str()?.parse().ok()?;
        (!ours).then_some((name, address, u32::try_from(link["mtu"].as_u64()?).ok()?))
    });
    let all: Vec<(&str, Ipv4Addr, u32)> = found.collect();
    match all.iter().find(|(name, ..)| Some(*name) == gateway).or(all.first()) {
        Some((_, address, mtu)) => Ok((*address, *mtu)),
        None => {
            bail!("this machine has no IPv4 address but its loopback: give it one (for instance `ip address add 192.168.1.2/24 dev eth0`)")
        }
    }
}

/// Opens the ledger, makes the nodes' directories, and writes the cluster down.
///
/// # Errors
/// A file cannot be written, or the nodes' subnet is taken.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    if !up.cluster.others().is_empty() && up.cluster.host().address.octets()[..3] == [10, 89, 0] {
        bail!("this machine is in the subnet {NODE_SUBNET} itself, which the further nodes need");
    }
    Ledger::open()?;
    let mut changed = false;
    for node in up.cluster.others() {
        for dir in paths::NODE_DIRS.iter().chain(&[paths::RUN, paths::LOGS]) {
            changed |= files::ensure_dir(&node.file(dir))?;
        }
        let resolver = std::fs::read(resolv_conf()).unwrap_or_default();
        changed |= files::ensure(Path::new(&format!("{}/resolv.conf", paths::node_dir(&node.name))), &resolver, files::PUBLIC)?;
    }
    let text = serde_json::to_vec_pretty(&up.cluster).context("the cluster as JSON")?;
    changed |= files::ensure(&Cluster::path(), &text, files::PUBLIC)?;
    let host = up.cluster.host();
    Ok(Outcome::of(changed, format!("{} at {}, {} node(s)", host.name, host.address, up.cluster.nodes.len())))
}

/// The resolver configuration that is good outside this machine's own network namespace: not one that names a loopback address.
#[must_use]
pub fn resolv_conf() -> &'static str {
    const USUAL: &str = "/etc/resolv.conf";
    const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
    let text = std::fs::read_to_string(USUAL).unwrap_or_default();
    let is_local = text.lines().any(|l| l.strip_prefix("nameserver").is_some_and(|s| s.trim().starts_with("127.")));
    if is_local && Path::new(RESOLVED).exists() { RESOLVED } else { USUAL }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: &str = r#"[
        {"ifname": "lo", "mtu": 65536, "addr_info": [{"local": "127.0.0.1", "scope": "host"}]},
        {"ifname": "cni0", "mtu": 1400, "addr_info": [{"local": "10.244.0.1", "scope": "global"}]},
        {"ifname": "eth0", "mtu": 1500, "addr_info": [{"local": "192.0.2.2", "scope": "global"}]},
        {"ifname": "eth1", "mtu": 1400, "addr_info": [{"local": "192.0.2.3", "scope": "global"}]}]"#;

    #[test]
    fn the_default_route_decides() {
        assert_eq!(primary(r#"[{"dev": "eth1"}]"#, LINKS).expect("found"), ([192, 0, 2, 3].into(), 1400));
        assert_eq!(primary("[]", LINKS).expect("found"), ([192, 0, 2, 2].into(), 1500));
        assert!(primary("[]", "[]").is_err());
    }
}
