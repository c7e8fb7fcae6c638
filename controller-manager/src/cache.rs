//! What is known of the objects of one kind.
//!
//! Fed by one watch ([`crate::watch`]) and by the answers to our own writes, so that a controller reads what it wrote:
//! a plan made right after a write never acts on the world before it. The newer resourceVersion wins, whichever way it comes
//! (versions are comparable, KEP-5504). What we saw deleted stays deleted until the watch has caught up, and an answer that the watch has
//! overtaken says nothing: its object may be gone again.
//!
//! Before the first list is complete a cache is *not synced*: absent then means nothing, and no controller runs on it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::kind::{Key, Kind, Object};
use crate::ownership::controller_of;

/// What happened to an object: `old` is absent when it is new, `new` when it is gone; both are there when it changed.
pub struct Change<'a, K> {
    /// The object before.
    pub old: Option<&'a K>,
    /// The object now.
    pub new: Option<&'a K>,
}

impl<'a, K> Change<'a, K> {
    /// The object as last known.
    #[must_use]
    pub fn latest(&self) -> &'a K {
        self.new.or(self.old).expect("a change has an object before or after")
    }

    /// The object before and after, whichever there are.
    pub fn both(&self) -> impl Iterator<Item = &'a K> {
        self.old.into_iter().chain(self.new)
    }
}

type Handler<K> = Box<dyn Fn(Change<'_, K>) + Send + Sync>;

/// The objects of one kind, indexed by owner and by [`Object::index`].
pub struct Cache<K> {
    state: RwLock<State<K>>,
    synced: AtomicBool,
    watched: AtomicBool,
    on_sync: Notify,
    /// Held while a change is applied and told, so that handlers hear of changes in order.
    handlers: Mutex<Vec<Handler<K>>>,
}

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    by_owner: HashMap<String, BTreeSet<Key>>,
    by_index: HashMap<String, BTreeSet<Key>>,
    /// Uids of objects that our own DELETE finished and the watch has not yet reported gone.
    gone: HashMap<Key, String>,
    /// The newest version that the watch has told of; it has told of everything before it.
    seen: u64,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let state = State { objects: BTreeMap::new(), by_owner: HashMap::new(), by_index: HashMap::new(), gone: HashMap::new(), seen: 0 };
        Self {
            state: RwLock::new(state),
            synced: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            on_sync: Notify::new(),
            handlers: Mutex::default(),
        }
    }
}

impl<K: Object> State<K> {
    /// Puts or removes an object, keeping the indexes; gives back what was there.
    fn set(&mut self, key: &Key, new: Option<Arc<K>>) -> Option<Arc<K>> {
        let old = match &new {
            Some(new) => self.objects.insert(key.clone(), new.clone()),
            None => self.objects.remove(key),
        };
        fn remove(index: &mut HashMap<String, BTreeSet<Key>>, value: &str, key: &Key) {
            if let Some(keys) = index.get_mut(value) {
                keys.remove(key);
                if keys.is_empty() {
                    index.remove(value);
                }
            }
        }
        if let Some(old) = &old {
            owners(old.as_ref()).for_each(|uid| remove(&mut self.by_owner, &uid, key));
            if let Some(value) = old.index() {
                remove(&mut self.by_index, &value, key);
            }
        }
        if let Some(new) = &new {
            owners(new.as_ref()).for_each(|uid| {
                self.by_owner.entry(uid.into_owned()).or_default().insert(key.clone());
            });
            if let Some(value) = new.index() {
                self.by_index.entry(value).or_default().insert(key.clone());
            }
        }
        old
    }

    fn get_all(&self, keys: Option<&BTreeSet<Key>>) -> Vec<Arc<K>> {
        keys.into_iter().flatten().filter_map(|k| self.objects.get(k).cloned()).collect()
    }
}

