//! v1 PersistentVolume

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

use super::persistentvolumeclaims::{class, or_unset, short_modes, validate_access_modes};
use super::pod::{scheduling, volumes};
use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::text;
use crate::resources::quantities::{canonical_list, validate_positive};

/// Fields of a volume's spec that are no source.
const NO_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("", "v1", "PersistentVolume", "persistentvolumes")
        .returns_deleted()
        .short(&["pv"])
        .status()
        .columns(vec![
            Column::name(),
            Column::text("Capacity", "/spec/capacity/storage"),
            Column::compute("Access Modes", |o, _| short_modes(o, "/spec/accessModes").into()),
            Column::text("Reclaim Policy", "/spec/persistentVolumeReclaimPolicy"),
            Column::compute("Status", |o, _| phase(o).into()),
            Column::compute("Claim", |o, _| claim(o).into()),
            Column::compute("StorageClass", |o, _| class(o).into()),
            Column::compute("VolumeAttributesClass", |o, _| or_unset(text(o, "/spec/volumeAttributesClassName")).into()),
            Column::text("Reason", "/status/reason"),
            Column::age(),
            Column::compute("VolumeMode", |o, _| or_unset(text(o, "/spec/volumeMode")).into()).wide(),
        ])
        .rules::<PersistentVolume>(VolumeRules)
}

fn phase(o: &Value) -> &str {
    if text(o, "/metadata/deletionTimestamp").is_empty() { text(o, "/status/phase") } else { "Terminating" }
}

fn claim(o: &Value) -> String {
    match text(o, "/spec/claimRef/name") {
        "" => String::new(),
        name => format!("{}/{name}", text(o, "/spec/claimRef/namespace")),
    }
}

struct VolumeRules;

impl Rules<PersistentVolume> for VolumeRules {
    fn default(&self, volume: &mut PersistentVolume) {
        if volume.status.as_ref().is_none_or(|s| s.phase.is_none()) {
            volume.status.get_or_insert_default().phase = Some("Pending".to_owned());
        }
        let Some(spec) = &mut volume.spec else { return };
        canonical_list(&mut spec.capacity);
        spec.persistent_volume_reclaim_policy.get_or_insert_with(|| "Retain".to_owned());
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(host) = &mut spec.host_path {
            host.type_.get_or_insert_default();
        }
    }
    fn prepare_create(&self, volume: &mut PersistentVolume, cx: Cx<'_>) {
        volume.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: Some(Time(cx.now)),
            ..Default::default()
        });
    }
    fn prepare_update(&self, new: &mut PersistentVolume, old: &PersistentVolume, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut PersistentVolume, old: &PersistentVolume, cx: Cx<'_>) {
        new.spec.clone_from(&old.spec);
        let phase = |v: &PersistentVolume| v.status.as_ref().and_then(|s| s.phase.clone());
        if phase(new) != phase(old)
            && let Some(status) = &mut new.status
        {
            status.last_phase_transition_time = Some(Time(cx.now));
        }
    }
    fn validate(&self, volume: &PersistentVolume, errors: &mut Errors) {
        match &volume.spec {
            Some(spec) => validate_spec(spec, &Path::new("spec"), errors),
            None => errors.required(&Path::new("spec"), ""),
        }
    }
    fn validate_update(&self, new: &PersistentVolume, old: &PersistentVolume, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
        let path = Path::new("spec");
        if sources(new) != sources(old) {
            errors.forbidden(&path.child("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation");
        }
        errors.immutable(&path.child("volumeMode"), &new.volume_mode, &old.volume_mode);
        if old.node_affinity.is_some() && new.node_affinity != old.node_affinity {
            errors.immutable(&path.child("nodeAffinity"), &new.node_affinity, &old.node_affinity);
        }
    }
}

fn sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    let tree = serde_json::to_value(spec).unwrap_or_default();
    let fields = tree.as_object().cloned().unwrap_or_default();
    fields.into_iter().filter(|(k, _)| !NO_SOURCES.contains(&k.as_str())).collect()
}

