//! Cluster IPs: each that is taken is an IPAddress object, whose name is the address and whose parent is the Service.
//!
//! The low part of the range is left to Services that ask for an address by value, and used for others only when the rest is full
//! (KEP-3070).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::field::{Errors, Path};
use api::object::Meta as _;
use api::status::Status;
use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{Extra, Reserve, pick};
use crate::storage::codec;

/// Where IPAddress objects stand, and so what their row is stored as.
pub const PREFIX: &str = "/registry/ipaddresses/";
/// The label that says who keeps an IPAddress.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Its value for those that are kept here.
const ALLOCATOR: &str = "ipallocator.k8s.io";

/// The pool of the cluster's Service addresses.
#[derive(Debug, Clone)]
pub struct ClusterIps {
    ranges: Arc<ArcSwap<Vec<Ipv4Net>>>,
}

/// One range of it.
#[derive(Debug, Clone, Copy)]
struct Range(Ipv4Net);

impl ClusterIps {
    /// The pool of ranges: that of the flags (`--service-cluster-ip-range`), and those of ServiceCIDR objects as they come and go.
    #[must_use]
    pub fn new(ranges: Arc<ArcSwap<Vec<Ipv4Net>>>) -> Self {
        Self { ranges }
    }

    fn any(&self, taken: &BTreeSet<String>, random: u64) -> Option<String> {
        self.ranges.load().iter().map(|r| Range(*r)).find_map(|range| {
            let chosen = pick(range.size(), range.reserved(), random, |n| !taken.contains(&range.address(n)))?;
            Some(range.address(chosen))
        })
    }

    fn check(&self, ip: &str, taken: &BTreeSet<String>) -> Result<(), String> {
        let ranges = self.ranges.load();
        if !ranges.iter().any(|r| Range(*r).has(ip)) {
            let shown: Vec<String> = ranges.iter().map(Ipv4Net::to_string).collect();
            return Err(format!("provided IP is not in the valid range. The range of valid IPs is {}", shown.join(",")));
        }
        if taken.contains(ip) { Err("provided IP is already allocated".to_owned()) } else { Ok(()) }
    }
}

/// The first address of a range is the network's, and its last is left alone.
impl Range {
    /// How many addresses there are to give.
    fn size(self) -> u64 {
        (1u64 << (32 - u32::from(self.0.prefix_len()))).saturating_sub(2)
    }

    fn address(self, n: u64) -> String {
        let first = u32::from(self.0.network());
        Ipv4Addr::from(first.wrapping_add(u32::try_from(n).unwrap_or(u32::MAX)).wrapping_add(1)).to_string()
    }

    /// How many of the low addresses are left to those who ask by value: a sixteenth, within 16 and 256.
    fn reserved(self) -> u64 {
        let size = self.size();
        if size < 16 { 0 } else { (size / 16).clamp(16, 256) }
    }

    fn has(self, ip: &str) -> bool {
        ip.parse::<Ipv4Addr>().is_ok_and(|a| self.0.contains(&a) && a != self.0.network() && a != self.0.broadcast())
    }
}

/// The addresses that a Service holds.
fn held(service: Option<&Value>) -> Vec<String> {
    let Some(spec) = service.and_then(|s| s.get("spec")) else { return vec![] };
    if spec["type"] == "ExternalName" {
        return vec![];
    }
    let plural = spec.get("clusterIPs").and_then(Value::as_array).cloned().unwrap_or_default();
    let all = if plural.is_empty() { vec![spec["clusterIP"].clone()] } else { plural };
    all.iter().filter_map(Value::as_str).filter(|ip| !ip.is_empty() && *ip != "None").map(str::to_owned).collect()
}

fn wants_any(service: &Value) -> bool {
    let spec = &service["spec"];
    let none = |v: &Value| v.as_str().unwrap_or("").is_empty();
    spec["type"] != "ExternalName" && none(&spec["clusterIP"]) && spec["clusterIPs"].as_array().is_none_or(|l| l.iter().all(none))
}

/// The object that says whose an address is.
fn ip_address(ip: &str, service: &Value, random: u64) -> Value {
    let uid = uuid::Builder::from_random_bytes(
        (u128::from(random) << 64 | u128::from(random.rotate_left(17) ^ 0x9e37_79b9_7f4a_7c15)).to_be_bytes(),
    );
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip, "uid": uid.into_uuid().to_string(), "creationTimestamp": service.meta_str("creationTimestamp"),
            "labels": {"ipaddress.kubernetes.io/ip-family": "IPv4", MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": service.namespace(), "name": service.name()}},
    })
}

impl Reserve for ClusterIps {
    fn pools(&self) -> Vec<String> {
        vec![PREFIX.to_owned()]
    }

