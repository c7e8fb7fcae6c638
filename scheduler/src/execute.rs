//! Does what the scheduler decided. Nothing is decided here.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use daemon::clock::Clock;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::bind::bind;
use crate::events::Events;
use crate::identity::{NodeName, Uid};
use crate::observation::{Binding, Observation};
use crate::pod::Pod;
use crate::preempt::Plan;
use crate::scheduler::{Effect, Reason};
use crate::status;
use crate::volumes::{SELECTED_NODE, VolumePlan};

/// How many victims of one pod are evicted at a time.
const EVICTIONS: usize = 16;

/// What is needed for doing.
#[derive(Clone)]
pub struct Executor {
    /// Speaks to the apiserver.
    pub client: Client,
    /// Writes events.
    pub events: Events,
    /// The time.
    pub clock: Clock,
}

impl Executor {
    /// Does `effect`. Gives back what came of it, where the scheduler waits for that; even of a panic, so that one pod's bad
    /// luck leaves the others, and the pod itself gets another try.
    pub async fn execute_or_say(&self, effect: Effect) -> Option<Observation> {
        let broken = || "the scheduler panicked".to_owned();
        let otherwise = match &effect {
            Effect::Bind { pod, .. } => pod.uid.clone().map(|uid| Observation::Bound(uid, Binding::Failed(broken()))),
            Effect::Evict { pod, .. } => pod.uid.clone().map(|uid| Observation::Evicted { uid, failed: true }),
            Effect::AskForVolumes { pod, .. } => pod.uid.clone().map(|uid| Observation::VolumesAsked(uid, Err(broken()))),
            Effect::Scheduled { .. } | Effect::Explain { .. } | Effect::Withdraw(_) => None,
        };
        AssertUnwindSafe(self.execute(effect)).catch_unwind().await.unwrap_or(otherwise)
    }

    async fn execute(&self, effect: Effect) -> Option<Observation> {
        match effect {
            Effect::Bind { pod, node } => {
                let outcome = bind(&self.client, &pod, &node).await;
                if let Binding::Failed(error) = &outcome {
                    tracing::warn!(error, namespace = &*pod.namespace, name = &*pod.name, node = node.as_str(), "binding failed");
                }
                Some(Observation::Bound(pod.uid.clone()?, outcome))
            }
            Effect::AskForVolumes { pod, node, plan } => {
                let asked = self.ask_for_volumes(&plan, &node).await;
                if let Err(error) = &asked {
                    tracing::warn!(
                        error,
                        namespace = &*pod.namespace,
                        name = &*pod.name,
                        node = node.as_str(),
                        "asking for volumes failed"
                    );
                }
                Some(Observation::VolumesAsked(pod.uid.clone()?, asked))
            }
            Effect::Scheduled { pod, node } => {
                tracing::info!(namespace = &*pod.namespace, name = &*pod.name, node = node.as_str(), "bound the pod");
                self.events.scheduled(&pod, &node, self.clock.now()).await;
                None
            }
            Effect::Explain { pod, reason, message, nominate } => {
                let nominate = nominate.as_ref().map(Option::as_ref);
                if let Some(patch) = status::not_scheduled(&pod, reason.as_str(), &message, nominate, self.clock.now()) {
                    self.patch(&pod, &patch).await;
                }
                if reason != Reason::SchedulingGated {
                    tracing::info!(namespace = &*pod.namespace, name = &*pod.name, why = message, "the pod has no node yet");
                    self.events.failed(&pod, &message).await;
                }
                None
            }
            Effect::Withdraw(pod) => {
                self.patch(&pod, &status::not_nominated(&pod)).await;
                None
            }
            Effect::Evict { pod, plan } => {
                let done = self.evictions(&pod, &plan).await;
                Some(Observation::Evicted { uid: pod.uid.clone()?, failed: done.contains(&false) })
            }
        }
    }

    /// Points volumes at the pod's claims, and tells provisioners the node, all on what was decided by: nothing another wrote
    /// meanwhile is overwritten.
    async fn ask_for_volumes(&self, plan: &VolumePlan, node: &NodeName) -> Result<(), String> {
        let volumes: Api<core::PersistentVolume> = Api::all(self.client.clone());
        let merge = PatchParams::default();
        for (volume, claim) in &plan.take {
            let (namespace, name) = &claim.key;
            let mut patch = json!({
                "metadata": {"resourceVersion": volume.resource_version},
                "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name,
                                      "uid": claim.uid.as_ref().map(Uid::as_str)}},
            });
            // Where a person pointed it at the claim, that stays to be seen.
            if volume.claim.is_none() {
                patch["metadata"]["annotations"] = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
            }
            let done = volumes.patch(&volume.name, &merge, &Patch::Merge(&patch)).await;
            done.map_err(|e| format!("volume {}: {}", volume.name, daemon::describe(&e)))?;
        }
        for claim in &plan.provision {
            let (namespace, name) = &claim.key;
            let claims: Api<core::PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
            let annotations = json!({SELECTED_NODE: node.as_str()});
            let patch = json!({"metadata": {"resourceVersion": claim.resource_version, "annotations": annotations}});
            claims
                .patch(name, &merge, &Patch::Merge(&patch))
                .await
                .map_err(|e| format!("claim {namespace}/{name}: {}", daemon::describe(&e)))?;
        }
        Ok(())
    }

    /// Of each victim, whether it goes.
    async fn evictions(&self, pod: &Arc<Pod>, plan: &Plan) -> Vec<bool> {
        let mut evictions = Vec::new();
        for victim in plan.victims.iter().filter(|v| !v.deleting) {
            evictions.push(self.evict(victim, pod, &plan.node));
        }
        futures::stream::iter(evictions).buffer_unordered(EVICTIONS).collect().await
    }

    /// Whether the victim goes, or is gone.
    async fn evict(&self, victim: &Pod, pod: &Arc<Pod>, node: &NodeName) -> bool {
        if !self.patch(victim, &status::preempted(victim, pod, self.clock.now())).await {
            return false;
        }
        let pods: Api<core::Pod> = Api::namespaced(self.client.clone(), &victim.namespace);
        let uid = victim.uid.as_ref().map(|uid| Uid::as_str(uid).to_owned());
        let params = DeleteParams { preconditions: Some(Preconditions { uid, ..Preconditions::default() }), ..DeleteParams::default() };
        match pods.delete(&victim.name, &params).await {
            Ok(_) => {
                tracing::info!(
                    namespace = &*victim.namespace,
                    name = &*victim.name,
                    node = node.as_str(),
                    by = &*pod.name,
                    "evicted the pod"
                );
                self.events.preempted(victim, pod, node, self.clock.now()).await;
                true
            }
            Err(error) => gone(&error) || told(&error, victim, "evicting the pod"),
        }
    }

    /// Whether the status is patched, or the pod is gone.
    async fn patch(&self, pod: &Pod, patch: &Value) -> bool {
        let pods: Api<core::Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        match pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => true,
            Err(error) => gone(&error) || told(&error, pod, "patching the pod's status"),
        }
    }
}

/// Whether the pod is gone, or another one has its name.
fn gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

fn told(error: &kube::Error, pod: &Pod, what: &str) -> bool {
    tracing::warn!(error = daemon::describe(error), namespace = &*pod.namespace, name = &*pod.name, "{what}");
    false
}
