//! `secret`: the keys of a Secret as files in memory. They follow the object while the pod runs.

use k8s_openapi::api::core::v1::{KeyToPath, Secret};

use super::atomic_writer::Payload;
use super::{VolumeError, key_to_path};

/// The files that show `secret`; `None` when there is no such Secret.
///
/// # Errors
/// A Secret or key that is not there and not optional, in upstream's words.
pub fn payload(
    name: &str,
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let Some(secret) = secret else {
        return if optional { Ok(Payload::new()) } else { Err(VolumeError(format!("secret {name:?} not found"))) };
    };
    let data = secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    key_to_path::files(data.collect(), items, default_mode, optional)
        .map_err(|key| VolumeError(format!("references non-existent secret key: {key}")))
}
