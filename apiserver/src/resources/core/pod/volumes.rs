//! What is wrong with a pod's volumes.

use std::collections::BTreeSet;

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use serde_json::Value;

use super::env::{FILE_FIELDS, validate_field, validate_resource_field};
use crate::resources::bounds::{follows, one_of};
use crate::resources::quantities::amount;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] = &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks that a path has no `..`.
pub(crate) fn validate_no_backsteps(path_value: &str, path: &Path, errors: &mut Errors) {
    if path_value.split('/').any(|part| part == "..") {
        errors.invalid(path, path_value, "must not contain '..'");
    }
}

/// Checks a path that must stay below where it starts.
pub(super) fn validate_local_path(path_value: &str, path: &Path, errors: &mut Errors) {
    if path_value.starts_with('/') {
        errors.invalid(path, path_value, "must be a relative path");
    }
    validate_no_backsteps(path_value, path, errors);
}

/// As above; names that start with `..` are the volume writer's own.
pub(super) fn validate_file_path(path_value: &str, path: &Path, errors: &mut Errors) {
    validate_local_path(path_value, path, errors);
    if path_value.starts_with("..") && !path_value.starts_with("../") {
        errors.invalid(path, path_value, "must not start with '..'");
    }
}

pub(super) fn validate(volumes: &[Volume], pod: &Path, errors: &mut Errors) {
    for (i, volume) in volumes.iter().enumerate() {
        let path = pod.child("volumes").index(i);
        if volume.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            follows(&volume.name, names::dns1123_label, &path.child("name"), errors);
        }
        if volumes[..i].iter().any(|v| v.name == volume.name) {
            errors.duplicate(&path.child("name"), &volume.name);
        }
        validate_source(volume, &path, errors);
    }
}

fn validate_source(v: &Volume, path: &Path, errors: &mut Errors) {
    let tree = serde_json::to_value(v).unwrap_or_default();
    let sources: Vec<&String> = tree.as_object().into_iter().flat_map(|o| o.keys()).filter(|k| *k != "name").collect();
    if sources.is_empty() {
        return errors.required(path, "must specify a volume type");
    }
    for extra in &sources[1..] {
        errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
    }
    if let Some(limit) = v.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref())
        && amount(limit).is_none_or(|q| q.is_negative())
    {
        errors.forbidden(&path.child("emptyDir").child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
    if let Some(host) = &v.host_path {
        validate_host_path(host, &path.child("hostPath"), errors);
    }
    if let Some(secret) = &v.secret {
        validate_secret(secret, &path.child("secret"), errors);
    }
    if let Some(map) = &v.config_map {
        validate_config_map(map, &path.child("configMap"), errors);
    }
    if let Some(downward) = &v.downward_api {
        let path = path.child("downwardAPI");
        validate_mode(downward.default_mode, &path.child("defaultMode"), errors);
        validate_downward(downward.items.as_deref(), &path, errors);
    }
    if let Some(projected) = &v.projected {
        validate_projected(projected, &path.child("projected"), errors);
    }
    if let Some(claim) = &v.persistent_volume_claim
        && claim.claim_name.is_empty()
    {
        errors.required(&path.child("persistentVolumeClaim").child("claimName"), "");
    }
    if let Some(nfs) = &v.nfs {
        validate_nfs(&nfs.server, &nfs.path, &path.child("nfs"), errors);
    }
    if let Some(csi) = &v.csi {
        validate_driver(&csi.driver, &path.child("csi").child("driver"), errors);
    }
    if let Some(ephemeral) = &v.ephemeral {
        let path = path.child("ephemeral").child("volumeClaimTemplate");
        match &ephemeral.volume_claim_template {
            None => errors.required(&path, ""),
            Some(template) => crate::resources::core::persistentvolumeclaims::validate_spec(&template.spec, &path.child("spec"), errors),
        }
    }
    if let Some(image) = &v.image {
        let path = path.child("image");
        if image.reference.as_ref().is_none_or(String::is_empty) {
            errors.required(&path.child("reference"), "");
        }
        one_of(image.pull_policy.as_deref().unwrap_or(""), &["Always", "IfNotPresent", "Never"], &path.child("pullPolicy"), errors);
    }
    validate_required_texts(&tree, path, errors);
}

/// Texts that must be there in the sources that have no further rules.
fn validate_required_texts(volume: &Value, path: &Path, errors: &mut Errors) {
    const TEXTS: &[(&str, &[&str])] = &[
        ("gcePersistentDisk", &["pdName"]),
        ("awsElasticBlockStore", &["volumeID"]),
        ("gitRepo", &["repository"]),
        ("iscsi", &["targetPortal", "iqn"]),
        ("glusterfs", &["endpoints", "path"]),
        ("rbd", &["image"]),
        ("flexVolume", &["driver"]),
        ("cinder", &["volumeID"]),
        ("azureFile", &["secretName", "shareName"]),
        ("azureDisk", &["diskName", "diskURI"]),
        ("vsphereVolume", &["volumePath"]),
        ("quobyte", &["registry", "volume"]),
        ("photonPersistentDisk", &["pdID"]),
        ("portworxVolume", &["volumeID"]),
        ("scaleIO", &["gateway", "system", "volumeName"]),
    ];
    for (source, fields) in TEXTS {
        let Some(found) = volume.get(source) else { continue };
        for field in fields.iter().filter(|f| found.get(**f).and_then(Value::as_str).unwrap_or("").is_empty()) {
            errors.required(&path.child(source).child(field), "");
        }
    }
}

pub(crate) fn validate_driver(driver: &str, path: &Path, errors: &mut Errors) {
    if driver.is_empty() {
        return errors.required(path, "");
    }
    if driver.len() > 63 {
        errors.too_long(path, 63);
    }
    follows(&driver.to_lowercase(), names::dns1123_subdomain, path, errors);
}

pub(crate) fn validate_nfs(server: &str, directory: &str, path: &Path, errors: &mut Errors) {
    if server.is_empty() {
        errors.required(&path.child("server"), "");
    }
    if directory.is_empty() {
        errors.required(&path.child("path"), "");
    } else if !directory.starts_with('/') {
        errors.invalid(&path.child("path"), directory, "must be an absolute path");
    }
}

pub(crate) fn validate_host_path(host: &HostPathVolumeSource, path: &Path, errors: &mut Errors) {
    if host.path.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    validate_no_backsteps(&host.path, &path.child("path"), errors);
    one_of(host.type_.as_deref().unwrap_or(""), HOST_PATH_TYPES, &path.child("type"), errors);
}

fn validate_mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(path, mode, MODE);
    }
}

