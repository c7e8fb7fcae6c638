//! Watches against a model: while writers create, change and delete at random, history is compacted and connections break, every
//! watcher sees every revision of its selection once and in order, and ends with exactly the state that a list gives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{ApiServer, Wire};
use tokio::sync::Mutex;

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
/// Names that writers fight over.
const NAMES: u64 = 12;
/// Writes of each writer.
const WRITES: u64 = 250;
const WRITERS: u64 = 3;

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

/// What was acknowledged, by revision: the object after the write, or nothing when it was removed.
type History = Arc<Mutex<BTreeMap<u64, (String, Option<Value>)>>>;

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a resourceVersion")
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

/// Forgets all history there is.
async fn compact(server: Arc<ApiServer>) {
    let done = tokio::task::spawn_blocking(move || {
        let revision = server.etcd.revision().expect("a revision");
        // Another writer may have compacted as far already, which etcd calls an error.
        let _ = server.etcd.compact(revision);
    });
    done.await.expect("a compaction");
}

async fn write(server: Arc<ApiServer>, wire: Wire, history: History, seed: u64) {
    let mut random = Random(seed);
    for n in 0..WRITES {
        let name = format!("m-{}", random.below(NAMES));
        let path = format!("{MAPS}/{name}");
        if random.below(25) == 0 {
            compact(server.clone()).await;
        }
        let parity = if random.below(2) == 0 { "even" } else { "odd" };
        let answer = match random.below(10) {
            0..4 => wire.post(MAPS, &json!({"metadata": {"name": name, "labels": {"parity": parity}}})).await,
            4..8 => {
                wire.patch("merge", &path, &json!({"metadata": {"labels": {"parity": parity}}, "data": {"n": format!("{seed}-{n}")}})).await
            }
            _ => {
                let answer = wire.delete(&path).await;
                assert!(matches!(answer.code, 200 | 404), "{}", answer.text());
                continue;
            }
        };
        match answer.code {
            200 | 201 => {
                let object = answer.json();
                history.lock().await.insert(revision(&object), (name, Some(object)));
            }
            404 | 409 => {}
            _ => panic!("{} gave {}", answer.asked, answer.text()),
        }
    }
}

/// What a watcher holds, and every event it saw.
#[derive(Default)]
struct Watcher {
    state: BTreeMap<String, Value>,
    at: u64,
    /// Revision and, for what is there after it, the object.
    events: BTreeMap<u64, (String, Option<Value>)>,
    /// Revisions between two listings, which nobody promises to show.
    gaps: Vec<(u64, u64)>,
}

impl Watcher {
    async fn list(&mut self, wire: &Wire, selector: &str) {
        let list = wire.get(&format!("{MAPS}?{selector}")).await.ok();
        let at = revision(&list);
        assert!(at >= self.at, "a list went back in time: {at} after {}", self.at);
        self.gaps.push((self.at, at));
        self.at = at;
        self.state = list["items"].as_array().expect("items").iter().map(|i| (name(i), i.clone())).collect();
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
        let had = self.state.contains_key(&name(object));
        match kind {
            "ADDED" => assert!(!had, "added twice: {object}"),
            "MODIFIED" | "DELETED" => assert!(had, "{kind} without having been added: {object}"),
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

    /// Watches, breaking off now and then, until `done` and everything up to `last` was seen.
    async fn run(mut self, wire: Wire, selector: &'static str, seed: u64, last: Arc<Mutex<Option<u64>>>) -> Self {
        let mut random = Random(seed);
        self.list(&wire, selector).await;
        self.gaps.clear();
        self.gaps.push((0, self.at));
        loop {
            let mut watch =
                wire.watch(&format!("{MAPS}?watch=1&allowWatchBookmarks=1&timeoutSeconds=1&resourceVersion={}&{selector}", self.at)).await;
            let most = 1 + random.below(60);
            for _ in 0..most {
                let Some(event) = watch.next().await else { break };
                if event["type"] == "ERROR" {
                    assert_eq!(event["object"]["code"], 410, "{event}");
                    self.list(&wire, selector).await;
                    break;
                }
                self.take(&event);
            }
            // A watch that was asked to end after a second without news has shown everything there is to show.
            let end = *last.lock().await;
            if let Some(end) = end {
                let mut rest = wire.watch(&format!("{MAPS}?watch=1&timeoutSeconds=2&resourceVersion={}&{selector}", self.at)).await;
                while let Some(event) = rest.next().await {
                    if event["type"] == "ERROR" {
                        self.list(&wire, selector).await;
                        break;
                    }
                    self.take(&event);
                }
                self.at = self.at.max(end);
                return self;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_ends_with_what_a_list_gives_having_seen_every_revision() {
    let server = Arc::new(ApiServer::start().await.expect("an apiserver"));
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let history = History::default();
    let last = Arc::new(Mutex::new(None));
    let selectors = ["", "labelSelector=parity%3Deven", "labelSelector=parity%21%3Deven", "fieldSelector=metadata.name%3Dm-3"];
    let watchers: Vec<_> = (0..8u64)
        .map(|i| {
            let selector = selectors[i as usize % selectors.len()];
            (selector, tokio::spawn(Watcher::default().run(wire.clone(), selector, seed + 100 + i, last.clone())))
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS).map(|w| tokio::spawn(write(server.clone(), wire.clone(), history.clone(), seed + w + 1))).collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let list = wire.get(MAPS).await.ok();
    *last.lock().await = Some(revision(&list));
    let history = history.lock().await;
    assert!(history.len() > 100, "the writers wrote {} times", history.len());

    for (selector, watcher) in watchers {
        let watcher = tokio::time::timeout(Duration::from_secs(60), watcher).await.expect("a watcher in time").expect("a watcher");
        let list = wire.get(&format!("{MAPS}?{selector}")).await.ok();
        let listed: BTreeMap<String, Value> = list["items"].as_array().expect("items").iter().map(|i| (name(i), i.clone())).collect();
        assert_eq!(watcher.state, listed, "{selector}");
        // Every event is one that was acknowledged, as it was acknowledged ...
        for (at, (name, object)) in &watcher.events {
            match (object, history.get(at)) {
                (Some(object), Some((of, Some(written)))) => assert_eq!((name, object), (of, written), "{selector} at {at}"),
                (Some(object), other) => panic!("{selector}: an event at {at} that nobody wrote: {object} {other:?}"),
                (None, _) => {}
            }
        }
        // ... and, without a selector, everything that was acknowledged is an event, but for what a listing stood for.
        if selector.is_empty() {
            for (at, (name, _)) in history.iter() {
                let between = watcher.gaps.iter().any(|(from, to)| from < at && at <= to);
                assert!(between || watcher.events.contains_key(at), "the write of {name} at {at} was never seen");
            }
        }
    }
}
