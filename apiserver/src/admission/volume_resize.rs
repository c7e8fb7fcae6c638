//! A claim can ask for more when it is bound and its class allows that.

use api::object::ObjectKey;
use api::quantity::Quantity;
use api::status::Status;
use serde_json::Value;

use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::{flag, text};

/// Upstream's `PersistentVolumeClaimResize`.
pub struct PersistentVolumeClaimResize;

impl Step for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate(&self, at: &Attributes<'_>, claim: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        let Some(old) = at.old.filter(|_| at.operation == Operation::Update && at.is("", "persistentvolumeclaims")) else { return Ok(()) };
        let asked = |o: &Value| text(o, "/spec/resources/requests/storage").parse::<Quantity>().unwrap_or(Quantity::ZERO);
        if asked(claim) <= asked(old) {
            return Ok(());
        }
        if text(old, "/status/phase") != "Bound" {
            return Err(at.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = text(claim, "/spec/storageClassName");
        let class = view.get("storage.k8s.io", "storageclasses", &ObjectKey::cluster(class));
        if class.is_some_and(|c| flag(&c, "/allowVolumeExpansion")) {
            return Ok(());
        }
        Err(at
            .forbidden("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, verdict};
    use super::PersistentVolumeClaimResize;
    use crate::resources::core::persistentvolumeclaims;

    #[test]
    fn when_bound_and_allowed() {
        let world = World::of(&[("storage.k8s.io", "storageclasses", "{metadata: {name: grows}, allowVolumeExpansion: true}")]);
        let grow = |class: &str, phase: &str| {
            let claim = |size: &str| {
                format!(
                    "{{metadata: {{name: a}}, spec: {{storageClassName: {class}, resources: {{requests: {{storage: {size}}}}}}}, status: {{phase: {phase}}}}}"
                )
            };
            verdict(&PersistentVolumeClaimResize, &world, &Request::update(persistentvolumeclaims::row(), &claim("1Gi"), &claim("2Gi")))
        };
        assert_eq!(grow("grows", "Bound"), "ok");
        assert!(grow("grows", "Pending").ends_with("Only bound persistent volume claims can be expanded"));
        assert!(grow("stays", "Bound").ends_with("must support resize"));
    }
}
