//! A pod stays five minutes on a node that is not ready or not heard of, unless it says otherwise.

use api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Step, View};
use crate::resources::cells::{items, text};

const SECONDS: i64 = 300;

/// Upstream's `DefaultTolerationSeconds`.
pub struct DefaultTolerationSeconds;

impl Step for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit(&self, at: &Attributes<'_>, pod: &mut Value, _: &dyn View) -> Result<(), Status> {
        if !at.is("", "pods") || !matches!(at.operation, Operation::Create | Operation::Update) || !pod["spec"].is_object() {
            return Ok(());
        }
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let about =
                |t: &Value| (text(t, "/key") == key || text(t, "/key").is_empty()) && matches!(text(t, "/effect"), "NoExecute" | "");
            if items(pod, "/spec/tolerations").iter().any(about) {
                continue;
            }
            let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
            match pod["spec"].get_mut("tolerations").and_then(Value::as_array_mut) {
                Some(list) => list.push(toleration),
                None => pod["spec"]["tolerations"] = json!([toleration]),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left};
    use super::DefaultTolerationSeconds;
    use crate::resources::core::pod;
    use expect_test::expect;

    #[test]
    fn five_minutes_unless_said_otherwise() {
        let own = "{metadata: {name: a}, spec: {tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists}]}}";
        expect![[r#"[{"key":"node.kubernetes.io/not-ready","operator":"Exists"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}]"#]]
            .assert_eq(&left(&DefaultTolerationSeconds, &World::default(), &Request::create(pod::row(), own), "/spec/tolerations"));
        let all = "{metadata: {name: a}, spec: {tolerations: [{operator: Exists}]}}";
        let left = left(&DefaultTolerationSeconds, &World::default(), &Request::create(pod::row(), all), "/spec/tolerations");
        assert_eq!(left, r#"[{"operator":"Exists"}]"#);
    }
}
