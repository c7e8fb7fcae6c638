//! Node ports: a number belongs to one Service, whatever the protocol. Within that Service several protocols may share it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use api::field::{Errors, Path};
use api::object::Meta as _;
use api::status::Status;
use serde_json::{Value, json};

use super::{Extra, Reserve, pick};
use crate::storage::codec;

/// Under which numbers in use stand.
pub const PREFIX: &str = "/registry/ranges/nodeports/";

/// The pool of node ports.
#[derive(Debug, Clone)]
pub struct NodePorts {
    range: RangeInclusive<u16>,
}

impl NodePorts {
    /// The pool of a range (`--service-node-port-range`).
    #[must_use]
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self { range }
    }

    fn size(&self) -> u64 {
        u64::from(self.range.end() - self.range.start()) + 1
    }

    /// How many of the low ports are left to those who ask by value: a 32nd, within 16 and 128.
    fn reserved(&self) -> u64 {
        let size = self.size();
        if size < 16 { 0 } else { (size / 32).clamp(16, 128) }
    }

    fn any(&self, taken: &BTreeSet<String>, now: &BTreeSet<i64>, random: u64) -> Result<i64, Status> {
        let port = |n: u64| i64::from(*self.range.start()) + i64::try_from(n).unwrap_or(i64::MAX);
        let free = |n: u64| !taken.contains(&port(n).to_string()) && !now.contains(&port(n));
        let chosen = pick(self.size(), self.reserved(), random, free);
        chosen.map(port).ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
    }

    fn check(&self, port: i64, taken: &BTreeSet<String>) -> Result<(), String> {
        if !u16::try_from(port).is_ok_and(|p| self.range.contains(&p)) {
            let (first, last) = (self.range.start(), self.range.end());
            return Err(format!("provided port is not in the valid range. The range of valid ports is {first}-{last}"));
        }
        if taken.contains(&port.to_string()) { Err("provided port is already allocated".to_owned()) } else { Ok(()) }
    }

    /// Gives numbers to the ports of a Service that have none. The same port in another protocol shares its number.
    fn fill(&self, service: &mut Value, taken: &BTreeSet<String>, random: u64) -> Result<(), Status> {
        let mut now = held(Some(service));
        let spec = &mut service["spec"];
        let needs = needs_node_ports(spec);
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut).filter(|_| needs);
        let mut by_port: Vec<(i64, String, i64)> = Vec::new();
        for (i, port) in ports.into_iter().flatten().enumerate() {
            let (number, protocol) = (port["port"].as_i64().unwrap_or(0), port["protocol"].as_str().unwrap_or("TCP").to_owned());
            let mut node_port = port["nodePort"].as_i64().unwrap_or(0);
            if node_port == 0 {
                let shared = by_port.iter().find(|(n, p, _)| *n == number && *p != protocol).map(|(_, _, node)| *node);
                node_port = match shared {
                    Some(shared) => shared,
                    None => self.any(taken, &now, random.rotate_left(u32::try_from(i % 64).unwrap_or(0)))?,
                };
                port["nodePort"] = node_port.into();
                now.insert(node_port);
            }
            by_port.push((number, protocol, node_port));
        }
        let spec = &mut service["spec"];
        if needs_health_check_port(spec) && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0 {
            spec["healthCheckNodePort"] = self.any(taken, &now, random.rotate_left(32))?.into();
        }
        Ok(())
    }
}

fn needs_node_ports(spec: &Value) -> bool {
    spec["type"] == "NodePort" || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false)
}

