//! Gives each node its range of pod addresses, out of the cluster's.
//!
//! What is taken is read off the nodes themselves; there is one worker, and the cache has our own writes, so no range is given twice.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;

use crate::cache::Change;
use crate::caches::Caches;
use crate::flags::Flags;
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// When no range is left, it is tried again after this long.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// A cluster range and how it is divided.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The whole.
    pub range: IpNet,
    /// Bits of a node's part.
    pub bits: u8,
}

/// What a plan is made from.
pub struct Observed<'a> {
    /// The node.
    pub node: &'a Node,
    /// One pool for each address family.
    pub pools: &'a [Pool],
    /// What must not be given: Service ranges, and what other nodes have.
    pub taken: &'a [IpNet],
    /// The time.
    pub now: Timestamp,
}

/// Gives the node a range from each pool, unless it has some.
#[must_use]
pub fn plan(seen: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    if seen.node.spec.as_ref().is_some_and(|s| s.pod_cidr.is_some()) || seen.node.deleting() {
        return plan;
    }
    let given: Option<Vec<String>> = seen.pools.iter().map(|pool| Some(free(pool, seen.taken)?.to_string())).collect();
    let Some(given) = given else {
        let text = format!("Node {} status is now: CIDRNotAvailable", seen.node.name());
        plan.push(Action::tell(seen.node, "CIDRNotAvailable", text));
        plan.recheck(seen.now.saturating_add(RETRY).unwrap_or(Timestamp::MAX));
        return plan;
    };
    let mut node = seen.node.clone();
    let spec = node.spec.get_or_insert_default();
    spec.pod_cidr = given.first().cloned();
    spec.pod_cidrs = Some(given);
    plan.update(seen.node, &node);
    plan
}

/// The lowest part of the pool that overlaps nothing taken.
fn free(pool: &Pool, taken: &[IpNet]) -> Option<IpNet> {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
    pool.range.subnets(pool.bits).ok()?.find(|part| !taken.iter().any(|t| overlaps(t, part)))
}

/// The controller.
pub struct NodeIpam {
    pools: Vec<Pool>,
    reserved: Vec<IpNet>,
}

impl NodeIpam {
    /// As the flags say.
    ///
    /// # Errors
    /// No cluster range, more than one of a family, or parts larger than the whole.
    pub fn new(flags: &Flags) -> anyhow::Result<Self> {
        let pool = |range: &IpNet| {
            let bits = if range.addr().is_ipv4() { flags.node_cidr_mask_size } else { flags.node_cidr_mask_size_ipv6 };
            let range = range.trunc();
            range.subnets(bits).map_err(|_| anyhow::anyhow!("--cluster-cidr {range} cannot be divided into /{bits}"))?;
            Ok(Pool { range, bits })
        };
        let pools: Vec<Pool> = flags.cluster_cidr.iter().map(pool).collect::<anyhow::Result<_>>()?;
        let of = |v4: bool| pools.iter().filter(|p| p.range.addr().is_ipv4() == v4).count();
        anyhow::ensure!(!pools.is_empty(), "--allocate-node-cidrs needs --cluster-cidr");
        anyhow::ensure!(of(true) <= 1 && of(false) <= 1, "--cluster-cidr takes one range of each address family");
        Ok(Self { pools, reserved: flags.service_cluster_ip_range.clone() })
    }
}

/// A node's ranges.
fn ranges(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let many = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
    let one = spec.and_then(|s| s.pod_cidr.clone());
    let parse = |text: &String| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    many.iter().chain(&one).filter_map(parse).collect()
}

impl Controller for NodeIpam {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.nodes.subscribe(move |change: Change<'_, Node>| {
            if change.new.is_some_and(|n| n.spec.as_ref().is_none_or(|s| s.pod_cidr.is_none())) {
                own.add(change.latest().key());
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(node) = view.caches.nodes.get(key) else { return Plan::default() };
        let mut taken = self.reserved.clone();
        taken.extend(view.caches.nodes.list().iter().flat_map(|n| ranges(n)));
        plan(&Observed { node: &node, pools: &self.pools, taken: &taken, now: view.now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use clap::Parser as _;
    use expect_test::{Expect, expect};
    use serde_json::json;

    #[track_caller]
    fn check(flags: &[&str], nodes: &str, expected: Expect) {
        let controller = NodeIpam::new(&Flags::parse_from(std::iter::once(&"x").chain(flags))).expect("flags");
        let mut world = World::new();
        for line in nodes.lines() {
            let (name, range) = line.split_once(' ').unwrap_or((line, ""));
            let spec = if range.is_empty() { json!({}) } else { json!({"podCIDR": range, "podCIDRs": [range]}) };
            world.add::<Node>(json!({"metadata": {"name": name}, "spec": spec}));
        }
        world.settle::<Node>(&controller);
        let all = world.list::<Node>();
        let lines = all
            .iter()
            .map(|n| format!("{} {}\n", n.name(), n.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).unwrap_or_default().join(",")));
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn each_node_gets_the_lowest_free_range() {
        check(
            &["--cluster-cidr=10.244.0.0/16"],
            "a\nb 10.244.0.0/24\nc",
            expect![[r#"
                a 10.244.1.0/24
                b 10.244.0.0/24
                c 10.244.2.0/24
            "#]],
        );
    }

    #[test]
    fn both_families_and_not_the_services_addresses() {
        check(
            &["--cluster-cidr=10.0.0.0/8,fd00::/48", "--service-cluster-ip-range=10.0.0.0/23"],
            "a",
            expect![[r#"
                a 10.0.2.0/24,fd00::/64
            "#]],
        );
    }

    #[test]
    fn a_full_pool_is_told() {
        check(
            &["--cluster-cidr=10.0.0.0/24"],
            "a\nb",
            expect![[r#"
                a 10.0.0.0/24
                b 
            "#]],
        );
    }
}
