//! An Ingress that names no class gets the default one.

use api::object::Meta as _;
use api::status::Status;
use serde_json::Value;

use super::{Attributes, Step, View, newest_default};

const DEFAULT: &[&str] = &["ingressclass.kubernetes.io/is-default-class"];
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Upstream's `DefaultIngressClass`.
pub struct DefaultIngressClass;

impl Step for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn admit(&self, at: &Attributes<'_>, ingress: &mut Value, view: &dyn View) -> Result<(), Status> {
        let named = ingress["spec"].get("ingressClassName").is_some() || ingress.annotations().contains_key(CLASS_ANNOTATION);
        if !at.creates("networking.k8s.io", "ingresses") || named || !ingress["spec"].is_object() {
            return Ok(());
        }
        if let Some(class) = newest_default(view.list("networking.k8s.io", "ingressclasses", None), DEFAULT) {
            ingress["spec"]["ingressClassName"] = class.name().into();
        }
        Ok(())
    }
}
