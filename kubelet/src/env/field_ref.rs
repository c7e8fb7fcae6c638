//! `fieldRef`: fields of the pod, as a variable or a file of the downward API shows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

use super::{EnvError, NodeFacts};

/// The text of the field at `path`.
///
/// # Errors
/// A path that names no supported field.
pub fn field_value(pod: &Pod, path: &str, node: &NodeFacts, pod_ips: &[String]) -> Result<String, EnvError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let subscript = |prefix: &str| path.strip_prefix(prefix).and_then(|p| p.strip_prefix("['")).and_then(|p| p.strip_suffix("']"));
    let entry = |map: &Option<BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default();
    if let Some(key) = subscript("metadata.labels") {
        return Ok(entry(&meta.labels, key));
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Ok(entry(&meta.annotations, key));
    }
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => first(&node.host_ips),
        "status.hostIPs" => node.host_ips.join(","),
        "status.podIP" => first(pod_ips),
        "status.podIPs" => pod_ips.join(","),
        _ => return Err(EnvError(format!("unsupported fieldPath: {path}"))),
    })
}

/// A map as a file of the downward API shows it: sorted lines of `key="value"`, values escaped as Go's `%q` does.
#[must_use]
pub fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(key);
        out.push('=');
        quote(value, &mut out);
    }
    out
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32); // writing to a String cannot fail
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32); // as above
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
