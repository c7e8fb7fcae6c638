//! apps/v1 ControllerRevision

use api::field::{Errors, Path};
use api::object::split_api_version;
use api::status::qualified;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::not_negative;
use crate::resources::cells::{flag, items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("apps", "v1", "ControllerRevision", "controllerrevisions")
        .columns(vec![
            Column::name(),
            Column::compute("Controller", |o, _| controller(o).into()),
            Column::integer("Revision", "/revision"),
            Column::age(),
        ])
        .rules::<ControllerRevision>(ControllerRevisionRules)
}

fn controller(o: &Value) -> String {
    let Some(owner) = items(o, "/metadata/ownerReferences").iter().find(|r| flag(r, "/controller")) else { return "<none>".to_owned() };
    let (group, _) = split_api_version(text(owner, "/apiVersion"));
    format!("{}/{}", qualified(group, &text(owner, "/kind").to_lowercase()), text(owner, "/name"))
}

struct ControllerRevisionRules;

impl Rules<ControllerRevision> for ControllerRevisionRules {
    fn validate(&self, revision: &ControllerRevision, errors: &mut Errors) {
        if revision.data.as_ref().is_none_or(|d| d.0.is_null()) {
            errors.required(&Path::new("data"), "data is mandatory");
        }
        not_negative(Some(revision.revision), &Path::new("revision"), errors);
    }
    fn validate_update(&self, new: &ControllerRevision, old: &ControllerRevision, errors: &mut Errors) {
        errors.immutable(&Path::new("data"), &new.data, &old.data);
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, update_errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let owner = "[{apiVersion: apps/v1, kind: DaemonSet, name: d, controller: true, uid: u}]";
        let revision = format!("{{metadata: {{name: a, ownerReferences: {owner}}}, revision: 2, data: {{a: 1}}}}");
        assert_eq!(cells(super::row(), &revision), "a | daemonset.apps/d | 2 | <unknown>");
        expect![[r#"data: Invalid value: {"a":2}: field is immutable"#]].assert_eq(&update_errors(
            super::row(),
            &revision,
            "{metadata: {name: a}, revision: 2, data: {a: 2}}",
        ));
    }
}
