//! v1 PodTemplate

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::PodTemplate;

use crate::resource::{Column, Resource, Rules};
use crate::resources::cells::{joined, labels};
use crate::resources::pod_template;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "PodTemplate", "podtemplates")
        .returns_deleted()
        .generation()
        .columns(vec![
            Column::name(),
            Column::compute("Containers", |o, _| joined(o, "/template/spec/containers", "/name").into()),
            Column::compute("Images", |o, _| joined(o, "/template/spec/containers", "/image").into()),
            Column::compute("Pod Labels", |o, _| labels(o, "/template/metadata/labels").into()),
        ])
        .rules::<PodTemplate>(TemplateRules)
}

struct TemplateRules;

impl Rules<PodTemplate> for TemplateRules {
    fn default(&self, template: &mut PodTemplate) {
        if let Some(template) = &mut template.template {
            pod_template::default(template);
        }
    }
    fn validate(&self, template: &PodTemplate, errors: &mut Errors) {
        match &template.template {
            Some(template) => pod_template::validate(template, &Path::new("template"), errors),
            None => errors.required(&Path::new("template").child("spec").child("containers"), ""),
        }
    }
}
