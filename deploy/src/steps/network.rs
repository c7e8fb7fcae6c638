//! The wire between this machine and its nodes in namespaces: a bridge, and their way out of this machine.

use std::path::Path;

use anyhow::Context as _;

use super::Outcome;
use crate::cluster::{NODE_GATEWAY, NODE_SUBNET, POD_RANGE};
use crate::command::{self, ip};
use crate::paths::NODE_BRIDGE;
use crate::up::Up;

/// Our table; kube-proxy has one of its own.
pub const TABLE: &str = "ferrite_nodes";

/// # Errors
/// The kernel refuses a link, an address or a rule.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    if up.cluster.others().is_empty() {
        return Ok(Outcome::Unchanged("not needed for one node".into()));
    }
    let mut changed = false;
    if !Path::new("/sys/class/net").join(NODE_BRIDGE).exists() {
        ip(&format!("link add {NODE_BRIDGE} mtu {} type bridge", up.cluster.mtu))?;
        changed = true;
    }
    if !ip(&format!("-4 address show dev {NODE_BRIDGE}"))?.contains(&format!("{NODE_GATEWAY}/")) {
        ip(&format!("address add {NODE_GATEWAY}/24 dev {NODE_BRIDGE}"))?;
        changed = true;
    }
    ip(&format!("link set {NODE_BRIDGE} up"))?;
    if command::run("nft", ["list", "table", "ip", TABLE]).is_err() {
        // Nodes share this machine's way out. Pods are translated by their node, to its address.
        let rules = format!(
            "table ip {TABLE} {{\nchain postrouting {{\ntype nat hook postrouting priority srcnat;\n\
             ip saddr {NODE_SUBNET} ip daddr != {POD_RANGE} oifname != \"{NODE_BRIDGE}\" masquerade\n}}\n}}\n"
        );
        command::run("nft", [&rules]).context("making the table of the nodes' way out")?;
        changed = true;
    }
    Ok(Outcome::of(changed, format!("{NODE_BRIDGE}, {NODE_SUBNET}")))
}
