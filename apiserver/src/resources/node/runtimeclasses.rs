//! node.k8s.io/v1 RuntimeClass

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::node::v1::RuntimeClass;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::follows;
use crate::resources::core::pod::scheduling::validate_toleration;
use crate::resources::metadata::validate_labels;
use crate::resources::quantities::{canonical_list, validate_amount};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .conditional_update()
        .columns(vec![Column::name(), Column::text("Handler", "/handler"), Column::age()])
        .rules::<RuntimeClass>(ClassRules)
}

struct ClassRules;

impl Rules<RuntimeClass> for ClassRules {
    fn default(&self, class: &mut RuntimeClass) {
        if let Some(overhead) = &mut class.overhead {
            canonical_list(&mut overhead.pod_fixed);
        }
    }
    fn validate(&self, class: &RuntimeClass, errors: &mut Errors) {
        follows(&class.handler, names::dns1123_label, &Path::new("handler"), errors);
        for (name, text) in class.overhead.iter().flat_map(|o| o.pod_fixed.iter().flatten()) {
            validate_amount(name, text, &Path::new("overhead").child("podFixed").key(name), errors);
        }
        let Some(scheduling) = &class.scheduling else { return };
        let path = Path::new("scheduling");
        validate_labels(scheduling.node_selector.as_ref(), &path.child("nodeSelector"), errors);
        for (i, toleration) in scheduling.tolerations.iter().flatten().enumerate() {
            validate_toleration(toleration, &path.child("tolerations").index(i), errors);
        }
    }
    fn validate_update(&self, new: &RuntimeClass, old: &RuntimeClass, errors: &mut Errors) {
        errors.immutable(&Path::new("handler"), &new.handler, &old.handler);
    }
}