fn needs_health_check_port(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// The ports that a Service holds, with the fields they stand in.
fn fields(service: &Value) -> Vec<(Path, i64)> {
    let spec = &service["spec"];
    let path = Path::new("spec");
    let ports = spec["ports"].as_array().into_iter().flatten().enumerate();
    let mut out: Vec<(Path, i64)> =
        ports.map(|(i, p)| (path.child("ports").index(i).child("nodePort"), p["nodePort"].as_i64().unwrap_or(0))).collect();
    out.push((path.child("healthCheckNodePort"), spec["healthCheckNodePort"].as_i64().unwrap_or(0)));
    out.retain(|(_, port)| *port != 0);
    out
}

fn held(service: Option<&Value>) -> BTreeSet<i64> {
    service.map(fields).unwrap_or_default().into_iter().map(|(_, port)| port).collect()
}

/// What is stored of a port in use.
fn record(port: i64, service: &Value) -> Option<Vec<u8>> {
    codec::encode(&json!({"metadata": {"name": port.to_string()}, "service": format!("{}/{}", service.namespace(), service.name())}))
}

impl Reserve for NodePorts {
    fn pools(&self) -> Vec<String> {
        vec![PREFIX.to_owned()]
    }

    fn holds(&self, object: &Value, _: u64) -> Vec<(String, Vec<u8>)> {
        held(Some(object)).into_iter().filter_map(|port| Some((format!("{PREFIX}{port}"), record(port, object)?))).collect()
    }

    fn is_ours(&self, _: &Value) -> bool {
        true
    }

    fn reserve(&self, new: Option<&mut Value>, old: Option<&Value>, taken: &[BTreeSet<String>], random: u64) -> Result<Vec<Extra>, Status> {
        let empty = BTreeSet::new();
        let taken = taken.first().unwrap_or(&empty);
        let before = held(old);
        let mut now = BTreeSet::new();
        let mut extras = Vec::new();
        if let Some(new) = new {
            self.fill(new, taken, random)?;
            for (path, port) in fields(new) {
                if !now.insert(port) || before.contains(&port) {
                    continue;
                }
                self.check(port, taken).map_err(|why| refused(new, &path, port, &why))?;
                let value = record(port, new).ok_or_else(|| Status::internal("a node port's record has metadata"))?;
                extras.push(Extra::Take { key: format!("{PREFIX}{port}"), value });
            }
        }
        extras.extend(before.difference(&now).map(|port| Extra::Release { key: format!("{PREFIX}{port}") }));
        Ok(extras)
    }
}

fn refused(service: &Value, path: &Path, port: i64, why: &str) -> Status {
    let mut errors = Errors::new();
    errors.invalid(path, port, why);
    Status::invalid("", "Service", service.name(), &errors)
}

#[cfg(test)]
mod tests {
    use super::super::tests::show;
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(new: Option<Value>, old: Option<Value>, taken: &[&str], expected: Expect) {
        expected.assert_eq(&show(&NodePorts::new(30000..=32767), "/spec/ports", new, old, taken));
    }

    fn service(kind: &str, ports: Value) -> Option<Value> {
        Some(json!({"metadata": {"name": "a", "namespace": "x"}, "spec": {"type": kind, "ports": ports}}))
    }

    #[test]
    fn protocols_of_a_port_share_its_number() {
        let dns = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]);
        check(
            service("NodePort", dns),
            None,
            &["30086"],
            expect![[r#"
            [{"nodePort":30087,"port":53,"protocol":"UDP"},{"nodePort":30087,"port":53,"protocol":"TCP"},{"nodePort":30088,"port":80,"protocol":"TCP"}]
            take /registry/ranges/nodeports/30087
            take /registry/ranges/nodeports/30088"#]],
        );
        check(service("ClusterIP", json!([{"port": 80}])), None, &[], expect![[r#"[{"port":80}]"#]]);
    }

    #[test]
    fn asked_for_by_value() {
        let asked = |port: i64| service("NodePort", json!([{"port": 80, "nodePort": port}]));
        check(
            asked(30000),
            None,
            &["30000"],
            expect![[r#"Service "a" is invalid: spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"#]],
        );
        check(
            asked(80),
            None,
            &[],
            expect![[
                r#"Service "a" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"#
            ]],
        );
        check(
            asked(30001),
            asked(30000),
            &["30000"],
            expect![[r#"
            [{"nodePort":30001,"port":80}]
            take /registry/ranges/nodeports/30001
            release /registry/ranges/nodeports/30000"#]],
        );
        check(None, asked(30000), &["30000"], expect!["release /registry/ranges/nodeports/30000"]);
    }
}