fn validate_items(items: Option<&[KeyToPath]>, path: &Path, errors: &mut Errors) {
    for (i, item) in items.into_iter().flatten().enumerate() {
        let path = path.child("items").index(i);
        if item.key.is_empty() {
            errors.required(&path.child("key"), "");
        }
        if item.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            validate_file_path(&item.path, &path.child("path"), errors);
        }
        validate_mode(item.mode, &path.child("mode"), errors);
    }
}

fn validate_secret(secret: &SecretVolumeSource, path: &Path, errors: &mut Errors) {
    if secret.secret_name.as_ref().is_none_or(String::is_empty) {
        errors.required(&path.child("secretName"), "");
    }
    validate_mode(secret.default_mode, &path.child("defaultMode"), errors);
    validate_items(secret.items.as_deref(), path, errors);
}

fn validate_config_map(map: &ConfigMapVolumeSource, path: &Path, errors: &mut Errors) {
    if map.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    validate_mode(map.default_mode, &path.child("defaultMode"), errors);
    validate_items(map.items.as_deref(), path, errors);
}

fn validate_downward(files: Option<&[DownwardAPIVolumeFile]>, path: &Path, errors: &mut Errors) {
    // Upstream names neither `items` nor the index here.
    for file in files.into_iter().flatten() {
        if file.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            validate_file_path(&file.path, &path.child("path"), errors);
        }
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(field), other) => {
                validate_field(field, FILE_FIELDS, &path.child("fieldRef"), errors);
                if other.is_some() {
                    errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
                }
            }
            (None, Some(field)) => validate_resource_field(field, true, &path.child("resourceFieldRef"), errors),
            (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
        }
        validate_mode(file.mode, &path.child("mode"), errors);
    }
}

fn validate_projected(projected: &ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    validate_mode(projected.default_mode, &path.child("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for (i, source) in projected.sources.iter().flatten().enumerate() {
        let path = path.child("sources").index(i);
        validate_projection(source, &path, errors);
        for (name, file) in projected_paths(source) {
            if !paths.insert(file.to_owned()) {
                errors.invalid(&path, name, "conflicting duplicate paths");
            }
        }
    }
}

/// The files that a projection names, with what they come from.
fn projected_paths(p: &VolumeProjection) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    if let Some(s) = &p.secret {
        out.extend(s.items.iter().flatten().map(|i| (s.name.as_str(), i.path.as_str())));
    }
    if let Some(s) = &p.config_map {
        out.extend(s.items.iter().flatten().map(|i| (s.name.as_str(), i.path.as_str())));
    }
    if let Some(s) = &p.downward_api {
        out.extend(s.items.iter().flatten().map(|i| ("downwardAPI", i.path.as_str())));
    }
    if let Some(s) = &p.service_account_token {
        out.push(("serviceAccountToken", s.path.as_str()));
    }
    if let Some(s) = &p.cluster_trust_bundle {
        out.push(("clusterTrustBundle", s.path.as_str()));
    }
    out.retain(|(_, path)| !path.is_empty());
    out
}

