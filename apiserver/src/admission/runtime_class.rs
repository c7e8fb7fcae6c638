//! A pod of a RuntimeClass costs what the class says and runs where the class says.

use api::object::ObjectKey;
use api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::{items, map, text};

/// Upstream's `RuntimeClass`.
pub struct RuntimeClass;

impl Step for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn admit(&self, at: &Attributes<'_>, pod: &mut Value, view: &dyn View) -> Result<(), Status> {
        let Some(class) = class_of(at, pod, view)? else { return Ok(()) };
        if let Some(overhead) = class.pointer("/overhead/podFixed") {
            let given = pod["spec"].get("overhead").filter(|o| o.as_object().is_some_and(|o| !o.is_empty()));
            if given.is_some_and(|g| g != overhead) {
                return Err(at.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"));
            }
            pod["spec"]["overhead"] = overhead.clone();
        }
        let mut selector = map(pod, "/spec/nodeSelector");
        for (key, value) in map(&class, "/scheduling/nodeSelector") {
            match selector.get(&key) {
                Some(own) if *own != value => {
                    let why =
                        format!("conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}");
                    return Err(at.forbidden(&why));
                }
                _ => selector.insert(key, value),
            };
        }
        if !selector.is_empty() {
            pod["spec"]["nodeSelector"] = json!(selector);
        }
        let mut tolerations = items(pod, "/spec/tolerations").to_vec();
        let before = tolerations.len();
        for toleration in items(&class, "/scheduling/tolerations") {
            if !tolerations.contains(toleration) {
                tolerations.push(toleration.clone());
            }
        }
        if tolerations.len() > before {
            pod["spec"]["tolerations"] = tolerations.into();
        }
        Ok(())
    }

    fn validate(&self, at: &Attributes<'_>, pod: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        let class = class_of(at, pod, view)?;
        let overhead = class.as_ref().and_then(|c| c.pointer("/overhead/podFixed"));
        let given = pod["spec"].get("overhead").and_then(Value::as_object).is_some_and(|o| !o.is_empty());
        if at.creates("", "pods") && given && overhead.is_none() {
            return Err(at.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"));
        }
        Ok(())
    }
}

fn class_of(at: &Attributes<'_>, pod: &Value, view: &dyn View) -> Result<Option<std::sync::Arc<Value>>, Status> {
    let name = text(pod, "/spec/runtimeClassName");
    if at.operation != Operation::Create || !at.is("", "pods") || name.is_empty() {
        return Ok(None);
    }
    match view.get("node.k8s.io", "runtimeclasses", &ObjectKey::cluster(name)) {
        Some(class) => Ok(Some(class)),
        None => Err(at.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left};
    use super::RuntimeClass;
    use crate::resources::core::pod;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        let class = "{metadata: {name: vm}, handler: h, overhead: {podFixed: {cpu: 100m}}, scheduling: {nodeSelector: {vm: 'yes'}, tolerations: [{key: vm}]}}";
        let world = World::of(&[("node.k8s.io", "runtimeclasses", class)]);
        let pod = format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}");
        expected.assert_eq(&left(&RuntimeClass, &world, &Request::create(pod::row(), &pod), "/spec"));
    }

    #[test]
    fn as_the_class_says() {
        check(
            "runtimeClassName: vm",
            expect![[r#"{"nodeSelector":{"vm":"yes"},"overhead":{"cpu":"100m"},"runtimeClassName":"vm","tolerations":[{"key":"vm"}]}"#]],
        );
        check(
            "runtimeClassName: vm, nodeSelector: {vm: 'no'}",
            expect![[r#"pods "a" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"#]],
        );
        check("runtimeClassName: none", expect![[r#"pods "a" is forbidden: pod rejected: RuntimeClass "none" not found"#]]);
        check(
            "overhead: {cpu: 1}",
            expect![[r#"pods "a" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"#]],
        );
    }
}
