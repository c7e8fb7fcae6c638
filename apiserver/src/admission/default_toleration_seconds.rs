//! A pod stays for a while on a node that is not ready or not heard of: as long as the flags say, unless it says otherwise.

use api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Step, View};
use crate::resources::cells::{items, text};

/// Upstream's `DefaultTolerationSeconds`.
pub struct DefaultTolerationSeconds;

impl Step for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit(&self, at: &Attributes<'_>, pod: &mut Value, view: &dyn View) -> Result<(), Status> {
        if !at.is("", "pods") || !matches!(at.operation, Operation::Create | Operation::Update) || !pod["spec"].is_object() {
            return Ok(());
        }
        let stays = view.stays();
        for (key, seconds) in [("node.kubernetes.io/not-ready", stays.not_ready), ("node.kubernetes.io/unreachable", stays.unreachable)] {
            let about =
                |t: &Value| (text(t, "/key") == key || text(t, "/key").is_empty()) && matches!(text(t, "/effect"), "NoExecute" | "");
            if items(pod, "/spec/tolerations").iter().any(about) {
                continue;
            }
            let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
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
    fn as_long_as_the_flags_say_unless_said_otherwise() {
        let own = "{metadata: {name: a}, spec: {tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists}]}}";
        expect![[r#"[{"key":"node.kubernetes.io/not-ready","operator":"Exists"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":120}]"#]]
            .assert_eq(&left(&DefaultTolerationSeconds, &World::default(), &Request::create(pod::row(), own), "/spec/tolerations"));
        let all = "{metadata: {name: a}, spec: {tolerations: [{operator: Exists}]}}";
        let left = left(&DefaultTolerationSeconds, &World::default(), &Request::create(pod::row(), all), "/spec/tolerations");
        assert_eq!(left, r#"[{"operator":"Exists"}]"#);
    }
}