    fn reserve(&self, new: Option<&mut Value>, old: Option<&Value>, taken: &[BTreeSet<String>], random: u64) -> Result<Vec<Extra>, Status> {
        let empty = BTreeSet::new();
        let taken = taken.first().unwrap_or(&empty);
        let before = held(old);
        let mut extras = Vec::new();
        let mut now = Vec::new();
        if let Some(new) = new {
            if wants_any(new) {
                let chosen = self.any(taken, random).ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?;
                new["spec"]["clusterIP"] = chosen.as_str().into();
                new["spec"]["clusterIPs"] = json!([chosen]);
            }
            now = held(Some(new));
            for ip in now.iter().filter(|ip| !before.contains(ip)) {
                self.check(ip, taken).map_err(|why| refused(new, ip, &why))?;
                let value = codec::encode(&ip_address(ip, new, random)).ok_or_else(|| Status::internal("an IPAddress has metadata"))?;
                extras.push(Extra::Take { key: format!("{PREFIX}{ip}"), value });
            }
        }
        extras.extend(before.iter().filter(|ip| !now.contains(ip)).map(|ip| Extra::Release { key: format!("{PREFIX}{ip}") }));
        Ok(extras)
    }

    fn holds(&self, object: &Value, random: u64) -> Vec<(String, Vec<u8>)> {
        let one = |ip: String| Some((format!("{PREFIX}{ip}"), codec::encode(&ip_address(&ip, object, random))?));
        held(Some(object)).into_iter().filter_map(one).collect()
    }

    fn is_ours(&self, stored: &Value) -> bool {
        // Anybody may make IPAddress objects; those that the allocator makes say so.
        stored["kind"] != "IPAddress" || stored.labels().get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR)
    }
}

fn refused(service: &Value, ip: &str, why: &str) -> Status {
    let mut errors = Errors::new();
    let shown = json!(held(Some(service)));
    errors.invalid(&Path::new("spec").child("clusterIPs"), &shown, &format!("failed to allocate IP {ip}: {why}"));
    Status::invalid("", "Service", service.name(), &errors)
}

#[cfg(test)]
mod tests {
    use super::super::tests::show;
    use super::*;
    use expect_test::{Expect, expect};

    fn pool(ranges: &[&str]) -> ClusterIps {
        ClusterIps::new(Arc::new(ArcSwap::from_pointee(ranges.iter().map(|r| r.parse().unwrap()).collect())))
    }

    #[track_caller]
    fn check(new: Option<Value>, old: Option<Value>, taken: &[&str], expected: Expect) {
        let pool = pool(&["10.96.0.0/24"]);
        expected.assert_eq(&show(&pool, "/spec/clusterIPs", new, old, taken));
    }

    fn service(spec: Value) -> Option<Value> {
        Some(json!({"metadata": {"name": "a", "namespace": "x"}, "spec": spec}))
    }

    #[test]
    fn chosen_above_the_part_for_those_who_ask() {
        check(
            service(json!({"type": "ClusterIP"})),
            None,
            &[],
            expect![[r#"
            ["10.96.0.17"]
            take /registry/ipaddresses/10.96.0.17"#]],
        );
        check(
            service(json!({"type": "ClusterIP"})),
            None,
            &["10.96.0.17"],
            expect![[r#"
            ["10.96.0.18"]
            take /registry/ipaddresses/10.96.0.18"#]],
        );
    }

    #[test]
    fn asked_for_by_value() {
        let asked = |ip: &str| service(json!({"clusterIP": ip, "clusterIPs": [ip]}));
        check(
            asked("10.96.0.9"),
            None,
            &[],
            expect![[r#"
            ["10.96.0.9"]
            take /registry/ipaddresses/10.96.0.9"#]],
        );
        check(
            asked("10.96.0.9"),
            None,
            &["10.96.0.9"],
            expect![[
                r#"Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.9"]: failed to allocate IP 10.96.0.9: provided IP is already allocated"#
            ]],
        );
        check(
            asked("10.97.0.9"),
            None,
            &[],
            expect![[
                r#"Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.97.0.9"]: failed to allocate IP 10.97.0.9: provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/24"#
            ]],
        );
        check(asked("None"), None, &[], expect![[r#"["None"]"#]]);
    }

    #[test]
    fn kept_and_given_back() {
        let with = service(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}));
        check(with.clone(), with.clone(), &["10.96.0.9"], expect![[r#"["10.96.0.9"]"#]]);
        check(None, with.clone(), &["10.96.0.9"], expect!["release /registry/ipaddresses/10.96.0.9"]);
        check(
            service(json!({"type": "ExternalName"})),
            with,
            &["10.96.0.9"],
            expect![[r#"
            null
            release /registry/ipaddresses/10.96.0.9"#]],
        );
    }

    #[test]
    fn a_full_range_says_so() {
        let both = ["10.96.0.1", "10.96.0.2"];
        let more = show(&pool(&["10.96.0.0/30", "10.97.0.0/30"]), "/spec/clusterIP", service(json!({})), None, &both);
        assert_eq!(more, "\"10.97.0.1\"\ntake /registry/ipaddresses/10.97.0.1", "a further range takes over");
        let pool = pool(&["10.96.0.0/30"]);
        let full = show(&pool, "", service(json!({})), None, &["10.96.0.1", "10.96.0.2"]);
        assert_eq!(full, "Internal error occurred: failed to allocate a serviceIP: range is full");
    }
}