fn validate_spec(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    validate_access_modes(modes, &path.child("accessModes"), errors);
    let capacity = spec.capacity.clone().unwrap_or_default();
    if capacity.is_empty() {
        errors.required(&path.child("capacity"), "");
    }
    for (name, text) in &capacity {
        let path = path.child("capacity").key(name);
        if name == "storage" { validate_positive(text, &path, errors) } else { errors.not_supported(&path, name, &["storage"]) }
    }
    if let Some(policy) = &spec.persistent_volume_reclaim_policy {
        one_of(policy, &["Delete", "Recycle", "Retain"], &path.child("persistentVolumeReclaimPolicy"), errors);
    }
    if let Some(selector) = spec.node_affinity.as_ref().map(|a| a.required.as_ref()) {
        let path = path.child("nodeAffinity");
        match selector {
            Some(selector) => scheduling::validate_node_selector(selector, &path.child("required"), errors),
            None => errors.required(&path.child("required"), "must specify required node constraints"),
        }
    }
    let sources = sources(spec);
    if sources.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    for extra in sources.keys().skip(1) {
        errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
    }
    validate_sources(spec, path, errors);
    if let Some(class) = spec.storage_class_name.as_ref().filter(|c| !c.is_empty()) {
        follows(class, names::dns1123_subdomain, &path.child("storageClassName"), errors);
    }
    if let Some(mode) = &spec.volume_mode {
        one_of(mode, &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    }
}

fn validate_sources(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    if let Some(host) = &spec.host_path {
        volumes::validate_host_path(host, &path.child("hostPath"), errors);
        if host.path == "/" && spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
            let why = "may not be 'recycle' for a hostPath mount of '/'";
            errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), why);
        }
    }
    if let Some(nfs) = &spec.nfs {
        volumes::validate_nfs(&nfs.server, &nfs.path, &path.child("nfs"), errors);
    }
    if let Some(csi) = &spec.csi {
        let path = path.child("csi");
        volumes::validate_driver(&csi.driver, &path.child("driver"), errors);
        if csi.volume_handle.is_empty() {
            errors.required(&path.child("volumeHandle"), "");
        }
    }
    if let Some(local) = &spec.local {
        if local.path.is_empty() {
            errors.required(&path.child("local").child("path"), "");
        }
        volumes::validate_no_backsteps(&local.path, &path.child("local").child("path"), errors);
        if spec.node_affinity.is_none() {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    fn volume(spec: &str) -> String {
        format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}")
    }

    #[test]
    fn table() {
        let bound = volume(
            "capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce, ReadWriteMany], persistentVolumeReclaimPolicy: Retain, claimRef: {namespace: x, name: c}",
        );
        assert_eq!(cells(row(), &bound), "a | 1Gi | RWO,RWX | Retain |  | x/c |  | <unset> |  | <unknown> | <unset>");
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.accessModes: Required value
            spec.capacity[cpu]: Unsupported value: "cpu": supported values: "storage"
            spec.capacity[storage]: Invalid value: "0": must be greater than 0
            spec.nfs: Forbidden: may not specify more than 1 volume type"#]]
        .assert_eq(&errors(row(), &volume("capacity: {storage: 0, cpu: 1}, hostPath: {path: /a}, nfs: {server: s, path: /p}")));
        expect![[r#"
            spec.accessModes: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.nodeAffinity: Required value: Local volume requires node affinity"#]].assert_eq(&errors(row(), &volume("capacity: {storage: 1Gi}, accessModes: [Often], local: {path: /a}")));
        let with = |source: &str| volume(&format!("capacity: {{storage: 1Gi}}, accessModes: [ReadWriteOnce], {source}"));
        expect!["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
            .assert_eq(&update_errors(row(), &with("hostPath: {path: /a}"), &with("hostPath: {path: /b}")));
    }
}
