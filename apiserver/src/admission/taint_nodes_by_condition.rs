//! A new node takes no pods until its controller has seen it ready.

use api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Step, View};
use crate::resources::cells::items;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Upstream's `TaintNodesByCondition`.
pub struct TaintNodesByCondition;

impl Step for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn admit(&self, at: &Attributes<'_>, node: &mut Value, _: &dyn View) -> Result<(), Status> {
        let has = items(node, "/spec/taints").iter().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule");
        if !at.creates("", "nodes") || has {
            return Ok(());
        }
        if !node["spec"].is_object() {
            node["spec"] = json!({});
        }
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        match node["spec"].get_mut("taints").and_then(Value::as_array_mut) {
            Some(list) => list.push(taint),
            None => node["spec"]["taints"] = json!([taint]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left};
    use super::TaintNodesByCondition;
    use crate::resources::core::nodes;

    #[test]
    fn once() {
        let taints = |node: &str| left(&TaintNodesByCondition, &World::default(), &Request::create(nodes::row(), node), "/spec/taints");
        let tainted = r#"[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready"}]"#;
        assert_eq!(taints("{metadata: {name: a}}"), tainted);
        assert_eq!(taints(&format!("{{metadata: {{name: a}}, spec: {{taints: {tainted}}}}}")), tainted);
    }
}
