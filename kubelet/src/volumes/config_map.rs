//! `configMap`: the keys of a ConfigMap as files. They follow the object while the pod runs.

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath};

use super::atomic_writer::Payload;
use super::{VolumeError, key_to_path};

/// The files that show `map`; `None` when there is no such ConfigMap.
///
/// # Errors
/// A ConfigMap or key that is not there and not optional, in upstream's words.
pub fn payload(
    name: &str,
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let Some(map) = map else {
        return if optional { Ok(Payload::new()) } else { Err(VolumeError(format!("configmap {name:?} not found"))) };
    };
    let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    key_to_path::files(text.chain(binary).collect(), items, default_mode, optional)
        .map_err(|key| VolumeError(format!("configmap references non-existent config key: {key}")))
}
