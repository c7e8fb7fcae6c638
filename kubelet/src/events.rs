//! Events about pods and the node, in upstream's form: core/v1, source `kubelet` and host, repeats counted on one object.
//!
//! Reporting never waits and never fails the caller: a full queue drops the event and says so in the log. The same
//! event again (same object, part, reason and message) raises `count`, as `kubectl describe` shows it (x3 over 2m).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait to be sent while the apiserver is slow; more are dropped.
const QUEUE: usize = 1_000;
/// Events remembered for counting repeats; the oldest are forgotten.
const REMEMBERED: usize = 1_000;
/// The apiserver accepts messages of at most this many bytes (validation of core/v1 Event).
const MAX_MESSAGE: usize = 1_024;

/// Whether an event is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Expected.
    Normal,
    /// Something is wrong.
    Warning,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something to tell people, about an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The object it is about, with `fieldPath` naming a container.
    pub about: ObjectReference,
    /// Expected or not.
    pub kind: Kind,
    /// CamelCase word for machines.
    pub reason: String,
    /// Sentence for people.
    pub message: String,
}

/// Where events go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<Report>);

impl Events {
    /// A sink and the other end, for [`publish`] or a test to read.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Reports about a pod, or about one of its containers when `field_path` names it (see [`container_path`]).
    pub fn pod(&self, pod: &Pod, field_path: Option<String>, kind: Kind, reason: &str, message: impl Into<String>) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path,
        };
        self.send(Report { about, kind, reason: reason.into(), message: message.into() });
    }

    /// Reports about the node.
    pub fn node(&self, node: &Node, kind: Kind, reason: &str, message: impl Into<String>) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: node.metadata.name.clone(),
            // As upstream's kubelets have it; `kubectl describe node` looks for events by this uid as well as by the real one,
            // and older ones by this alone.
            uid: node.metadata.name.clone(),
            ..ObjectReference::default()
        };
        self.send(Report { about, kind, reason: reason.into(), message: message.into() });
    }

    fn send(&self, report: Report) {
        tracing::info!(
            namespace = report.about.namespace.as_deref().unwrap_or_default(),
            name = report.about.name.as_deref().unwrap_or_default(),
            reason = report.reason,
            message = report.message,
            "event"
        );
        if let Err(error) = self.0.try_send(report) {
            tracing::warn!(%error, "an event was dropped");
        }
    }
}

/// The field path of a container of `pod`, in the words of `kubectl get events -o wide`: `spec.containers{name}`.
#[must_use]
pub fn container_path(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let list = if spec.containers.iter().any(|c| c.name == container) {
        "containers"
    } else if spec.init_containers.iter().flatten().any(|c| c.name == container) {
        "initContainers"
    } else if spec.ephemeral_containers.iter().flatten().any(|c| c.name == container) {
        "ephemeralContainers"
    } else {
        return None;
    };
    Some(format!("spec.{list}{{{container}}}"))
}

/// Sends what arrives to the apiserver, until `shutdown`.
pub async fn publish(mut reports: mpsc::Receiver<Report>, client: kube::Client, host: String, shutdown: CancellationToken) {
    let mut seen = Seen::default();
    loop {
        let report = tokio::select! {
            () = shutdown.cancelled() => return,
            report = reports.recv() => match report {
                Some(report) => report,
                None => return,
            },
        };
        let event = seen.next(&report, &host, Timestamp::now());
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        let sent = if event.count > Some(1) {
            let patch = serde_json::json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message});
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
                // The apiserver forgets events after an hour; then it is a new one again.
                Err(kube::Error::Api(status)) if status.code == 404 => api.create(&PostParams::default(), &event).await,
                other => other,
            }
        } else {
            api.create(&PostParams::default(), &event).await
        };
        if let Err(error) = sent {
            tracing::warn!(namespace, name, reason = report.reason, error = daemon::describe(&error), "an event could not be stored");
        }
    }
}

/// Which events were sent before, to count repeats.
#[derive(Default)]
struct Seen {
    events: HashMap<Key, (String, i32, Timestamp)>,
    order: VecDeque<Key>,
}

type Key = Arc<(String, String, String, String, String)>;

impl Seen {
    fn next(&mut self, report: &Report, host: &str, now: Timestamp) -> Event {
        let part = |s: &Option<String>| s.clone().unwrap_or_default();
        let about = &report.about;
        let name = about.name.as_deref().unwrap_or_default();
        let key: Key =
            Arc::new((part(&about.uid), part(&about.field_path), name.to_owned(), report.reason.clone(), report.message.clone()));
        if !self.events.contains_key(&key) {
            if self.order.len() >= REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.events.remove(&oldest);
            }
            self.order.push_back(key.clone());
            self.events.insert(key.clone(), (format!("{name}.{:x}", now.as_nanosecond()), 0, now));
        }
        let entry = self.events.entry(key).or_insert_with(|| (format!("{name}.{:x}", now.as_nanosecond()), 0, now));
        entry.1 = entry.1.saturating_add(1);
        let namespace = about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
        let mut message = report.message.clone();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        }
        Event {
            metadata: ObjectMeta { name: Some(entry.0.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: about.clone(),
            type_: Some(report.kind.as_str().into()),
            reason: Some(report.reason.clone()),
            message: Some(message),
            count: Some(entry.1),
            first_timestamp: Some(Time(entry.2)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some("kubelet".into()), host: Some(host.into()) }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(host.into()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_raises_the_count_of_the_same_event() {
        let (mut seen, now) = (Seen::default(), Timestamp::UNIX_EPOCH);
        let mut report = Report {
            about: ObjectReference { name: Some("p".into()), namespace: Some("ns".into()), ..ObjectReference::default() },
            kind: Kind::Warning,
            reason: "BackOff".into(),
            message: "again".into(),
        };
        let first = seen.next(&report, "n1", now);
        let second = seen.next(&report, "n1", now + jiff::SignedDuration::from_secs(5));
        assert_eq!((first.count, second.count), (Some(1), Some(2)));
        assert_eq!(first.metadata.name, second.metadata.name);
        assert_eq!(second.first_timestamp, Some(Time(now)));
        report.message = "another".into();
        assert_eq!(seen.next(&report, "n1", now + jiff::SignedDuration::from_secs(6)).count, Some(1));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_messages_are_cut_at_a_character() {
        let mut seen = Seen::default();
        for i in 0..REMEMBERED + 10 {
            let message = format!("{i}{}", "ü".repeat(MAX_MESSAGE));
            let report = Report { about: ObjectReference::default(), kind: Kind::Normal, reason: "R".into(), message };
            assert!(seen.next(&report, "n", Timestamp::UNIX_EPOCH).message.is_some_and(|m| m.len() <= MAX_MESSAGE));
        }
        assert_eq!((seen.events.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
    }
}
