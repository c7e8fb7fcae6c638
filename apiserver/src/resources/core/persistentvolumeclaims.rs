//! v1 PersistentVolumeClaim

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::{items, text};
use crate::resources::equality::same;
use crate::resources::label_selector;
use crate::resources::quantities::{amount, canonical_list, validate_positive};

/// How a volume may be mounted.
pub(crate) const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// What stands in the annotations of claims from before `storageClassName`.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
        .returns_deleted()
        .short(&["pvc"])
        .status()
        .columns(vec![
            Column::name(),
            Column::compute("Status", |o, _| phase(o).into()),
            Column::text("Volume", "/spec/volumeName"),
            Column::compute("Capacity", |o, _| if bound(o) { text(o, "/status/capacity/storage") } else { "" }.into()),
            Column::compute("Access Modes", |o, _| if bound(o) { short_modes(o, "/status/accessModes") } else { String::new() }.into()),
            Column::compute("StorageClass", |o, _| class(o).into()),
            Column::compute("VolumeAttributesClass", |o, _| or_unset(text(o, "/spec/volumeAttributesClassName")).into()),
            Column::age(),
            Column::compute("VolumeMode", |o, _| or_unset(text(o, "/spec/volumeMode")).into()).wide(),
        ])
        .rules::<PersistentVolumeClaim>(ClaimRules)
}

fn phase(o: &Value) -> &str {
    if text(o, "/metadata/deletionTimestamp").is_empty() { text(o, "/status/phase") } else { "Terminating" }
}

fn bound(o: &Value) -> bool {
    !text(o, "/spec/volumeName").is_empty()
}

pub(super) fn or_unset(s: &str) -> &str {
    if s.is_empty() { "<unset>" } else { s }
}

/// The storage class, by annotation or field.
pub(super) fn class(o: &Value) -> &str {
    let annotation = o.pointer("/metadata/annotations").and_then(|a| a.get(CLASS_ANNOTATION)).and_then(Value::as_str);
    annotation.unwrap_or_else(|| text(o, "/spec/storageClassName"))
}

/// Access modes as kubectl shows them: `RWO,ROX`.
pub(super) fn short_modes(o: &Value, pointer: &str) -> String {
    let has = |mode: &str| items(o, pointer).iter().any(|m| m == mode);
    let modes = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    modes.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

struct ClaimRules;

impl Rules<PersistentVolumeClaim> for ClaimRules {
    fn default(&self, claim: &mut PersistentVolumeClaim) {
        if claim.status.as_ref().is_none_or(|s| s.phase.is_none()) {
            claim.status.get_or_insert_default().phase = Some("Pending".to_owned());
        }
        if let Some(spec) = &mut claim.spec {
            default_spec(spec);
        }
    }
    fn prepare_create(&self, claim: &mut PersistentVolumeClaim, _: Cx<'_>) {
        claim.status = Some(PersistentVolumeClaimStatus { phase: Some("Pending".to_owned()), ..Default::default() });
    }
    fn prepare_update(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, claim: &PersistentVolumeClaim, errors: &mut Errors) {
        match &claim.spec {
            Some(spec) => validate_spec(spec, &Path::new("spec"), errors),
            None => errors.required(&Path::new("spec"), ""),
        }
    }
    fn validate_update(&self, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errors: &mut Errors) {
        if let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) {
            validate_change(new_spec, old_spec, old.status.as_ref(), errors);
        }
    }
}

/// Fills in a claim's spec, in a claim as in a template of one.
pub(crate) fn default_spec(spec: &mut PersistentVolumeClaimSpec) {
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    if let Some(resources) = &mut spec.resources {
        canonical_list(&mut resources.requests);
        canonical_list(&mut resources.limits);
    }
    for source in spec.data_source.iter_mut() {
        if source.api_group.as_ref().is_some_and(String::is_empty) {
            source.api_group = None;
        }
    }
}

