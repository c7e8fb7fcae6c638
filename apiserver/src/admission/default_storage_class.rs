//! A claim that names no storage class gets the default one.

use api::object::Meta as _;
use api::status::Status;
use serde_json::Value;

use super::{Attributes, Step, View, newest_default};

/// Marks the default class; the second name is from before v1.
pub const DEFAULT: &[&str] = &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Upstream's `DefaultStorageClass`.
pub struct DefaultStorageClass;

impl Step for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn admit(&self, at: &Attributes<'_>, claim: &mut Value, view: &dyn View) -> Result<(), Status> {
        let named = claim["spec"].get("storageClassName").is_some() || claim.annotations().contains_key(CLASS_ANNOTATION);
        if !at.creates("", "persistentvolumeclaims") || named || !claim["spec"].is_object() {
            return Ok(());
        }
        if let Some(class) = newest_default(view.list("storage.k8s.io", "storageclasses", None), DEFAULT) {
            claim["spec"]["storageClassName"] = class.name().into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left};
    use super::DefaultStorageClass;
    use crate::resources::core::persistentvolumeclaims;

    #[test]
    fn the_newest_default() {
        let class = |name: &str, year: u32| {
            format!(
                "{{metadata: {{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z', annotations: {{storageclass.kubernetes.io/is-default-class: 'true'}}}}}}"
            )
        };
        let (old, new) = (class("old", 2020), class("new", 2021));
        let world = World::of(&[("storage.k8s.io", "storageclasses", &old), ("storage.k8s.io", "storageclasses", &new)]);
        let class = |spec: &str| {
            let claim = format!("{{metadata: {{name: a}}, spec: {spec}}}");
            left(&DefaultStorageClass, &world, &Request::create(persistentvolumeclaims::row(), &claim), "/spec/storageClassName")
        };
        assert_eq!(class("{}"), "\"new\"");
        assert_eq!(class("{storageClassName: ''}"), "\"\"");
    }
}
