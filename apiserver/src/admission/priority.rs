//! A pod's priority is its PriorityClass's, and one class at most is everybody's.

use api::object::{Meta as _, ObjectKey};
use api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::{flag, int, text};
use crate::resources::scheduling::priorityclasses::SYSTEM;

const GROUP: &str = "scheduling.k8s.io";
const PREEMPT: &str = "PreemptLowerPriority";

/// Upstream's `Priority`.
pub struct Priority;

/// What a class gives to pods.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn of(class: &Value) -> Self {
        let preemption = text(class, "/preemptionPolicy");
        let preemption = if preemption.is_empty() { PREEMPT } else { preemption };
        Self { name: class.name().to_owned(), value: int(class, "/value"), preemption: preemption.to_owned() }
    }

    fn named(name: &str, view: &dyn View) -> Option<Self> {
        view.get(GROUP, "priorityclasses", &ObjectKey::cluster(name)).map(|c| Self::of(&c))
    }

    /// The class of pods that name none: the lowest of those marked so.
    fn default(view: &dyn View) -> Self {
        let all = view.list(GROUP, "priorityclasses", None);
        let marked = all.iter().filter(|c| flag(c, "/globalDefault")).min_by_key(|c| int(c, "/value"));
        marked.map_or_else(|| Self { name: String::new(), value: 0, preemption: PREEMPT.to_owned() }, |c| Self::of(c))
    }
}

impl Step for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn admit(&self, at: &Attributes<'_>, pod: &mut Value, view: &dyn View) -> Result<(), Status> {
        if !at.is("", "pods") || !pod["spec"].is_object() {
            return Ok(());
        }
        match (at.operation, at.old) {
            (Operation::Create, _) => give(at, pod, view),
            // Clients that do not know the fields leave them out.
            (Operation::Update, Some(old)) => {
                for field in ["priority", "preemptionPolicy"] {
                    if pod["spec"].get(field).is_none()
                        && let Some(before) = old["spec"].get(field)
                    {
                        pod["spec"][field] = before.clone();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn validate(&self, at: &Attributes<'_>, class: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        if !at.is(GROUP, "priorityclasses") {
            return Ok(());
        }
        if at.operation == Operation::Delete {
            let kept = SYSTEM.iter().any(|(name, _)| *name == at.name);
            return if kept { Err(at.forbidden("this is a system priority class and cannot be deleted")) } else { Ok(()) };
        }
        if !flag(class, "/globalDefault") {
            return Ok(());
        }
        let all = view.list(GROUP, "priorityclasses", None);
        match all.iter().find(|c| flag(c, "/globalDefault") && c.name() != class.name()) {
            Some(other) => {
                let why = format!("PriorityClass {} is already marked as default. Only one default can exist", other.name());
                Err(at.forbidden(&why))
            }
            None => Ok(()),
        }
    }
}

fn give(at: &Attributes<'_>, pod: &mut Value, view: &dyn View) -> Result<(), Status> {
    let name = text(pod, "/spec/priorityClassName");
    let class = if name.is_empty() {
        Class::default(view)
    } else {
        Class::named(name, view).ok_or_else(|| at.forbidden(&format!("no PriorityClass with name {name} was found")))?
    };
    const FROM: &str = "from the given PriorityClass name";
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|p| *p != class.value) {
        let computed = class.value;
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} {FROM}"
        );
        return Err(at.forbidden(&why));
    }
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str().filter(|p| *p != class.preemption) {
        let computed = &class.preemption;
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {computed} {FROM}"
        );
        return Err(at.forbidden(&why));
    }
    if !class.name.is_empty() {
        pod["spec"]["priorityClassName"] = class.name.into();
    }
    pod["spec"]["priority"] = json!(class.value);
    pod["spec"]["preemptionPolicy"] = class.preemption.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left, verdict};
    use super::{GROUP, Priority};
    use crate::resources::core::pod;
    use crate::resources::scheduling::priorityclasses;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        let world = World::of(&[
            (GROUP, "priorityclasses", "{metadata: {name: high}, value: 1000, preemptionPolicy: Never}"),
            (GROUP, "priorityclasses", "{metadata: {name: usual}, value: 10, globalDefault: true}"),
        ]);
        let pod = format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}");
        expected.assert_eq(&left(&Priority, &world, &Request::create(pod::row(), &pod), "/spec"));
    }

    #[test]
    fn from_the_class() {
        check("priorityClassName: high", expect![[r#"{"preemptionPolicy":"Never","priority":1000,"priorityClassName":"high"}"#]]);
        check(
            "hostNetwork: true",
            expect![[r#"{"hostNetwork":true,"preemptionPolicy":"PreemptLowerPriority","priority":10,"priorityClassName":"usual"}"#]],
        );
        check("priorityClassName: none", expect![[r#"pods "a" is forbidden: no PriorityClass with name none was found"#]]);
        check(
            "priorityClassName: high, priority: 5",
            expect![[
                r#"pods "a" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name"#
            ]],
        );
    }

    #[test]
    fn the_systems_classes_stay() {
        let delete = |name: &str| {
            let object = format!("{{metadata: {{name: {name}}}, value: 1}}");
            verdict(&Priority, &World::default(), &Request::delete(priorityclasses::row(), &object))
        };
        assert_eq!(
            delete("system-node-critical"),
            "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be deleted"
        );
        assert_eq!(delete("mine"), "ok");
    }
}
