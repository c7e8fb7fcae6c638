//! Which ReplicaSet is the new one, what it is called, and the history of the others.

use std::cmp::Ordering;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::rollout::Step;
use super::{Wanted, size};
use crate::kind::Object;
use crate::plan::{Action, Propagation};

/// The revision of a ReplicaSet and of the Deployment whose newest it is; `kubectl rollout history` reads it.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many pods the Deployment wanted when the ReplicaSet was last sized, and at most with surge: for proportional scaling.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// See [`DESIRED`].
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// The label by which the pods of one template are told from those of another.
pub const HASH: &str = "pod-template-hash";
/// Annotations of the Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"];
/// The longest revision history kept in an annotation, in characters.
const MAX_HISTORY: usize = 2_000;

/// The oldest first.
pub fn by_creation(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let created = |rs: &ReplicaSet| rs.metadata.creation_timestamp.as_ref().map(|t| t.0);
    created(a).cmp(&created(b)).then_with(|| a.name().cmp(b.name()))
}

/// The ReplicaSet with the Deployment's template; the oldest, should there be several.
pub fn find_new(all: &[Wanted], template: &PodTemplateSpec) -> Option<usize> {
    all.iter().position(|rs| rs.seen.spec.as_ref().and_then(|s| s.template.as_ref()).is_some_and(|t| same_but_hash(t, template)))
}

fn same_but_hash(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            meta.creation_timestamp = None;
            if let Some(labels) = &mut meta.labels {
                labels.remove(HASH);
            }
            meta.labels = meta.labels.take().filter(|l| !l.is_empty());
        }
        template
    }
    plain(a) == plain(b)
}

/// The revision an object's annotation tells; 0 for none.
pub fn revision<K: Object>(object: &K) -> i64 {
    object.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// Gives the new ReplicaSet the Deployment's annotations and at least this revision (`SetNewReplicaSetAnnotations`).
pub fn annotate(rs: &mut ReplicaSet, deployment: &Deployment, revision_now: i64) {
    let old = revision(rs);
    let annotations = rs.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten().filter(|(k, _)| !NOT_COPIED.contains(&k.as_str())) {
        annotations.insert(key.clone(), value.clone());
    }
    if old >= revision_now {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision_now.to_string());
    if old > 0 {
        // Rolled back to: remember what it was called before.
        let mut history: Vec<String> =
            annotations.get(REVISION_HISTORY).into_iter().flat_map(|h| h.split(',')).filter(|h| !h.is_empty()).map(str::to_owned).collect();
        history.push(old.to_string());
        while history.join(",").len() > MAX_HISTORY {
            history.remove(0);
        }
        annotations.insert(REVISION_HISTORY.to_owned(), history.join(","));
    }
}

/// The Deployment tells the revision of its new ReplicaSet.
pub fn copy_revision(deployment: &mut Deployment, rs: &ReplicaSet) {
    if let Some(revision) = rs.annotation(REVISION) {
        deployment.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.to_owned());
    }
}

/// Notes for which size of the Deployment a ReplicaSet was sized (`SetReplicasAnnotations`).
pub fn note_size(rs: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = rs.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
}

/// The name that a new ReplicaSet of the Deployment as it is now would get.
pub fn name(deployment: &Deployment) -> String {
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = deployment.spec.as_ref().map(|s| hash(&s.template, collisions)).unwrap_or_default();
    format!("{}-{hash}", deployment.name())
}

/// A new ReplicaSet for the Deployment's template, sized for the strategy.
pub fn new_replica_set(step: &Step<'_>, revision: i64, collisions: Option<i32>) -> ReplicaSet {
    let (deployment, spec) = (step.deployment, step.spec);
    let hash = hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let mut rs = ReplicaSet::default();
    rs.metadata.name = Some(format!("{}-{hash}", deployment.name()));
    rs.metadata.namespace = deployment.metadata.namespace.clone();
    rs.metadata.owner_references = Some(vec![deployment.controller_ref()]);
    rs.metadata.labels = Some(labels);
    rs.spec = Some(ReplicaSetSpec {
        replicas: Some(step.size_of_new(0)),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    });
    annotate(&mut rs, deployment, revision);
    note_size(&mut rs, step.replicas(), step.replicas() + step.max_surge());
    rs
}

/// The hash of a template, in letters and digits that spell no word (upstream's `SafeEncodeString` of a 32-bit FNV-1a).
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    encoded_hash(crate::plan::to_json(template).to_string().as_bytes(), collisions)
}

/// The hash of `bytes`, as names carry it.
pub fn encoded_hash(bytes: &[u8], collisions: Option<i32>) -> String {
    let count = collisions.map(|c| c.to_le_bytes());
    let fnv = bytes.iter().chain(count.iter().flatten()).fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    fnv.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// Deletes old ReplicaSets beyond `revisionHistoryLimit`, the lowest revisions first. One that still has pods stays.
pub fn clean_up(step: &Step<'_>) -> Vec<Action> {
    let Some(limit) = step.spec.revision_history_limit.filter(|l| *l != i32::MAX).and_then(|l| usize::try_from(l).ok()) else {
        return vec![];
    };
    let mut old: Vec<&Wanted> = step.old().filter(|rs| !rs.seen.deleting()).collect();
    let Some(surplus) = old.len().checked_sub(limit) else { return vec![] };
    old.sort_by(|a, b| revision(a.seen.as_ref()).cmp(&revision(b.seen.as_ref())).then_with(|| by_creation(&a.seen, &b.seen)));
    let idle = |rs: &&&Wanted| {
        let status = rs.seen.status.clone().unwrap_or_default();
        let observed = status.observed_generation.unwrap_or(0) >= rs.seen.metadata.generation.unwrap_or(0);
        status.replicas == 0 && size(&rs.seen) == 0 && rs.size() == 0 && observed
    };
    old.iter().take(surplus).filter(idle).map(|rs| Action::delete(rs.seen.as_ref(), Propagation::Background)).collect()
}
