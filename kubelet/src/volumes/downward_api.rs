//! `downwardAPI`: fields of the pod and resources of its containers as files. Labels and annotations follow the pod.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

use super::VolumeError;
use super::atomic_writer::{File, Payload};
use super::key_to_path::DEFAULT_MODE;
use crate::env::{NodeFacts, container_named, field_value, resource_value};

/// The files that show what `items` name.
///
/// # Errors
/// A field, container or resource that does not exist.
pub fn payload(
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
    node: &NodeFacts,
) -> Result<Payload, VolumeError> {
    let mut out = Payload::new();
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            field_value(pod, &field.field_path, node, &[])
        } else if let Some(selector) = &item.resource_field_ref {
            container_named(pod, selector.container_name.as_deref().unwrap_or_default())
                .and_then(|c| resource_value(c, &selector.resource, selector.divisor.as_ref(), &node.allocatable))
        } else {
            Ok(String::new())
        };
        let text = text.map_err(|e| VolumeError(e.0))?;
        let mode = item.mode.or(default_mode).unwrap_or(DEFAULT_MODE).cast_unsigned();
        out.insert(item.path.clone(), File { data: text.into_bytes(), mode, owner: None });
    }
    Ok(out)
}
