//! What is wrong with a container's environment, and with the fields of a pod that its containers can see.

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, ResourceFieldSelector, Volume,
};

use super::volumes::validate_file_path;
use crate::resources::bounds::{follows, one_of};
use crate::resources::quantities::is_huge_pages;

/// Fields of a pod that an environment variable can have.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file can have.
pub(super) const FILE_FIELDS: &[&str] = &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Amounts of a container's that its environment and files can have.
const AMOUNTS: &[&str] =
    &["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];

pub(super) fn validate(env: Option<&[EnvVar]>, from: Option<&[EnvFromSource]>, volumes: &[Volume], container: &Path, errors: &mut Errors) {
    for (i, variable) in env.into_iter().flatten().enumerate() {
        let path = container.child("env").index(i);
        if variable.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            follows(&variable.name, names::env_var_name, &path.child("name"), errors);
        }
        if let Some(source) = &variable.value_from {
            let has_value = variable.value.as_ref().is_some_and(|v| !v.is_empty());
            validate_source(source, has_value, volumes, &path.child("valueFrom"), errors);
        }
    }
    for (i, source) in from.into_iter().flatten().enumerate() {
        validate_from(source, &container.child("envFrom").index(i), errors);
    }
}

fn validate_source(source: &EnvVarSource, has_value: bool, volumes: &[Volume], path: &Path, errors: &mut Errors) {
    let mut count = 0;
    if let Some(field) = &source.field_ref {
        count += 1;
        validate_field(field, ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(field) = &source.resource_field_ref {
        count += 1;
        validate_resource_field(field, false, &path.child("resourceFieldRef"), errors);
    }
    if let Some(key) = &source.config_map_key_ref {
        count += 1;
        validate_key(&key.name, &key.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(key) = &source.secret_key_ref {
        count += 1;
        validate_key(&key.name, &key.key, &path.child("secretKeyRef"), errors);
    }
    if let Some(file) = &source.file_key_ref {
        count += 1;
        validate_file_key(file, volumes, &path.child("fileKeyRef"), errors);
    }
    if count == 0 {
        errors.invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`");
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A file is one that a container of the pod writes, so that nothing of the node can be read this way (KEP-3721).
fn validate_file_key(file: &FileKeySelector, volumes: &[Volume], path: &Path, errors: &mut Errors) {
    if file.key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        follows(&file.key, names::env_var_name, &path.child("key"), errors);
    }
    let of_volume = path.child("volumeName");
    match volumes.iter().find(|v| v.name == file.volume_name) {
        _ if file.volume_name.is_empty() => errors.required(&of_volume, ""),
        None => errors.not_found(&of_volume, &file.volume_name),
        Some(v) if v.empty_dir.is_none() => errors.invalid(&of_volume, &file.volume_name, "referenced volume must be of type emptyDir"),
        Some(_) => {}
    }
    if file.path.is_empty() {
        errors.required(&path.child("path"), "");
    } else {
        validate_file_path(&file.path, &path.child("path"), errors);
    }
}

fn validate_key(name: &str, key: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        follows(key, names::config_map_key, &path.child("key"), errors);
    }
}

fn validate_from(source: &EnvFromSource, path: &Path, errors: &mut Errors) {
    if let Some(prefix) = source.prefix.as_ref().filter(|p| !p.is_empty()) {
        follows(prefix, names::env_var_name, &path.child("prefix"), errors);
    }
    let mut count = 0;
    for (field, name) in
        [("configMapRef", source.config_map_ref.as_ref().map(|r| &r.name)), ("secretRef", source.secret_ref.as_ref().map(|r| &r.name))]
    {
        let Some(name) = name else { continue };
        count += 1;
        if name.is_empty() {
            errors.required(&path.child(field).child("name"), "");
        }
    }
    match count {
        0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

/// Checks a reference to a field of the pod.
pub(super) fn validate_field(field: &ObjectFieldSelector, known: &[&str], path: &Path, errors: &mut Errors) {
    if field.api_version.as_ref().is_none_or(String::is_empty) {
        return errors.required(&path.child("apiVersion"), "");
    }
    let path = path.child("fieldPath");
    if field.field_path.is_empty() {
        return errors.required(&path, "");
    }
    let subscript = field.field_path.strip_suffix("']").and_then(|p| p.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => follows(&key.to_lowercase(), names::qualified_name, &path, errors),
        Some(("metadata.labels", key)) => follows(key, names::qualified_name, &path, errors),
        Some((other, _)) => errors.invalid(&path, other, "does not support subscript"),
        None => {
            let all = [ENV_FIELDS, FILE_FIELDS].concat();
            if all.contains(&field.field_path.as_str()) {
                one_of(&field.field_path, known, &path, errors);
            } else {
                let why = format!("error converting fieldPath: field label not supported: {}", field.field_path);
                errors.invalid(&path, &field.field_path, &why);
            }
        }
    }
}

/// Checks a reference to an amount that a container asks for or may use.
pub(super) fn validate_resource_field(field: &ResourceFieldSelector, in_volume: bool, path: &Path, errors: &mut Errors) {
    if in_volume && field.container_name.as_ref().is_none_or(String::is_empty) {
        return errors.required(&path.child("containerName"), "");
    }
    if field.resource.is_empty() {
        return errors.required(&path.child("resource"), "");
    }
    let huge = field.resource.split_once('.').is_some_and(|(kind, name)| matches!(kind, "limits" | "requests") && is_huge_pages(name));
    if !huge && !AMOUNTS.contains(&field.resource.as_str()) {
        return errors.not_supported(&path.child("resource"), &field.resource, AMOUNTS);
    }
    validate_divisor(field, path, errors);
}

fn validate_divisor(field: &ResourceFieldSelector, path: &Path, errors: &mut Errors) {
    const UNITS: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let Some(divisor) = field.divisor.as_ref().map(|d| d.0.as_str()).filter(|d| *d != "0" && !d.is_empty()) else { return };
    let name = field.resource.split_once('.').map_or("", |(_, n)| n);
    let (known, said): (Vec<&str>, &str) = if name == "cpu" { (vec!["1m", "1"], "1m and 1") } else { (UNITS.split(", ").collect(), UNITS) };
    if !known.contains(&divisor) {
        let name = if is_huge_pages(name) { "hugepages" } else { name };
        let why = format!("only divisor's values {said} are supported with the {name} resource");
        errors.invalid(&path.child("divisor"), divisor, &why);
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::{check, check_container};
    use expect_test::expect;

    #[test]
    fn files() {
        let file = |name: &str, of: &str| format!("{{name: {name}, valueFrom: {{fileKeyRef: {{{of}}}}}}}");
        let env = [
            file("a", "volumeName: v, path: a/b.env, key: K"),
            file("b", "volumeName: w, path: ../x, key: 'a=b'"),
            file("c", "volumeName: s, path: /x, key: K"),
            file("d", "volumeName: '', path: '', key: ''"),
        ];
        check(
            &format!(
                "volumes: [{{name: v, emptyDir: {{}}}}, {{name: s, secret: {{secretName: s}}}}], containers: [{{name: c, image: i, env: [{}]}}]",
                env.join(", ")
            ),
            expect![[r#"
                spec.containers[0].env[1].valueFrom.fileKeyRef.key: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
                spec.containers[0].env[1].valueFrom.fileKeyRef.volumeName: Not found: "w"
                spec.containers[0].env[1].valueFrom.fileKeyRef.path: Invalid value: "../x": must not contain '..'
                spec.containers[0].env[2].valueFrom.fileKeyRef.volumeName: Invalid value: "s": referenced volume must be of type emptyDir
                spec.containers[0].env[2].valueFrom.fileKeyRef.path: Invalid value: "/x": must be a relative path
                spec.containers[0].env[3].valueFrom.fileKeyRef.key: Required value
                spec.containers[0].env[3].valueFrom.fileKeyRef.volumeName: Required value
                spec.containers[0].env[3].valueFrom.fileKeyRef.path: Required value"#]],
        );
    }

    #[test]
    fn variables() {
        check_container(
            "env: [{name: ''}, {name: 'a=b'}, {name: e, valueFrom: {}}, {name: f, value: x, valueFrom: {fieldRef: {fieldPath: metadata.nome}}},
              {name: g, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}, {name: h, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}},
              {name: i, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2}}}, {name: j, valueFrom: {secretKeyRef: {name: s, key: ''}}}],
             envFrom: [{}, {prefix: 'a=', configMapRef: {name: ''}}]",
            expect![[r#"
                spec.containers[0].env[0].name: Required value
                spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
                spec.containers[0].env[2].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
                spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.nome": error converting fieldPath: field label not supported: metadata.nome
                spec.containers[0].env[3].valueFrom: Invalid value: "": may not be specified when `value` is not empty
                spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
                spec.containers[0].env[6].valueFrom.resourceFieldRef.divisor: Invalid value: "2": only divisor's values 1m and 1 are supported with the cpu resource
                spec.containers[0].env[7].valueFrom.secretKeyRef.key: Required value
                spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
                spec.containers[0].envFrom[1].prefix: Invalid value: "a=": a valid environment variable name must consist only of printable ASCII characters other than '='
                spec.containers[0].envFrom[1].configMapRef.name: Required value"#]],
        );
    }
}
