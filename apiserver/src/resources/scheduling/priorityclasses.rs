//! scheduling.k8s.io/v1 PriorityClass

use api::field::{Errors, Path};
use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::one_of;
use crate::resources::cells::flag;

/// Above this stand the system's own classes.
const HIGHEST: i32 = 1_000_000_000;
/// The system's classes, with their values: always there.
pub const SYSTEM: &[(&str, i32)] = &[("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .short(&["pc"])
        .generation()
        .columns(vec![
            Column::name(),
            Column::integer("Value", "/value"),
            Column::compute("Global-Default", |o, _| flag(o, "/globalDefault").to_string().into()),
            Column::age(),
            Column::text("PreemptionPolicy", "/preemptionPolicy"),
        ])
        .rules::<PriorityClass>(ClassRules)
}

struct ClassRules;

impl Rules<PriorityClass> for ClassRules {
    fn default(&self, class: &mut PriorityClass) {
        class.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }
    fn validate(&self, class: &PriorityClass, errors: &mut Errors) {
        let name = class.metadata.name.as_deref().unwrap_or("");
        let system = SYSTEM.iter().find(|(n, _)| *n == name);
        if name.starts_with("system-") {
            match system {
                Some((_, value)) if *value == class.value => {}
                _ => {
                    let why = "priority class names with 'system-' prefix are reserved for system use only. error: not a known system priority class";
                    errors.forbidden(&Path::new("metadata").child("name"), why);
                }
            }
        } else if class.value > HIGHEST {
            errors.forbidden(&Path::new("value"), &format!("maximum allowed value of a user defined priority is {HIGHEST}"));
        }
        if let Some(policy) = &class.preemption_policy {
            one_of(policy, &["Never", "PreemptLowerPriority"], &Path::new("preemptionPolicy"), errors);
        }
    }
    fn validate_update(&self, new: &PriorityClass, old: &PriorityClass, errors: &mut Errors) {
        if new.value != old.value {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        errors.immutable(&Path::new("preemptionPolicy"), &new.preemption_policy, &old.preemption_policy);
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let class = |name: &str, value: i64| format!("{{metadata: {{name: {name}}}, value: {value}}}");
        assert_eq!(cells(row(), &class("a", 5)), "a | 5 | false | <unknown> | ");
        assert_eq!(errors(row(), &class("system-node-critical", 2_000_001_000)), "");
        expect!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
            .assert_eq(&errors(row(), &class("a", 1_000_000_001)));
        expect!["value: Forbidden: may not be changed in an update."].assert_eq(&update_errors(row(), &class("a", 1), &class("a", 2)));
    }
}
