//! storage.k8s.io/v1 VolumeAttachment

use api::field::{Errors, Path};
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentStatus};

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::cells::flag;
use crate::resources::equality::immutable;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "VolumeAttachment", "volumeattachments")
        .returns_deleted()
        .status()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column::text("Attacher", "/spec/attacher"),
            Column::text("PV", "/spec/source/persistentVolumeName"),
            Column::text("Node", "/spec/nodeName"),
            Column::compute("Attached", |o, _| flag(o, "/status/attached").to_string().into()),
            Column::age(),
        ])
        .rules::<VolumeAttachment>(AttachmentRules)
}

struct AttachmentRules;

impl Rules<VolumeAttachment> for AttachmentRules {
    fn prepare_create(&self, attachment: &mut VolumeAttachment, _: Cx<'_>) {
        attachment.status = Some(VolumeAttachmentStatus::default());
    }
    fn prepare_update(&self, new: &mut VolumeAttachment, old: &VolumeAttachment, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut VolumeAttachment, old: &VolumeAttachment, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, attachment: &VolumeAttachment, errors: &mut Errors) {
        let (spec, path) = (&attachment.spec, Path::new("spec"));
        for (name, value) in [("attacher", &spec.attacher), ("nodeName", &spec.node_name)] {
            if value.is_empty() {
                errors.required(&path.child(name), "");
            }
        }
        let source = path.child("source");
        match (&spec.source.persistent_volume_name, &spec.source.inline_volume_spec) {
            (None, None) => errors.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
            (Some(_), Some(_)) => errors.forbidden(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
            (Some(name), None) if name.is_empty() => {
                errors.required(&source.child("persistentVolumeName"), "must specify non empty persistentVolumeName")
            }
            _ => {}
        }
    }
    fn validate_update(&self, new: &VolumeAttachment, old: &VolumeAttachment, errors: &mut Errors) {
        immutable(&Path::new("spec"), &new.spec, &old.spec, errors);
    }
}