/// The uids of all owners, and a mark for the namespace's orphans when none of them is a controller.
fn owners<K: Object>(object: &K) -> impl Iterator<Item = Cow<'_, str>> {
    let orphan = controller_of(object.meta()).is_none().then(|| Cow::Owned(orphans(object.namespace())));
    object.meta().owner_references.iter().flatten().map(|o| Cow::Borrowed(o.uid.as_str())).chain(orphan)
}

/// Under what the orphans of a namespace are indexed; no uid looks like this.
fn orphans(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

impl<K: Object> Cache<K> {
    /// The object with this key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects of a namespace, by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = Key::new(namespace, "");
        let range = (Bound::Included(from), Bound::Unbounded);
        self.state.read().objects.range(range).take_while(|(k, _)| k.namespace == namespace).map(|(_, o)| o.clone()).collect()
    }

    /// All objects that name `uid` among their owners.
    #[must_use]
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        state.get_all(state.by_owner.get(uid))
    }

    /// The objects in the namespace of `owner` that it owns, or that nobody controls: those that it may claim.
    #[must_use]
    pub fn claimable<O: Object>(&self, owner: &O) -> Vec<Arc<K>> {
        let state = self.state.read();
        let mut all = state.get_all(state.by_owner.get(owner.uid()));
        all.retain(|o| controller_of(o.meta()).is_some());
        all.extend(state.get_all(state.by_owner.get(&orphans(owner.namespace()))));
        all
    }

    /// All objects whose [`Object::index`] is `value`.
    #[must_use]
    pub fn indexed(&self, value: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        state.get_all(state.by_index.get(value))
    }

    /// All objects, in order of their keys.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.state.read().objects.values().cloned().collect()
    }

    /// Calls `handler` for every change from now on, and at once for every object there is.
    pub fn subscribe(&self, handler: impl Fn(Change<'_, K>) + Send + Sync + 'static) {
        let mut handlers = self.handlers.lock();
        for object in self.list() {
            handler(Change { old: None, new: Some(&object) });
        }
        handlers.push(Box::new(handler));
    }

    /// An object as the watch shows it.
    pub fn put(&self, object: K) {
        self.put_from(object, true);
    }

    /// An object as the answer to a write shows it.
    pub fn answer(&self, object: K) {
        self.put_from(object, false);
    }

    fn put_from(&self, mut object: K, watch: bool) {
        object.meta_mut().managed_fields = None;
        object.slim();
        let handlers = self.handlers.lock();
        let version = object.version();
        {
            let mut state = self.state.write();
            if watch {
                state.seen = state.seen.max(version);
            } else if version > 0 && version <= state.seen {
                return;
            }
        }
        self.put_locked(&handlers, object);
    }

    fn put_locked(&self, handlers: &[Handler<K>], object: K) {
        let key = object.key();
        let (old, new) = {
            let mut state = self.state.write();
            if state.gone.get(&key).is_some_and(|uid| uid == object.uid()) {
                return;
            }
            state.gone.remove(&key);
            let current = state.objects.get(&key);
            if current.is_some_and(|c| c.version() >= object.version() && object.version() > 0) {
                return;
            }
            let new = Arc::new(object);
            (state.set(&key, Some(new.clone())), new)
        };
        match old {
            // Deleted and created again between two looks: two changes, as the world went through them.
            Some(old) if old.uid() != new.uid() => {
                tell(handlers, Some(&old), None);
                tell(handlers, None, Some(&new));
            }
            old => tell(handlers, old.as_deref(), Some(&new)),
        }
    }

    /// An object is gone, as the watch says at a version, or the answer to our own DELETE.
    pub fn remove(&self, key: &Key, uid: &str, by_watch: Option<u64>) {
        let handlers = self.handlers.lock();
        let old = {
            let mut state = self.state.write();
            if let Some(version) = by_watch {
                state.seen = state.seen.max(version);
                if state.gone.get(key).is_some_and(|u| u == uid) {
                    state.gone.remove(key);
                }
            } else {
                state.gone.insert(key.clone(), uid.to_owned());
            }
            match state.objects.get(key) {
                Some(current) if current.uid() == uid => state.set(key, None),
                _ => None,
            }
        };
        if let Some(old) = old {
            tell(&handlers, Some(&old), None);
        }
    }

    /// The complete list at `version`: what is not in it is gone, unless our own write put it there later.
    fn replace_all(&self, objects: Vec<K>, version: u64) {
        let handlers = self.handlers.lock();
        let listed: BTreeSet<Key> = objects.iter().map(Object::key).collect();
        let dropped: Vec<Arc<K>> = {
            let mut state = self.state.write();
            state.seen = version;
            state.gone.retain(|key, _| listed.contains(key));
            let missing: Vec<Key> = state
                .objects
                .iter()
                .filter(|(k, o)| !listed.contains(k) && (version == 0 || o.version() <= version))
                .map(|(k, _)| k.clone())
                .collect();
            missing.iter().filter_map(|key| state.set(key, None)).collect()
        };
        for old in dropped {
            tell(&handlers, Some(&old), None);
        }
        for mut object in objects {
            object.meta_mut().managed_fields = None;
            object.slim();
            self.put_locked(&handlers, object);
        }
        self.synced.store(true, Ordering::Release);
        self.on_sync.notify_waiters();
    }
}

