//! What makes a pod the n-th of its set: name, hostname, labels, claims.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::super::replicaset::pod_from;
use crate::history::HASH;
use crate::kind::Object;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name; none when it is not a pod of the set.
#[must_use]
pub fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let number = pod.strip_prefix(set.name())?.strip_prefix('-')?;
    number.parse().ok().filter(|n: &i32| *n >= 0 && n.to_string() == number)
}

/// The `ordinal`-th pod, of the revision called `revision`.
#[must_use]
pub fn pod(set: &StatefulSet, spec: &StatefulSetSpec, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pod_from(set, template);
    let name = format!("{}-{ordinal}", set.name());
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), revision.to_owned());
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    let inner = pod.spec.get_or_insert_default();
    inner.hostname = Some(name);
    inner.subdomain = spec.service_name.clone();
    let volumes = inner.volumes.get_or_insert_default();
    for template in spec.volume_claim_templates.iter().flatten() {
        volumes.retain(|v| v.name != template.name());
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim_name(set, template.name(), ordinal), read_only: None };
        volumes.push(Volume { name: template.name().to_owned(), persistent_volume_claim: Some(source), ..Volume::default() });
    }
    if volumes.is_empty() {
        inner.volumes = None;
    }
    pod
}

/// The name of the claim that the `ordinal`-th pod has by the template of this name.
#[must_use]
pub fn claim_name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name())
}

/// The claims of the `ordinal`-th pod.
#[must_use]
pub fn claims(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let labels: BTreeMap<String, String> = spec.selector.match_labels.clone().unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template.name(), ordinal));
        claim.metadata.namespace = set.metadata.namespace.clone();
        claim.metadata.labels.get_or_insert_default().extend(labels.clone());
        claim.status = None;
        claim
    };
    spec.volume_claim_templates.iter().flatten().map(claim).collect()
}

/// Whether claims go with the set, and whether with a pod that is scaled away.
#[must_use]
pub fn retention(spec: &StatefulSetSpec) -> (bool, bool) {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |p: Option<&String>| p.map(String::as_str) == Some("Delete");
    (deletes(policy.and_then(|p| p.when_deleted.as_ref())), deletes(policy.and_then(|p| p.when_scaled.as_ref())))
}

/// A claim with the owners that its retention policy asks for; `condemned` is its pod when that is being scaled away.
#[must_use]
pub fn owned_claim(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    claim: &PersistentVolumeClaim,
    condemned: Option<&Pod>,
) -> PersistentVolumeClaim {
    let (with_set, with_pod) = retention(spec);
    let mut claim = claim.clone();
    let owners = claim.metadata.owner_references.get_or_insert_default();
    let ours = |o: &OwnerReference| o.uid == set.uid() || (o.kind == "Pod" && ordinal(set, &o.name).is_some());
    owners.retain(|o| !ours(o));
    let weak = |mut reference: OwnerReference| {
        (reference.controller, reference.block_owner_deletion) = (None, None);
        reference
    };
    match condemned {
        Some(pod) if with_pod => owners.push(weak(pod.controller_ref())),
        _ if with_set => owners.push(weak(set.controller_ref())),
        _ => {}
    }
    if owners.is_empty() {
        claim.metadata.owner_references = None;
    }
    claim
}
