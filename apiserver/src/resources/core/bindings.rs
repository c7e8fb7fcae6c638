//! v1 Binding: gives a pod its node. Nothing of it is stored; the legacy path of `pods/binding`.

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::Binding;

use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "Binding", "bindings").virtual_kind().rules::<Binding>(BindingRules)
}

struct BindingRules;

impl Rules<Binding> for BindingRules {
    fn validate(&self, binding: &Binding, errors: &mut Errors) {
        let path = Path::new("target");
        match binding.target.kind.as_deref() {
            None | Some("" | "Node") => {}
            Some(other) => errors.not_supported(&path.child("kind"), other, &["Node", "<empty>"]),
        }
        if binding.target.name.as_ref().is_none_or(String::is_empty) {
            errors.required(&path.child("name"), "");
        }
    }
}