fn validate_projection(p: &VolumeProjection, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    let mut counted = |name: &str, errors: &mut Errors| {
        count += 1;
        if count > 1 {
            errors.forbidden(&path.child(name), "may not specify more than 1 volume type");
        }
        path.child(name)
    };
    if let Some(s) = &p.secret {
        let path = counted("secret", errors);
        if s.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        validate_items(s.items.as_deref(), &path, errors);
    }
    if let Some(s) = &p.config_map {
        let path = counted("configMap", errors);
        if s.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        validate_items(s.items.as_deref(), &path, errors);
    }
    if let Some(s) = &p.downward_api {
        let path = counted("downwardAPI", errors);
        validate_downward(s.items.as_deref(), &path, errors);
    }
    if let Some(s) = &p.service_account_token {
        let path = counted("serviceAccountToken", errors);
        validate_token(s, &path, errors);
    }
    if let Some(s) = &p.cluster_trust_bundle {
        let path = counted("clusterTrustBundle", errors);
        if s.path.is_empty() {
            errors.required(&path.child("path"), "");
        }
        if s.name.is_some() == s.signer_name.is_some() {
            errors.required(&path, "either name or signerName must be specified");
        }
    }
    if let Some(s) = &p.pod_certificate {
        let path = counted("podCertificate", errors);
        if s.signer_name.is_empty() {
            errors.required(&path.child("signerName"), "");
        }
        one_of(&s.key_type, &["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"], &path.child("keyType"), errors);
    }
    if count == 0 {
        errors.required(path, "must specify at least one projected source type");
    }
}

fn validate_token(token: &ServiceAccountTokenProjection, path: &Path, errors: &mut Errors) {
    let seconds = token.expiration_seconds.unwrap_or(0);
    let expiration = path.child("expirationSeconds");
    if seconds < 10 * 60 {
        errors.invalid(&expiration, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(&expiration, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    if token.path.is_empty() {
        errors.required(&path.child("path"), "");
    } else {
        validate_file_path(&token.path, &path.child("path"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::check_volumes;
    use expect_test::expect;

    #[test]
    fn sources() {
        check_volumes(
            "[{name: A, emptyDir: {}, hostPath: {path: /a/../b, type: Door}}, {name: b, emptyDir: {sizeLimit: -1}}, {name: b, secret: {}},
              {name: c, configMap: {name: '', defaultMode: 512, items: [{key: '', path: /a}, {key: k, path: ../x}, {key: k, path: ..x, mode: -1}]}},
              {name: d, persistentVolumeClaim: {claimName: ''}}, {name: e, nfs: {server: '', path: x}}, {name: f, csi: {driver: ''}}]",
            expect![[r#"
                spec.volumes[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
                spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'
                spec.volumes[0].hostPath.type: Unsupported value: "Door": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
                spec.volumes[1].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity
                spec.volumes[2].name: Duplicate value: "b"
                spec.volumes[2].secret.secretName: Required value
                spec.volumes[3].configMap.name: Required value
                spec.volumes[3].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
                spec.volumes[3].configMap.items[0].key: Required value
                spec.volumes[3].configMap.items[0].path: Invalid value: "/a": must be a relative path
                spec.volumes[3].configMap.items[1].path: Invalid value: "../x": must not contain '..'
                spec.volumes[3].configMap.items[2].path: Invalid value: "..x": must not start with '..'
                spec.volumes[3].configMap.items[2].mode: Invalid value: -1: must be a number between 0 and 0777 (octal), both inclusive
                spec.volumes[4].persistentVolumeClaim.claimName: Required value
                spec.volumes[5].nfs.server: Required value
                spec.volumes[5].nfs.path: Invalid value: "x": must be an absolute path
                spec.volumes[6].csi.driver: Required value"#]],
        );
    }

    #[test]
    fn projections() {
        check_volumes(
            "[{name: a, projected: {sources: [{}, {secret: {name: s, items: [{key: k, path: p}]}, configMap: {name: ''}},
               {downwardAPI: {items: [{path: p, fieldRef: {fieldPath: spec.nodeName}}, {path: q}]}}, {serviceAccountToken: {path: '', expirationSeconds: 10}}]}}]",
            expect![[r#"
                spec.volumes[0].projected.sources[0]: Required value: must specify at least one projected source type
                spec.volumes[0].projected.sources[1].configMap: Forbidden: may not specify more than 1 volume type
                spec.volumes[0].projected.sources[1].configMap.name: Required value
                spec.volumes[0].projected.sources[2].downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"
                spec.volumes[0].projected.sources[2].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required
                spec.volumes[0].projected.sources[2]: Invalid value: "downwardAPI": conflicting duplicate paths
                spec.volumes[0].projected.sources[3].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes
                spec.volumes[0].projected.sources[3].serviceAccountToken.path: Required value"#]],
        );
    }
}
