//! Volumes and claims stay as long as they are used: a finalizer holds them, which their controllers take off.

use api::object::Meta as _;
use api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Step, View};

/// Upstream's `StorageObjectInUseProtection`.
pub struct StorageObjectInUseProtection;

impl Step for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn admit(&self, at: &Attributes<'_>, obj: &mut Value, _: &dyn View) -> Result<(), Status> {
        let finalizer = match (at.row.group.as_ref(), at.row.plural.as_ref()) {
            ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            ("", "persistentvolumes") => "kubernetes.io/pv-protection",
            ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        if at.operation == Operation::Create && at.subresource.is_empty() && !obj.finalizers().contains(&finalizer) {
            let all: Vec<&str> = obj.finalizers().into_iter().chain([finalizer]).collect();
            let all = json!(all);
            obj.set_meta("finalizers", all);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left};
    use super::StorageObjectInUseProtection;
    use crate::resources::core::persistentvolumeclaims;

    #[test]
    fn claims_are_held() {
        let request = Request::create(persistentvolumeclaims::row(), "{metadata: {name: a, finalizers: [b/c]}}");
        let left = left(&StorageObjectInUseProtection, &World::default(), &request, "/metadata/finalizers");
        assert_eq!(left, r#"["b/c","kubernetes.io/pvc-protection"]"#);
    }
}