/// Checks a claim's spec.
pub(crate) fn validate_spec(spec: &PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    if let Some(selector) = &spec.selector {
        label_selector::validate(selector, &path.child("selector"), errors);
    }
    validate_access_modes(modes, &path.child("accessModes"), errors);
    let storage = path.child("resources").key("storage");
    match spec.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("storage")) {
        None => errors.required(&storage, ""),
        Some(asked) => validate_positive(asked, &storage, errors),
    }
    if let Some(class) = spec.storage_class_name.as_ref().filter(|c| !c.is_empty()) {
        follows(class, names::dns1123_subdomain, &path.child("storageClassName"), errors);
    }
    if let Some(mode) = &spec.volume_mode {
        one_of(mode, &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    }
    if let Some(source) = &spec.data_source {
        let path = path.child("dataSource");
        for (name, value) in [("name", &source.name), ("kind", &source.kind)] {
            if value.is_empty() {
                errors.required(&path.child(name), "");
            }
        }
        if source.api_group.is_none() && source.kind != "PersistentVolumeClaim" {
            errors.invalid(&path, &source.kind, "");
        }
    }
}

pub(super) fn validate_access_modes(modes: &[String], path: &Path, errors: &mut Errors) {
    for mode in modes {
        one_of(mode, ACCESS_MODES, path, errors);
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// A claim's spec stays as it is, but for asking for more, and for being bound.
fn validate_change(
    new: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaimSpec,
    status: Option<&PersistentVolumeClaimStatus>,
    errors: &mut Errors,
) {
    let path = Path::new("spec");
    let storage = |s: &PersistentVolumeClaimSpec| s.resources.as_ref().and_then(|r| amount(r.requests.as_ref()?.get("storage")?));
    let mut rest = new.clone();
    if old.volume_name.as_ref().is_none_or(String::is_empty) {
        rest.volume_name.clone_from(&old.volume_name);
    }
    if status.and_then(|s| s.phase.as_deref()) == Some("Bound") {
        rest.resources.clone_from(&old.resources);
    }
    rest.volume_attributes_class_name.clone_from(&old.volume_attributes_class_name);
    if old.storage_class_name.is_none() {
        // A default class may be given to a claim that asked for none in particular.
        rest.storage_class_name = None;
    }
    if !same(&rest, old) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.forbidden(&path, why);
    }
    let (asked, before) = (storage(new), storage(old));
    let smallest = status.and_then(|s| amount(s.capacity.as_ref()?.get("storage")?)).or(before);
    if asked < before && asked < smallest {
        errors.forbidden(&path.child("resources").child("requests").child("storage"), "field can not be less than status.capacity");
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    fn claim(spec: &str, status: &str) -> String {
        format!("{{metadata: {{name: a}}, spec: {{{spec}}}, status: {{{status}}}}}")
    }

    #[test]
    fn table() {
        let bound = claim(
            "volumeName: v, storageClassName: s, volumeMode: Block",
            "phase: Bound, capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce]",
        );
        assert_eq!(cells(row(), &bound), "a | Bound | v | 1Gi | RWO | s | <unset> | <unknown> | Block");
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.accessModes: Required value: at least 1 access mode is required
            spec.resources[storage]: Required value"#]]
        .assert_eq(&errors(row(), &claim("storageClassName: s", "")));
        let sized =
            |size: &str| claim(&format!("accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}"), "phase: Bound");
        assert_eq!(update_errors(row(), &sized("1Gi"), &sized("2Gi")), "");
        expect![[r#"spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"#]].assert_eq(&update_errors(
            row(),
            &sized("2Gi"),
            &sized("1Gi"),
        ));
        expect![[
            r#"spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"#
        ]]
        .assert_eq(&update_errors(
            row(),
            &sized("1Gi"),
            &claim("accessModes: [ReadOnlyMany], resources: {requests: {storage: 1Gi}}", ""),
        ));
    }
}
