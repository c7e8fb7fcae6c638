//! Events about objects, as `kubectl describe` shows them.
//!
//! core/v1 Events, the form that every kubectl reads. An event that repeats is counted, not repeated; an object about which too
//! much is said is not heard for a while (client-go's spam filter: 25 at once, then one in five minutes). Recording never waits
//! and never fails what it tells of: when the apiserver is away, events are dropped and that is logged.

use std::collections::HashMap;
use std::time::Duration;

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::apply::{code, json_request, message};
use crate::kind::{Key, path};
use crate::plan::to_json;

/// Events waiting to be written; more are dropped.
const WAITING: usize = 1_000;
/// Events remembered for counting; client-go remembers as many.
const REMEMBERED: usize = 4_096;
/// An event not repeated for this long starts anew.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// Tokens of the spam filter for each source and object, and how long each takes to come back.
const BURST: f64 = 25.0;
const TOKEN_EVERY: Duration = Duration::from_secs(300);
/// Most bytes of a message, by the API's validation.
const MAX_MESSAGE: usize = 1_024;

struct Told {
    component: &'static str,
    about: ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
}

/// Records events in the name of one controller.
#[derive(Clone)]
pub struct Recorder {
    component: &'static str,
    send: mpsc::Sender<Told>,
}

impl Recorder {
    /// The same channel, in another controller's name.
    #[must_use]
    pub fn named(&self, component: &'static str) -> Self {
        Self { component, send: self.send.clone() }
    }

    /// Records an event.
    pub fn record(&self, about: &ObjectReference, warning: bool, reason: &'static str, message: &str) {
        let mut message = message.to_owned();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        }
        let told = Told { component: self.component, about: about.clone(), warning, reason, message };
        if self.send.try_send(told).is_err() {
            tracing::warn!(reason, "too many events are waiting; one is dropped");
        }
    }
}

/// A recorder, and the work of writing what it records, which ends with the last recorder.
pub fn channel(client: Client) -> (Recorder, impl Future<Output = ()>) {
    let (send, mut receive) = mpsc::channel(WAITING);
    let work = async move {
        let mut memory = Memory::default();
        while let Some(told) = receive.recv().await {
            match write(&client, &mut memory, &told).await {
                Ok(()) => {}
                // A namespace that is going takes no more events.
                Err(error) if matches!(code(&error), Some(403 | 404)) => {
                    tracing::debug!(error = message(&error), reason = told.reason, "an event was refused")
                }
                Err(error) => tracing::warn!(error = message(&error), reason = told.reason, "recording an event"),
            }
        }
    };
    (Recorder { component: "controller-manager", send }, work)
}

#[derive(PartialEq, Eq, Hash, Clone)]
struct Same {
    component: &'static str,
    uid: String,
    name: String,
    reason: &'static str,
    message: String,
}

struct Written {
    key: Key,
    count: i32,
    at: Instant,
}

#[derive(Default)]
struct Memory {
    written: HashMap<Same, Written>,
    tokens: HashMap<(&'static str, String), (f64, Instant)>,
}

impl Memory {
    /// Whether the spam filter lets an event about this object through.
    fn allow(&mut self, component: &'static str, uid: &str, now: Instant) -> bool {
        if self.tokens.len() >= REMEMBERED {
            self.tokens.retain(|_, (left, at)| *left + now.duration_since(*at).div_duration_f64(TOKEN_EVERY) < BURST);
        }
        if self.tokens.len() >= REMEMBERED {
            self.tokens.clear();
        }
        let (left, at) = self.tokens.entry((component, uid.to_owned())).or_insert((BURST, now));
        *left = (*left + now.duration_since(*at).div_duration_f64(TOKEN_EVERY)).min(BURST);
        *at = now;
        let allowed = *left >= 1.0;
        if allowed {
            *left -= 1.0;
        }
        allowed
    }

    fn make_room(&mut self, now: Instant) {
        if self.written.len() >= REMEMBERED {
            self.written.retain(|_, w| now.duration_since(w.at) < REMEMBERED_FOR);
        }
        if self.written.len() >= REMEMBERED
            && let Some(oldest) = self.written.iter().min_by_key(|(_, w)| w.at).map(|(s, _)| s.clone())
        {
            self.written.remove(&oldest);
        }
    }
}

async fn write(client: &Client, memory: &mut Memory, told: &Told) -> kube::Result<()> {
    let now = Instant::now();
    let name = told.about.name.clone().unwrap_or_default();
    let uid = told.about.uid.clone().unwrap_or_default();
    if !memory.allow(told.component, &format!("{uid}{name}"), now) {
        return Ok(());
    }
    let same = Same { component: told.component, uid, name: name.clone(), reason: told.reason, message: told.message.clone() };
    let time = Time(Timestamp::now());
    if let Some(before) = memory.written.get_mut(&same).filter(|w| now.duration_since(w.at) < REMEMBERED_FOR) {
        let patch = json!({ "count": before.count + 1, "lastTimestamp": time });
        let request = json_request(Request::patch(path("v1", "events", &before.key, "")), "application/merge-patch+json", &patch)?;
        match client.request_text(request).await {
            Ok(_) => {
                before.count += 1;
                before.at = now;
                return Ok(());
            }
            Err(error) if code(&error) == Some(404) => {} // it expired; write a new one
            Err(error) => return Err(error),
        }
    }
    let namespace = told.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    let mut event = Event {
        involved_object: told.about.clone(),
        reason: Some(told.reason.to_owned()),
        message: Some(told.message.clone()),
        type_: Some(if told.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(time.clone()),
        last_timestamp: Some(time),
        source: Some(EventSource { component: Some(told.component.to_owned()), host: None }),
        reporting_component: Some(told.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    };
    let key = Key::new(namespace, format!("{name}.{:x}", Timestamp::now().as_nanosecond()));
    event.metadata.name = Some(key.name.clone());
    event.metadata.namespace = Some(key.namespace.clone());
    let collection = Request::post(path("v1", "events", &Key::new(&key.namespace, ""), ""));
    client.request_text(json_request(collection, "application/json", &to_json(&event))?).await?;
    memory.make_room(now);
    memory.written.insert(same, Written { key, count: 1, at: now });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_may_say_25_things_at_once_and_then_one_in_five_minutes() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let mut heard = |at: Instant| (0..100).filter(|_| memory.allow("c", "u", at)).count();
        assert_eq!(heard(now), 25);
        assert_eq!(heard(now + TOKEN_EVERY), 1);
        assert!(memory.allow("c", "other", now));
    }
}