fn tell<K>(handlers: &[Handler<K>], old: Option<&K>, new: Option<&K>) {
    for handler in handlers {
        handler(Change { old, new });
    }
}

/// Hears of the metadata before and after a change.
pub type MetaHandler = Box<dyn Fn(Option<&ObjectMeta>, Option<&ObjectMeta>) + Send + Sync>;

/// A cache as those see it who do not care for the type of its objects: the watch, and the executor of plans.
pub trait AnyCache: Send + Sync {
    /// The kind of the objects.
    fn kind(&self) -> &'static Kind;
    /// The field selector and the namespace that bound what is cached; empty for none.
    fn bounds(&self) -> (&'static str, &'static str);
    /// How many objects there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether the first list was complete.
    fn is_synced(&self) -> bool;
    /// Ends when the first list was complete.
    fn synced(&self) -> futures::future::BoxFuture<'_, ()>;
    /// As [`Cache::put`], from JSON.
    ///
    /// # Errors
    /// JSON that is not an object of this kind.
    fn put_json(&self, json: &str) -> serde_json::Result<()>;
    /// As [`Cache::answer`], from JSON.
    ///
    /// # Errors
    /// JSON that is not an object of this kind.
    fn answer_json(&self, json: &str) -> serde_json::Result<()>;
    /// As [`Cache::remove`].
    fn remove_key(&self, key: &Key, uid: &str, by_watch: Option<u64>);
    /// Replaces everything by a complete list at `version`. An item that cannot be read is logged and left out.
    fn replace_json(&self, items: &[String], version: u64);
    /// Calls every handler for every object, as if it had just changed.
    fn resync(&self);
    /// A watch fills this cache from now on.
    fn set_watched(&self);
    /// Whether a watch fills it with every object of its kind.
    fn is_watched_whole(&self) -> bool;
    /// As [`Cache::subscribe`], for those who read metadata only.
    fn subscribe_meta(&self, handler: MetaHandler);
    /// Forgets the handlers, which may hold this cache alive.
    fn unsubscribe_all(&self);
}

