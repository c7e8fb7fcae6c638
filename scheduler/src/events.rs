//! Events about pods: `Scheduled`, `FailedScheduling`, `Preempted`, in upstream's words.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::runtime::events::{self, EventType, Recorder, Reporter};
use kube::{Api, Client};

use crate::identity::{NodeName, Uid};
use crate::pod::Pod;

/// Writes events. What may repeat is counted in one event; what happens once is simply written.
#[derive(Clone)]
pub struct Events {
    client: Client,
    recorder: Recorder,
    reporter: Arc<Reporter>,
}

/// The longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1024;

impl Events {
    /// Events by the scheduler `name` on this host.
    #[must_use]
    pub fn new(client: Client, name: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let reporter = Reporter { controller: name.to_owned(), instance: Some(format!("{name}-{}", host.trim())) };
        Self { recorder: Recorder::new(client.clone(), reporter.clone()), client, reporter: Arc::new(reporter) }
    }

    /// `Scheduled`.
    pub async fn scheduled(&self, pod: &Pod, node: &NodeName, now: Timestamp) {
        let note = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
        self.once(pod, None, ("Scheduled", "Binding"), note, now).await;
    }

    /// `Preempted`: `victim` goes for `pod`.
    pub async fn preempted(&self, victim: &Pod, pod: &Pod, node: &NodeName, now: Timestamp) {
        let uid = pod.uid.as_ref().map_or("", Uid::as_str);
        self.once(victim, Some(pod), ("Preempted", "Preempting"), format!("Preempted by pod {uid} on node {node}"), now).await;
    }

    /// `FailedScheduling`.
    pub async fn failed(&self, pod: &Pod, message: &str) {
        let event = events::Event {
            type_: EventType::Warning,
            reason: "FailedScheduling".to_owned(),
            note: Some(shorten(message)),
            action: "Scheduling".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &reference(pod)).await {
            tracing::warn!(
                error = daemon::describe(&error),
                namespace = &*pod.namespace,
                name = &*pod.name,
                "writing the event FailedScheduling"
            );
        }
    }

    async fn once(&self, pod: &Pod, related: Option<&Pod>, (reason, action): (&str, &str), note: String, now: Timestamp) {
        let event = Event {
            metadata: ObjectMeta {
                namespace: Some(pod.namespace.to_string()),
                name: Some(format!("{}.{:x}", pod.name, now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            type_: Some("Normal".to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(action.to_owned()),
            note: Some(shorten(&note)),
            event_time: Some(MicroTime(now)),
            regarding: Some(reference(pod)),
            related: related.map(reference),
            reporting_controller: Some(self.reporter.controller.clone()),
            reporting_instance: self.reporter.instance.clone(),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &pod.namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(error = daemon::describe(&error), namespace = &*pod.namespace, name = &*pod.name, "writing the event {reason}");
        }
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.to_string()),
        name: Some(pod.name.to_string()),
        uid: pod.uid.as_ref().map(|uid| uid.as_str().to_owned()),
        ..ObjectReference::default()
    }
}

fn shorten(note: &str) -> String {
    const ELLIPSIS: &str = " ...";
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let mut end = LONGEST_NOTE - ELLIPSIS.len();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(shorten("short"), "short");
        let cut = shorten(&"ä".repeat(1000));
        assert!(cut.len() <= 1024 && cut.ends_with("ä ..."), "{cut}");
    }
}
