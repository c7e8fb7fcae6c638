//! Values that objects take out of pools: cluster IPs and node ports.
//!
//! A reservation is decided purely, from what is known to be taken, and written in the *same* etcd transaction as the object that
//! takes it. So a value is never handed out twice, whatever number of apiservers there is, and never lost when one dies.

pub mod cluster_ip;
pub mod node_port;
pub mod repair;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::status::Status;
use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use serde_json::Value;

/// A key that is written or removed together with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// Create the key; the transaction fails when it exists.
    Take {
        /// The key in etcd.
        key: String,
        /// What is stored there.
        value: Vec<u8>,
    },
    /// Remove the key.
    Release {
        /// The key in etcd.
        key: String,
    },
}

/// Knows which pool values an object takes.
pub trait Reserve: Send + Sync {
    /// The etcd prefixes under which taken values stand; each taken value is the rest of a key.
    fn pools(&self) -> Vec<String>;

    /// Fills in values for `new` (absent on delete) given those of `old` (absent on create), and says what to take and release.
    /// `new` is the object as it was submitted, also when a value chosen before turned out to be taken meanwhile.
    /// `taken` holds, per pool, the values in use; `random` spreads choices.
    ///
    /// # Errors
    /// 422 for a value that is out of range or taken, 500 for an exhausted pool, as upstream.
    fn reserve(&self, new: Option<&mut Value>, old: Option<&Value>, taken: &[BTreeSet<String>], random: u64) -> Result<Vec<Extra>, Status>;

    /// The keys that an object holds, with what is stored under them.
    fn holds(&self, object: &Value, random: u64) -> Vec<(String, Vec<u8>)>;

    /// Whether what is stored under a key of the pools is there for an object of this kind, and nobody else's.
    fn is_ours(&self, stored: &Value) -> bool;
}

/// What Services take: an address of the cluster, and ports of the nodes.
#[must_use]
pub fn for_services(addresses: Arc<ArcSwap<Vec<Ipv4Net>>>, ports: RangeInclusive<u16>) -> Arc<dyn Reserve> {
    Arc::new(Several(vec![Box::new(cluster_ip::ClusterIps::new(addresses)), Box::new(node_port::NodePorts::new(ports))]))
}

/// Several pools as one.
struct Several(Vec<Box<dyn Reserve>>);

impl Reserve for Several {
    fn pools(&self) -> Vec<String> {
        self.0.iter().flat_map(|r| r.pools()).collect()
    }

    fn holds(&self, object: &Value, random: u64) -> Vec<(String, Vec<u8>)> {
        self.0.iter().flat_map(|r| r.holds(object, random)).collect()
    }

    fn is_ours(&self, stored: &Value) -> bool {
        self.0.iter().all(|r| r.is_ours(stored))
    }

    fn reserve(
        &self,
        mut new: Option<&mut Value>,
        old: Option<&Value>,
        taken: &[BTreeSet<String>],
        random: u64,
    ) -> Result<Vec<Extra>, Status> {
        let mut extras = Vec::new();
        let mut rest = taken;
        for one in &self.0 {
            let (its, others) = rest.split_at(one.pools().len().min(rest.len()));
            extras.extend(one.reserve(new.as_deref_mut(), old, its, random)?);
            rest = others;
        }
        Ok(extras)
    }
}

/// Picks a free number below `size`: from a random place on, above the first `reserved` as long as there are any.
fn pick(size: u64, reserved: u64, random: u64, free: impl Fn(u64) -> bool) -> Option<u64> {
    let around = |from: u64, to: u64| {
        let len = to.saturating_sub(from);
        (0..len).map(move |i| from + (random % len + i) % len)
    };
    around(reserved, size).chain(around(0, reserved)).find(|n| free(*n))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands at `pointer` after a reservation with no randomness, and what is taken and released; or the error.
    pub(super) fn show(pool: &dyn Reserve, pointer: &str, new: Option<Value>, old: Option<Value>, taken: &[&str]) -> String {
        let taken = [taken.iter().map(|s| (*s).to_owned()).collect()];
        let mut new = new;
        let extras = match pool.reserve(new.as_mut(), old.as_ref(), &taken, 0) {
            Ok(extras) => extras,
            Err(status) => return status.message,
        };
        let shown = new.map(|n| n.pointer(pointer).cloned().unwrap_or_default().to_string());
        let extras = extras.iter().map(|e| match e {
            Extra::Take { key, value } => {
                assert!(serde_json::from_slice::<Value>(value).unwrap()["metadata"]["name"].is_string());
                format!("take {key}")
            }
            Extra::Release { key } => format!("release {key}"),
        });
        shown.into_iter().chain(extras).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn several_pools_are_asked_with_their_own_values() {
        let pool = for_services(Arc::new(ArcSwap::from_pointee(vec!["10.96.0.0/24".parse().unwrap()])), 30000..=30100);
        assert_eq!(pool.pools().len(), 2);
        let mut service = serde_json::json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let taken = [BTreeSet::from(["10.96.0.17".to_owned()]), BTreeSet::from(["30016".to_owned()])];
        let extras = pool.reserve(Some(&mut service), None, &taken, 0).unwrap();
        assert_eq!(extras.len(), 2);
        assert_eq!((&service["spec"]["clusterIP"], &service["spec"]["ports"][0]["nodePort"]), (&"10.96.0.18".into(), &30017.into()));
    }

    #[test]
    fn every_number_is_found_before_a_pool_is_full() {
        let mut taken = BTreeSet::new();
        while let Some(n) = pick(50, 16, 12345, |n| !taken.contains(&n)) {
            assert!(taken.len() >= 34 || n >= 16, "the reserved part comes last");
            taken.insert(n);
        }
        assert_eq!(taken.len(), 50);
    }
}
