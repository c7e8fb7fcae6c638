//! kube-proxy: Services, host ports and NetworkPolicies of a cluster as one nftables table on each node, and routes to the
//! other nodes' pods.
//!
//! Start reading at [`compile::compile`], which turns what is known into the table as a value, and [`diff::diff`], which
//! says how one table becomes another. [`proxy`] is the loop around them. The proxy owns the table `ferrite`, routes marked
//! with its protocol number and the link `ferrite.vxlan`, and touches nothing else. Rules stay when it stops.

pub mod affinity;
pub mod compile;
pub mod conntrack;
pub mod diff;
pub mod elements;
pub mod encode;
pub mod endpoints;
pub mod flags;
pub mod health;
pub mod known;
pub mod links;
pub mod metrics;
pub mod model;
pub mod monitor;
pub mod netlink;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod render;
pub mod routes;
pub mod ruleset;
pub mod sink;
pub mod skeleton;
pub mod sysctl;
pub mod table;
pub mod watch;

use anyhow::Context as _;

pub use flags::Flags;
pub use proxy::run;

/// Removes the table, the routes and the link.
///
/// # Errors
/// The kernel's refusal.
pub async fn cleanup() -> anyhow::Result<()> {
    let rules = netlink::Netfilter::open().and_then(|mut n| encode::remove(&mut n)).context("removing the rules");
    let (connection, handle, _) = rtnetlink::new_connection().context("opening a socket for routes")?;
    let connection = tokio::spawn(connection);
    let routes = links::cleanup(&handle).await;
    connection.abort();
    rules.and(routes)
}

/// The name of this node: as given, or the host's in lower case.
///
/// # Errors
/// The host has no name that can be read.
pub fn node_name(flags: &Flags) -> anyhow::Result<String> {
    if let Some(name) = &flags.hostname_override {
        return Ok(name.trim().to_lowercase());
    }
    let name = nix::unistd::gethostname().context("reading the host's name")?;
    Ok(name.to_string_lossy().trim().to_lowercase())
}
