//! The revisions of a DaemonSet or StatefulSet, kept as ControllerRevisions, as `kubectl rollout` reads them.
//!
//! A revision is a patch of the template. A template seen before gets the next number rather than a new object.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::controllers::deployment::encoded_hash;
use crate::kind::Object;
use crate::plan::{Action, Plan, Propagation, to_json};

/// The label on pods, and on a DaemonSet's revisions, that names the revision.
pub const HASH: &str = "controller-revision-hash";
/// The label on a StatefulSet's revisions with the hash.
pub const REVISION_HASH: &str = "controller.kubernetes.io/hash";

/// The patch that gives an object this template.
fn patch(template: &PodTemplateSpec) -> Value {
    let mut template = to_json(template);
    template["$patch"] = "replace".into();
    json!({ "spec": { "template": template } })
}

/// The template that a revision holds.
#[must_use]
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    serde_json::from_value(revision.data.as_ref()?.0["spec"]["template"].clone()).ok()
}

/// What came of bringing the history up to date.
pub struct Current {
    /// The revision of the template as it is now.
    pub revision: ControllerRevision,
    /// The hash in its name.
    pub hash: String,
    /// How many times a name was taken by something else.
    pub collisions: Option<i32>,
}

/// The hash that a revision is known by.
#[must_use]
pub fn hash_of(revision: &ControllerRevision) -> String {
    let label = revision.label(HASH).or(revision.label(REVISION_HASH));
    label.map_or_else(|| revision.name().rsplit('-').next().unwrap_or_default().to_owned(), str::to_owned)
}

/// The revision of `template` among `all`, with what makes it so put into `plan`.
///
/// `taken` says whether a ControllerRevision of that name exists that is not among `all`.
pub fn current<O: Object>(
    owner: &O,
    template: &PodTemplateSpec,
    all: &[Arc<ControllerRevision>],
    collisions: Option<i32>,
    taken: impl Fn(&str) -> bool,
    plan: &mut Plan,
) -> Current {
    let data = patch(template);
    let last = all.iter().map(|r| r.revision).max().unwrap_or(0);
    let same = all.iter().filter(|r| r.data.as_ref().is_some_and(|d| d.0 == data)).max_by_key(|r| r.revision);
    if let Some(same) = same {
        let mut revision = same.as_ref().clone();
        if revision.revision < last {
            revision.revision = last + 1;
            plan.update(same.as_ref(), &revision);
        }
        return Current { hash: hash_of(&revision), revision, collisions };
    }
    let mut collisions = collisions;
    loop {
        let hash = encoded_hash(data.to_string().as_bytes(), collisions);
        let name = format!("{}-{hash}", owner.name());
        if taken(&name) || all.iter().any(|r| r.name() == name) {
            collisions = Some(collisions.unwrap_or(0) + 1);
            continue;
        }
        let mut revision = ControllerRevision { data: Some(RawExtension(data)), revision: last + 1, ..ControllerRevision::default() };
        let mut labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        labels.insert(HASH.to_owned(), hash.clone());
        labels.insert(REVISION_HASH.to_owned(), hash.clone());
        revision.metadata.name = Some(name);
        revision.metadata.namespace = owner.meta().namespace.clone();
        revision.metadata.labels = Some(labels);
        revision.metadata.annotations = owner.meta().annotations.clone().map(|mut a| {
            a.remove("kubectl.kubernetes.io/last-applied-configuration");
            a
        });
        revision.metadata.owner_references = Some(vec![owner.controller_ref()]);
        plan.push(Action::create(&revision));
        return Current { revision, hash, collisions };
    }
}

/// Deletes the oldest revisions beyond `limit` that are not `live`.
pub fn clean_up(all: &[Arc<ControllerRevision>], live: impl Fn(&ControllerRevision) -> bool, limit: i32, plan: &mut Plan) {
    let mut dead: Vec<&Arc<ControllerRevision>> = all.iter().filter(|r| !live(r) && !r.deleting()).collect();
    dead.sort_by_key(|r| r.revision);
    let surplus = dead.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    plan.actions.extend(dead.into_iter().take(surplus).map(|r| Action::delete(r.as_ref(), Propagation::Default)));
}
