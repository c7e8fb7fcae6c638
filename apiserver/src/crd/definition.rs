//! Rules of definitions that need to understand schemas and paths, on top of those of the definition's row.

use std::sync::Arc;

use api::field::{Errors, Path};
use api::object::Meta as _;
use serde_json::Value;

use super::status::FINALIZER;
use super::{json_path, rules_check, structural};
use crate::resource::{Cx, Deletion, Strategy};
use crate::resources::cells::{items, text};

/// Selectable fields of a version at most, as upstream.
const MOST_SELECTABLE: usize = 8;

/// The definition's own rules, and those of its schemas.
pub struct DefinitionRules(pub Arc<dyn Strategy>);

/// The schemas with their paths. Upstream knows a schema that all versions share by another path.
fn schemas(crd: &Value) -> Vec<(Path, &Value)> {
    let versions = items(crd, "/spec/versions");
    let found: Vec<(usize, &Value)> = versions
        .iter()
        .enumerate()
        .filter_map(|(i, v)| Some((i, v.pointer("/schema/openAPIV3Schema").filter(|s| s.is_object())?)))
        .collect();
    let spec = Path::new("spec");
    match found.as_slice() {
        [(_, first), rest @ ..] if found.len() == versions.len() && rest.iter().all(|(_, s)| s == first) => {
            vec![(spec.child("validation").child("openAPIV3Schema"), first)]
        }
        _ => found.into_iter().map(|(i, s)| (spec.child("versions").index(i).child("schema").child("openAPIV3Schema"), s)).collect(),
    }
}

fn check(crd: &Value, old: Option<&Value>, errors: &mut Errors) {
    let before: Vec<&Value> = old.map(|o| schemas(o).into_iter().map(|(_, s)| s).collect()).unwrap_or_default();
    for (path, schema) in schemas(crd) {
        // What stands there already may stay.
        if !before.contains(&schema) {
            let mut found = Errors::new();
            structural::check(schema, &path, &mut found);
            // Rules are about schemas that are what they should be.
            if found.is_empty() {
                rules_check::check(schema, &path, &mut found);
            }
            errors.0.append(&mut found.0);
        }
    }
    for (i, version) in items(crd, "/spec/versions").iter().enumerate() {
        let path = Path::new("spec").child("versions").index(i);
        for (j, column) in items(version, "/additionalPrinterColumns").iter().enumerate() {
            let at = path.child("additionalPrinterColumns").index(j).child("jsonPath");
            let given = text(column, "/jsonPath");
            if let Err(error) = json_path::parse(given) {
                errors.invalid(&at, given, &error);
            }
        }
        let fields = items(version, "/selectableFields");
        let path = path.child("selectableFields");
        if fields.len() > MOST_SELECTABLE {
            errors.too_many(&path, fields.len(), MOST_SELECTABLE);
        }
        for (j, field) in fields.iter().enumerate() {
            let (at, given) = (path.index(j).child("jsonPath"), text(field, "/jsonPath"));
            if given.is_empty() {
                errors.required(&at, "");
            } else if json_path::pointer(given).is_none() {
                errors.invalid(&at, given, "is an invalid path: must be a simple json path with leading .");
            } else if fields[..j].contains(field) {
                errors.duplicate(&at, given);
            }
        }
    }
}

impl Strategy for DefinitionRules {
    fn default(&self, obj: &mut Value) -> Result<(), String> {
        self.0.default(obj)
    }
    fn create(&self, obj: &mut Value, cx: Cx<'_>) -> Result<Errors, String> {
        let mut errors = self.0.create(obj, cx)?;
        check(obj, None, &mut errors);
        Ok(errors)
    }
    fn update(&self, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String> {
        let mut errors = self.0.update(new, old, cx)?;
        check(new, Some(old), &mut errors);
        Ok(errors)
    }
    fn update_part(&self, part: &str, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String> {
        self.0.update_part(part, new, old, cx)
    }
    fn warnings(&self, obj: &Value) -> Vec<String> {
        self.0.warnings(obj)
    }
    fn deletion(&self, obj: &mut Value, requested: Option<i64>, cx: Cx<'_>) -> Result<Deletion, String> {
        // Its objects go first: the controller takes the finalizer off when they are gone.
        if !obj.is_deleting() && !obj.finalizers().contains(&FINALIZER) {
            let all: Vec<&str> = obj.finalizers().into_iter().chain([FINALIZER]).collect();
            let all = all.into();
            obj.set_meta("finalizers", all);
        }
        self.0.deletion(obj, requested, cx)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn errors(versions: Value, expect: Expect) {
        let mut errors = Errors::new();
        check(&json!({"spec": {"versions": versions}}), None, &mut errors);
        expect.assert_eq(&errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn schemas_and_paths_are_checked() {
        let schema = json!({"openAPIV3Schema": {}});
        errors(
            json!([{"name": "v1", "schema": schema}]),
            expect!["spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root"],
        );
        errors(
            json!([{"name": "v1", "schema": schema}, {"name": "v2", "schema": {"openAPIV3Schema": {"type": "object"}}}]),
            expect!["spec.versions[0].schema.openAPIV3Schema.type: Required value: must not be empty at the root"],
        );
        errors(
            json!([{"name": "v1", "additionalPrinterColumns": [{"jsonPath": "spec"}], "selectableFields": [{"jsonPath": ".a[0]"}]}]),
            expect![[r#"
                spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: "spec": unexpected "spec" in "spec"
                spec.versions[0].selectableFields[0].jsonPath: Invalid value: ".a[0]": is an invalid path: must be a simple json path with leading ."#]],
        );
    }
}
