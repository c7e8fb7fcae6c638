//! Watches against a model: while writers create, change and delete at random through two apiservers, history is compacted, etcd and one
//! of the servers are killed and come back, and connections break. Every watcher sees every revision of its selection once and in order,
//! leaves with the last selected state, and ends with exactly what a list gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, ApiServer, EtcdProcess, Wire};
use tokio::sync::Mutex;

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
/// Names that writers fight over.
const NAMES: u64 = 12;
/// Writes of each writer.
const WRITES: u64 = 200;
const WRITERS: u64 = 4;
const WATCHERS: u64 = 10;
/// What watchers select.
const SELECTORS: [&str; 5] = [
    "",
    "labelSelector=parity%3Deven",
    "labelSelector=parity%21%3Deven",
    "fieldSelector=metadata.name%3Dm-3",
    "fieldSelector=metadata.name%21%3Dm-4&labelSelector=parity%20in%20(odd)",
];

/// xorshift64*: the same seed gives the same writers, so that a failure can be looked at again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// What writers know.
#[derive(Default)]
struct History {
    /// What was acknowledged, by revision: the object after the write.
    written: BTreeMap<u64, Value>,
    /// The marks of writes whose outcome nobody knows, since the answer was lost.
    uncertain: BTreeSet<String>,
    /// Revisions that watchers may begin at.
    places: Vec<u64>,
}

type Shared = Arc<Mutex<History>>;

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a resourceVersion")
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

fn mark(object: &Value) -> String {
    object["data"]["mark"].as_str().unwrap_or("").to_owned()
}

fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = Value::Null;
    object
}

/// Forgets all history there is. While etcd is away there is nothing to forget.
async fn compact(etcd: Arc<EtcdProcess>) {
    let done = tokio::task::spawn_blocking(move || {
        if let Ok(revision) = etcd.revision() {
            // Another writer may have compacted as far already, which etcd calls an error.
            let _ = etcd.compact(revision);
        }
    });
    done.await.expect("a compaction");
}

/// A request whose answer may get lost.
async fn attempt(wire: &Wire, kind: &str, method: Method, path: &str, body: &Value) -> Option<Answer> {
    let media = if kind == "merge" { "application/merge-patch+json" } else { "application/json" };
    wire.with("content-type", media).try_send(method, path, body.to_string()).await.ok()
}

