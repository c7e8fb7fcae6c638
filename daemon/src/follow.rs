//! Watches that never end: what breaks is taken up again, with back-off, from a new list where the old place is gone.
//!
//! [`events`] gives the objects of a collection as they come and go; [`follow`] turns them into [`News`] for a queue. While the
//! apiserver is away nothing is said, so whoever listens goes on with what is known.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::errors::describe;

/// The first wait after a watch broke.
const FIRST: Duration = Duration::from_millis(200);
/// The longest: when the apiserver is back, one hears of it soon.
const MOST: Duration = Duration::from_secs(5);

/// Our back-off in the form that the watcher wants.
struct Retry(Backoff);

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next_delay())
    }
}

impl kube::runtime::utils::Backoff for Retry {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// What happens to the objects of `api`. Errors are told and followed by another try; the stream does not end by itself.
pub fn events<K>(api: Api<K>, config: Config) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    begin_anew_when_gone(move || watcher::watcher(api.clone(), config.clone())).backoff(Retry(Backoff::new(FIRST, MOST))).boxed()
}

/// The watcher lists again by itself when a watch that had begun says that its place is gone, but not when a watch cannot even
/// begin there, as after a long time away: it would ask for the same place for ever.
fn begin_anew_when_gone<K, S>(begin: impl Fn() -> S + Send + 'static) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    S: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    K: Send + 'static,
{
    let state = (begin().boxed(), begin);
    stream::unfold(state, |(mut events, begin)| async move {
        let event = events.next().await?;
        if matches!(&event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410) {
            events = begin().boxed();
        }
        Some((event, (events, begin)))
    })
}

/// News of the objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News<Key, T> {
    /// All of them, as they are now.
    All(Vec<(Key, T)>),
    /// One of them, as it is now; none when it is gone or no business of the listener's.
    One(Key, Option<T>),
}

/// Sends news of a kind to `updates` until told to stop or nobody listens any more. `project` takes from an object what counts;
/// objects that it gives nothing for are as good as gone. A server that does not know the kind has none of it.
pub async fn follow<K, Key, T, U>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    key: impl Fn(&K) -> Key,
    project: impl Fn(K) -> Option<T>,
    wrap: impl Fn(News<Key, T>) -> U,
    updates: mpsc::Sender<U>,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()>,
{
    tokio::pin!(events);
    let mut listed: Vec<(Key, T)> = Vec::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let news = match event {
            None => return,
            Some(Ok(Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(Event::InitApply(object))) => {
                let key = key(&object);
                listed.extend(project(object).map(|t| (key, t)));
                continue;
            }
            Some(Ok(Event::InitDone)) => News::All(std::mem::take(&mut listed)),
            Some(Ok(Event::Apply(object))) => News::One(key(&object), project(object)),
            Some(Ok(Event::Delete(object))) => News::One(key(&object), None),
            // The server may learn the kind later, so one goes on asking.
            Some(Err(error)) if is_unknown_kind(&error) => News::All(Vec::new()),
            Some(Err(error)) => {
                tracing::warn!(kind = %K::kind(&()), error = describe(&error), "the watch broke; trying again");
                continue;
            }
        };
        if updates.send(wrap(news)).await.is_err() {
            return;
        }
    }
}

/// Whether the server said, to a list, that there is no such thing to list.
#[must_use]
pub fn is_unknown_kind(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;

    use super::*;

    fn map(name: &str, value: &str) -> ConfigMap {
        let mut map = ConfigMap { data: Some([("v".to_owned(), value.to_owned())].into()), ..ConfigMap::default() };
        map.metadata.name = Some(name.into());
        map
    }

    fn refusal(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(kube::core::Status { code, ..Default::default() }))
    }

    /// What is told of these events, a line each. Maps without data are nobody's business.
    async fn told(script: Vec<watcher::Result<Event<ConfigMap>>>) -> Vec<String> {
        let (sender, mut receiver) = mpsc::channel(script.len().max(1));
        let value = |m: ConfigMap| m.data?.remove("v").filter(|v| !v.is_empty());
        follow(stream::iter(script), |m| m.name_any(), value, |n| n, sender, CancellationToken::new()).await;
        let mut lines = vec![];
        while let Some(news) = receiver.recv().await {
            lines.push(match news {
                News::All(all) => all.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "),
                News::One(key, value) => format!("{key}: {}", value.unwrap_or_else(|| "gone".into())),
            });
        }
        lines
    }

    #[tokio::test]
    async fn lists_replace_and_changes_follow() {
        let script = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(map("half", "a list that broke"))),
            Err(watcher::Error::WatchFailed(refusal(500))),
            Ok(Event::Init),
            Ok(Event::InitApply(map("a", "1"))),
            Ok(Event::InitApply(map("b", ""))),
            Ok(Event::InitDone),
            Ok(Event::Apply(map("a", "2"))),
            Ok(Event::Apply(map("a", ""))),
            Ok(Event::Delete(map("b", "3"))),
            Err(watcher::Error::InitialListFailed(refusal(404))),
        ];
        assert_eq!(told(script).await, ["a=1", "a: 2", "a: gone", "b: gone", ""]);
    }

    #[tokio::test]
    async fn a_place_that_is_gone_is_not_asked_for_again() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let events = begin_anew_when_gone(move || {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            stream::iter(match first {
                true => vec![Ok(Event::Init), Err(watcher::Error::WatchStartFailed(refusal(410))), Ok(Event::Apply(map("never", "seen")))],
                false => vec![Ok(Event::InitDone)],
            })
        });
        let seen: Vec<String> =
            events.map(|e| e.map_or_else(|_| "error".into(), |e| format!("{e:?}").chars().take(8).collect())).collect().await;
        assert_eq!(seen, ["Init", "error", "InitDone"]);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}
