//! Keeps the zone what the apiserver says: watches, and the one task that writes the zone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use daemon::follow::{events, follow};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
use kube::{Api, Resource, ResourceExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::observe;
use crate::zone::{ObjectKey, Service, Slice, Zone};

/// News that may wait to be taken in. Watches wait when it is full.
const UPDATES: usize = 256;
/// The most news taken into one new snapshot.
const AT_ONCE: usize = 4_096;
/// The least time between two snapshots: making one takes time that grows with the number of Services.
const BETWEEN: Duration = Duration::from_millis(20);

/// News of the objects of a kind.
pub type News<T> = daemon::follow::News<ObjectKey, T>;

/// News of the cluster.
#[derive(Debug)]
pub enum Update {
    /// Of Services.
    Services(News<Service>),
    /// Of EndpointSlices, each with its Service.
    Slices(News<(ObjectKey, Slice)>),
    /// Of namespaces; their key has no namespace.
    Namespaces(News<()>),
}

/// Starts the watches and the task that writes `zone`.
pub fn start(client: &kube::Client, zone: Arc<ArcSwap<Zone>>, tasks: &TaskTracker, stop: &CancellationToken) {
    let (updates, receiver) = mpsc::channel(UPDATES);
    tasks.spawn(write(zone, receiver));
    let services = events(Api::<core::Service>::all(client.clone()), Config::default());
    tasks.spawn(follow(services, key, |s| observe::service(&s), Update::Services, updates.clone(), stop.clone()));
    let slices = events(Api::<EndpointSlice>::all(client.clone()), Config::default());
    tasks.spawn(follow(slices, key, |s| observe::slice(&s), Update::Slices, updates.clone(), stop.clone()));
    let namespaces = events(Api::<PartialObjectMeta<core::Namespace>>::all(client.clone()), Config::default());
    tasks.spawn(follow(namespaces, key, |_| Some(()), Update::Namespaces, updates, stop.clone()));
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

/// Takes news in and publishes snapshots, until there is no more news to come.
async fn write(zone: Arc<ArcSwap<Zone>>, mut updates: mpsc::Receiver<Update>) {
    let mut writer = Writer::default();
    while let Some(update) = updates.recv().await {
        let mut next = Zone::clone(&zone.load());
        writer.take(&mut next, update);
        for _ in 0..AT_ONCE {
            let Ok(more) = updates.try_recv() else { break };
            writer.take(&mut next, more);
        }
        next.serial = next.serial.wrapping_add(1);
        if writer.is_complete() && !next.complete {
            next.complete = true;
            tracing::info!(services = next.service_keys().count(), "the cluster's names are known");
        }
        zone.store(Arc::new(next));
        tokio::time::sleep(BETWEEN).await;
    }
}

/// What is needed to take news into a zone.
#[derive(Debug, Default)]
pub struct Writer {
    /// To which Service each EndpointSlice belongs.
    service_of: HashMap<ObjectKey, ObjectKey>,
    services: bool,
    slices: bool,
    namespaces: bool,
}

impl Writer {
    /// Whether all kinds have been listed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.services && self.slices && self.namespaces
    }

    /// Takes news in.
    pub fn take(&mut self, zone: &mut Zone, update: Update) {
        match update {
            Update::Services(News::One(key, service)) => zone.set_service(&key, service),
            Update::Services(News::All(all)) => {
                self.services = true;
                let there: HashSet<&ObjectKey> = all.iter().map(|(key, _)| key).collect();
                let gone: Vec<ObjectKey> = zone.service_keys().filter(|k| !there.contains(k)).cloned().collect();
                gone.iter().for_each(|key| zone.set_service(key, None));
                all.into_iter().for_each(|(key, service)| zone.set_service(&key, Some(service)));
            }
            Update::Slices(News::One(key, slice)) => self.set_slice(zone, key, slice),
            Update::Slices(News::All(all)) => {
                self.slices = true;
                let there: HashSet<&ObjectKey> = all.iter().map(|(key, _)| key).collect();
                let gone: Vec<ObjectKey> = self.service_of.keys().filter(|k| !there.contains(k)).cloned().collect();
                gone.into_iter().for_each(|key| self.set_slice(zone, key, None));
                all.into_iter().for_each(|(key, slice)| self.set_slice(zone, key, Some(slice)));
            }
            Update::Namespaces(News::One(key, there)) => zone.set_namespace(&key.name, there.is_some()),
            Update::Namespaces(News::All(all)) => {
                self.namespaces = true;
                let gone: Vec<_> = zone.namespaces().filter(|n| !all.iter().any(|(key, ())| key.name == **n)).cloned().collect();
                gone.iter().for_each(|name| zone.set_namespace(name, false));
                all.iter().for_each(|(key, ())| zone.set_namespace(&key.name, true));
            }
        }
    }

    fn set_slice(&mut self, zone: &mut Zone, key: ObjectKey, slice: Option<(ObjectKey, Slice)>) {
        let before = self.service_of.get(&key).cloned();
        if let Some(before) = before.filter(|b| slice.as_ref().is_none_or(|(service, _)| service != b)) {
            zone.set_slice(&before, &key.name, None);
            self.service_of.remove(&key);
        }
        if let Some((service, slice)) = slice {
            zone.set_slice(&service, &key.name, Some(slice));
            self.service_of.insert(key, service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Answer, Question, answer};
    use crate::zone::{Endpoint, Kind};
    use hickory_proto::rr::{Name, RecordType};

    fn slice(service: &str, addr: &str) -> (ObjectKey, Slice) {
        let endpoints = vec![Endpoint { hostname: None, addresses: vec![addr.parse().unwrap()] }];
        (ObjectKey::new("default", service), Slice { ports: vec![], endpoints })
    }

    fn count(zone: &Zone, name: &str) -> usize {
        let name = Name::from_ascii(format!("{name}.default.svc.cluster.local.")).unwrap();
        match answer(&Question { name: &name, kind: RecordType::A }, zone) {
            Answer::Found { records, .. } => records.len(),
            _ => 0,
        }
    }

    #[test]
    fn a_list_replaces_what_was_known() {
        let (mut zone, mut writer) = (Zone::new(Name::from_ascii("cluster.local.").unwrap()), Writer::default());
        let key = |name: &str| ObjectKey::new("default", name);
        let headless = Service { kind: Kind::Headless, ports: vec![] };
        writer.take(&mut zone, Update::Namespaces(News::All(vec![(ObjectKey::new("", "default"), ())])));
        let services = vec![(key("a"), headless.clone()), (key("b"), headless.clone())];
        writer.take(&mut zone, Update::Services(News::All(services)));
        assert!(!writer.is_complete());
        let slices = vec![(key("a-1"), slice("a", "10.0.0.1")), (key("a-2"), slice("a", "10.0.0.2")), (key("b-1"), slice("b", "10.0.0.3"))];
        writer.take(&mut zone, Update::Slices(News::All(slices)));
        assert!(writer.is_complete());
        zone.complete = true;
        assert_eq!((count(&zone, "a"), count(&zone, "b")), (2, 1));

        // A slice moves to another Service.
        writer.take(&mut zone, Update::Slices(News::One(key("a-2"), Some(slice("b", "10.0.0.2")))));
        assert_eq!((count(&zone, "a"), count(&zone, "b")), (1, 2));

        writer.take(&mut zone, Update::Slices(News::All(vec![(key("b-1"), slice("b", "10.0.0.3"))])));
        writer.take(&mut zone, Update::Services(News::All(vec![(key("b"), headless)])));
        assert_eq!((count(&zone, "a"), count(&zone, "b")), (0, 1));
    }
}