async fn write(etcd: Arc<EtcdProcess>, wire: Wire, history: Shared, seed: u64) {
    let mut random = Random(seed);
    for n in 0..WRITES {
        let name = format!("m-{}", random.below(NAMES));
        let path = format!("{MAPS}/{name}");
        if random.below(30) == 0 {
            compact(etcd.clone()).await;
        }
        let parity = if random.below(2) == 0 { "even" } else { "odd" };
        let mark = format!("{seed}-{n}");
        let body = json!({"metadata": {"name": name, "labels": {"parity": parity}}, "data": {"mark": mark}});
        let (answer, writes) = match random.below(10) {
            0..4 => (attempt(&wire, "", Method::POST, MAPS, &body).await, true),
            4..8 => (attempt(&wire, "merge", Method::PATCH, &path, &body).await, true),
            _ => (attempt(&wire, "", Method::DELETE, &path, &json!({})).await, false),
        };
        let mut history = history.lock().await;
        match answer {
            Some(answer) if matches!(answer.code, 200 | 201) => {
                if writes {
                    let object = answer.json();
                    let at = revision(&object);
                    history.written.insert(at, object);
                    if random.below(10) == 0 {
                        history.places.push(at);
                    }
                }
            }
            Some(answer) if matches!(answer.code, 404 | 409) => {}
            // The storage or the server is away: what became of the write nobody knows.
            Some(answer) if answer.code < 500 => panic!("{} gave {}", answer.asked, answer.text()),
            _ => {
                history.uncertain.insert(mark);
                drop(history);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What a watcher holds, and every event it saw.
struct Watcher {
    selector: &'static str,
    state: BTreeMap<String, Value>,
    at: u64,
    /// Revision and, for what is there after it, the object.
    events: BTreeMap<u64, (String, Option<Value>)>,
    /// Revisions between two listings, which nobody promises to show.
    gaps: Vec<(u64, u64)>,
    listings: usize,
}

impl Watcher {
    fn new(selector: &'static str) -> Self {
        Self { selector, state: BTreeMap::new(), at: 0, events: BTreeMap::new(), gaps: vec![], listings: 0 }
    }

    async fn list(&mut self, wire: &Wire) {
        let list = loop {
            match wire.try_send(Method::GET, &format!("{MAPS}?{}", self.selector), vec![]).await {
                Ok(answer) if answer.code == 200 => break answer.json(),
                Ok(answer) if answer.code < 500 => panic!("{} gave {}", answer.asked, answer.text()),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let at = revision(&list);
        assert!(at >= self.at, "a list went back in time: {at} after {}", self.at);
        self.gaps.push((self.at, at));
        self.at = at;
        self.listings += 1;
        self.state = list["items"].as_array().expect("items").iter().map(|i| (name(i), i.clone())).collect();
    }

    /// Begins with the initial events of a watch, in place of a list.
    async fn initial(&mut self, wire: &Wire) {
        let query = "watch=1&allowWatchBookmarks=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=30";
        let Ok(mut watch) = wire.try_watch(&format!("{MAPS}?{query}&{}", self.selector)).await else { return self.list(wire).await };
        let mut state = BTreeMap::new();
        while let Some(event) = watch.next().await {
            let object = &event["object"];
            match event["type"].as_str() {
                Some("ADDED") => assert!(state.insert(name(object), object.clone()).is_none(), "twice: {object}"),
                Some("BOOKMARK") if object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true" => {
                    let at = revision(object);
                    assert!(at >= self.at, "initial events went back in time: {at} after {}", self.at);
                    self.gaps.push((self.at, at));
                    (self.at, self.state) = (at, state);
                    self.listings += 1;
                    return;
                }
                _ => break,
            }
        }
        self.list(wire).await;
    }

    fn take(&mut self, event: &Value) {
        let (kind, object) = (event["type"].as_str().expect("a type"), &event["object"]);
        let at = revision(object);
        if kind == "BOOKMARK" {
            assert!(at >= self.at);
            self.at = at;
            return;
        }
        assert!(at > self.at, "{kind} {} at {at} after {}", name(object), self.at);
        self.at = at;
        let held = self.state.get(&name(object));
        match kind {
            "ADDED" => assert!(held.is_none(), "added twice: {object}"),
            "MODIFIED" => assert!(held.is_some(), "modified without having been added: {object}"),
            "DELETED" => {
                let held = held.unwrap_or_else(|| panic!("deleted without having been added: {object}"));
                assert_eq!(without_version(object), without_version(held), "what leaves is shown as it was last selected");
            }
            other => panic!("an event of type {other}"),
        }
        if kind == "DELETED" {
            self.state.remove(&name(object));
            self.events.insert(at, (name(object), None));
        } else {
            self.state.insert(name(object), object.clone());
            self.events.insert(at, (name(object), Some(object.clone())));
        }
    }

    /// Takes what one watch shows, at most so many events. Lists again when it is told to.
    async fn follow(&mut self, wire: &Wire, seconds: u64, most: u64) {
        let path = format!("{MAPS}?watch=1&allowWatchBookmarks=1&timeoutSeconds={seconds}&resourceVersion={}&{}", self.at, self.selector);
        let Ok(mut watch) = wire.try_watch(&path).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return;
        };
        for _ in 0..most {
            // A connection that breaks is like one that ends.
            let Some(event) = watch.next().await else { return };
            if event["type"] == "ERROR" {
                assert_eq!(event["object"]["code"], 410, "{event}");
                return self.list(wire).await;
            }
            self.take(&event);
        }
    }

    /// Watches one server and the other, breaking off now and then, until `last` is known and everything up to it was seen.
    async fn run(mut self, wires: [Wire; 2], seed: u64, history: Shared, last: Arc<Mutex<Option<u64>>>) -> Self {
        let mut random = Random(seed);
        match random.below(3) {
            0 => self.initial(&wires[0]).await,
            _ => self.list(&wires[0]).await,
        }
        loop {
            let wire = &wires[usize::try_from(random.below(2)).unwrap_or(0)];
            let end = *last.lock().await;
            if let Some(end) = end {
                // The servers are well again: whatever is not shown now is lost. Who is shown nothing learns from a bookmark how far that is.
                for _ in 0..15 {
                    if self.at >= end {
                        return self;
                    }
                    self.follow(wire, 4, u64::MAX).await;
                }
                panic!("{}: at {} after a minute, and the end is at {end}", self.selector, self.at);
            }
            match random.below(20) {
                // Somebody who comes anew, with the initial events or from a revision of somebody else's.
                0 => self.initial(wire).await,
                1 => self.join_elsewhere(wire, &history, &mut random).await,
                _ => self.follow(wire, 1, 1 + random.below(60)).await,
            }
        }
    }

    /// A watch from a revision that another client knows: its events are in order, and no other than what was written.
    async fn join_elsewhere(&self, wire: &Wire, history: &Shared, random: &mut Random) {
        let places = history.lock().await.places.clone();
        let Some(at) = places.get(usize::try_from(random.below(places.len().max(1) as u64)).unwrap_or(0)) else { return };
        let path = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={at}&{}", self.selector);
        let Ok(mut watch) = wire.try_watch(&path).await else { return };
        let mut before = *at;
        while let Some(event) = watch.next().await {
            if event["type"] == "ERROR" {
                assert_eq!(event["object"]["code"], 410, "{event}");
                return;
            }
            let now = revision(&event["object"]);
            assert!(now > before, "{event} after {before}");
            before = now;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_watcher_ends_with_what_a_list_gives_having_seen_every_revision() {
    let server = ApiServer::start().await.expect("an apiserver");
    let mut other = server.beside(&[]).await.expect("another");
    let wires = [server.wire().await.expect("a client"), other.wire().await.expect("a client")];
    let wire = &wires[0];
    crate::namespace(wire, "t").await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let etcd = Arc::new(server.etcd.shared().expect("a handle"));
    let (history, last) = (Shared::default(), Arc::new(Mutex::new(None)));
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|i| {
            let selector = SELECTORS[usize::try_from(i).unwrap_or(0) % SELECTORS.len()];
            (selector, tokio::spawn(Watcher::new(selector).run(wires.clone(), seed + 100 + i, history.clone(), last.clone())))
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| tokio::spawn(write(etcd.clone(), wires[usize::try_from(w % 2).unwrap_or(0)].clone(), history.clone(), seed + w + 1)))
        .collect();

    // Meanwhile etcd is killed, and one of the servers is stopped; both come back. Until the writers are done, at least twice.
    let done = Arc::new(AtomicBool::new(false));
    let finished = done.clone();
    let all = tokio::spawn(async move {
        for writer in writers {
            writer.await.expect("a writer");
        }
        finished.store(true, Ordering::Release);
    });
    for round in 0.. {
        tokio::time::sleep(Duration::from_millis(700)).await;
        if round >= 2 && done.load(Ordering::Acquire) {
            break;
        }
        match round % 3 {
            0 => {
                server.etcd.kill();
                tokio::time::sleep(Duration::from_millis(300)).await;
                server.etcd.resume().await.expect("etcd comes back");
            }
            1 => other.restart().await.expect("the server comes back"),
            _ => {}
        }
    }
    all.await.expect("the writers");

    let list = testkit::eventually("a list", Duration::from_secs(30), || async {
        wire.try_send(Method::GET, MAPS, vec![]).await.ok().filter(|a| a.code == 200).map(|a| a.json())
    })
    .await;
    // One more write that every selection sees or not: what comes before it was to be seen by then.
    *last.lock().await = Some(revision(&list));
    let mut ended = vec![];
    for (selector, watcher) in watchers {
        let watcher = tokio::time::timeout(Duration::from_secs(120), watcher).await.expect("a watcher in time").expect("a watcher");
        ended.push((selector, watcher));
    }
    let history = history.lock().await;
    assert!(history.written.len() > 100, "the writers wrote {} times", history.written.len());
    let (mut events, mut listings) = (0, 0);
    for (selector, watcher) in &ended {
        let list = wire.get(&format!("{MAPS}?{selector}")).await.ok();
        let listed: BTreeMap<String, Value> = list["items"].as_array().expect("items").iter().map(|i| (name(i), i.clone())).collect();
        assert_eq!(watcher.state, listed, "{selector}");
        events += watcher.events.len();
        listings += watcher.listings;
        // Every event is one that was acknowledged, as it was acknowledged, or one whose answer was lost ...
        for (at, (of, object)) in &watcher.events {
            let Some(object) = object else { continue };
            match history.written.get(at) {
                Some(written) => assert_eq!(object, written, "{selector} at {at}"),
                None => assert!(history.uncertain.contains(&mark(object)), "{selector}: at {at} of {of} what nobody wrote: {object}"),
            }
        }
        // ... and, without a selector, everything that was acknowledged is an event, but for what a listing stood for.
        if selector.is_empty() {
            for (at, written) in &history.written {
                let between = watcher.gaps.iter().any(|(from, to)| from < at && at <= to);
                assert!(between || watcher.events.contains_key(at), "the write of {} at {at} was never seen", name(written));
            }
        }
    }
    println!("{} writes, {} uncertain, {events} events, {listings} listings", history.written.len(), history.uncertain.len());
    assert!(events > 200, "{events} events are too few to say anything");
}