impl<K: Object> AnyCache for Cache<K> {
    fn kind(&self) -> &'static Kind {
        K::KIND
    }

    fn bounds(&self) -> (&'static str, &'static str) {
        (K::FIELDS, K::NAMESPACE)
    }

    fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    fn synced(&self) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let notified = self.on_sync.notified();
                if self.is_synced() {
                    return;
                }
                notified.await;
            }
        })
    }

    fn put_json(&self, json: &str) -> serde_json::Result<()> {
        self.put(serde_json::from_str(json)?);
        Ok(())
    }

    fn answer_json(&self, json: &str) -> serde_json::Result<()> {
        self.answer(serde_json::from_str(json)?);
        Ok(())
    }

    fn remove_key(&self, key: &Key, uid: &str, by_watch: Option<u64>) {
        self.remove(key, uid, by_watch);
    }

    fn replace_json(&self, items: &[String], version: u64) {
        let parse = |json: &String| match serde_json::from_str::<K>(json) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::error!(kind = K::KIND.kind, %error, "an object in the list cannot be read");
                None
            }
        };
        self.replace_all(items.iter().filter_map(parse).collect(), version);
    }

    fn resync(&self) {
        let handlers = self.handlers.lock();
        for object in self.list() {
            tell(&handlers, Some(&object), Some(&object));
        }
    }

    fn set_watched(&self) {
        self.watched.store(true, Ordering::Release);
    }

    fn is_watched_whole(&self) -> bool {
        self.watched.load(Ordering::Acquire) && self.bounds() == ("", "")
    }

    fn subscribe_meta(&self, handler: MetaHandler) {
        self.subscribe(move |change| handler(change.old.map(Object::meta), change.new.map(Object::meta)));
    }

    fn unsubscribe_all(&self) {
        self.handlers.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;

    fn node(name: &str, uid: &str, version: u64) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        node.metadata.uid = Some(uid.into());
        node.metadata.resource_version = Some(version.to_string());
        node
    }

    fn versions(cache: &Cache<Node>) -> String {
        cache.list().iter().map(|n| format!("{}@{}", n.name(), n.version())).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_late_event_does_not_undo_our_own_write() {
        let cache = Cache::default();
        cache.put(node("a", "1", 7));
        cache.put(node("a", "1", 5));
        assert_eq!(versions(&cache), "a@7");
    }

    #[test]
    fn what_we_deleted_stays_deleted_until_the_watch_says_so_too() {
        let cache = Cache::default();
        cache.put(node("a", "1", 5));
        cache.remove(&Key::cluster("a"), "1", None);
        cache.put(node("a", "1", 6));
        assert_eq!(versions(&cache), "");
        cache.remove(&Key::cluster("a"), "1", Some(7));
        cache.put(node("a", "2", 9));
        assert_eq!(versions(&cache), "a@9");
    }

    #[test]
    fn an_answer_that_the_watch_has_overtaken_brings_nothing_back() {
        let cache = Cache::default();
        cache.put(node("a", "1", 5));
        // We took the last finalizer off at 6, which removed the object; the watch was faster than the answer.
        cache.remove(&Key::cluster("a"), "1", Some(6));
        cache.answer(node("a", "1", 6));
        assert_eq!(versions(&cache), "");
        cache.answer(node("b", "2", 7));
        assert_eq!(versions(&cache), "b@7", "what the watch has still to tell counts at once");
    }

    #[test]
    fn a_list_drops_what_it_lacks_but_not_what_we_wrote_after_it() {
        let cache = Cache::default();
        cache.put(node("old", "1", 5));
        cache.put(node("ours", "2", 12));
        assert!(!cache.is_synced());
        cache.replace_all(vec![node("listed", "3", 8)], 10);
        assert!(cache.is_synced());
        assert_eq!(versions(&cache), "listed@8 ours@12");
    }

    #[test]
    fn handlers_hear_a_replacement_as_two_changes() {
        let cache = Cache::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        cache.subscribe(move |c: Change<'_, Node>| {
            ear.lock().push(format!("{:?}->{:?}", c.old.map(Object::uid), c.new.map(Object::uid)));
        });
        cache.put(node("a", "1", 5));
        cache.put(node("a", "2", 6));
        assert_eq!(heard.lock().join(" "), r#"None->Some("1") Some("1")->None None->Some("2")"#);
    }
}
