//! storage.k8s.io/v1 CSIDriver

use api::field::{Errors, Path};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec};
use serde_json::Value;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::{not_negative, one_of};
use crate::resources::cells::{flag, items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "CSIDriver", "csidrivers")
        .returns_deleted()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column::compute("AttachRequired", |o, _| (o.pointer("/spec/attachRequired") != Some(&Value::Bool(false))).to_string().into()),
            Column::compute("PodInfoOnMount", |o, _| flag(o, "/spec/podInfoOnMount").to_string().into()),
            Column::compute("StorageCapacity", |o, _| flag(o, "/spec/storageCapacity").to_string().into()),
            Column::compute("TokenRequests", |o, _| or_unset(&list(o, "/spec/tokenRequests", "/audience")).into()),
            Column::compute("RequiresRepublish", |o, _| flag(o, "/spec/requiresRepublish").to_string().into()),
            Column::compute("Modes", |o, _| modes(o).into()),
            Column::age(),
        ])
        .rules::<CSIDriver>(DriverRules)
}

fn list(o: &Value, pointer: &str, field: &str) -> String {
    items(o, pointer).iter().map(|v| text(v, field)).collect::<Vec<_>>().join(",")
}

fn modes(o: &Value) -> String {
    let all: Vec<&str> = items(o, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}

fn or_unset(s: &str) -> &str {
    if s.is_empty() { "<unset>" } else { s }
}

struct DriverRules;

impl Rules<CSIDriver> for DriverRules {
    fn default(&self, driver: &mut CSIDriver) {
        let spec = &mut driver.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
    }
    fn validate(&self, driver: &CSIDriver, errors: &mut Errors) {
        validate_spec(&driver.spec, &Path::new("spec"), errors);
    }
    fn validate_update(&self, new: &CSIDriver, old: &CSIDriver, errors: &mut Errors) {
        let path = Path::new("spec");
        errors.immutable(&path.child("attachRequired"), &new.spec.attach_required, &old.spec.attach_required);
        errors.immutable(&path.child("volumeLifecycleModes"), &new.spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
    }
}

fn validate_spec(spec: &CSIDriverSpec, path: &Path, errors: &mut Errors) {
    if let Some(policy) = &spec.fs_group_policy {
        one_of(policy, &["File", "None", "ReadWriteOnceWithFSType"], &path.child("fsGroupPolicy"), errors);
    }
    for mode in spec.volume_lifecycle_modes.iter().flatten() {
        one_of(mode, &["Ephemeral", "Persistent"], &path.child("volumeLifecycleModes"), errors);
    }
    let tokens: Vec<_> = spec.token_requests.iter().flatten().collect();
    for (i, token) in tokens.iter().enumerate() {
        let path = path.child("tokenRequests").index(i);
        if tokens[..i].iter().any(|t| t.audience == token.audience) {
            errors.duplicate(&path.child("audience"), &token.audience);
        }
        if let Some(seconds) = token.expiration_seconds.filter(|s| *s < 600) {
            errors.invalid(&path.child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes");
        }
    }
    not_negative(spec.node_allocatable_update_period_seconds, &path.child("nodeAllocatableUpdatePeriodSeconds"), errors);
}
