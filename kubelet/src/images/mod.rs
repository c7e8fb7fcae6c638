//! The images of containers: whether to pull, with which credentials, how often to try.
//!
//! Pulls are one after another unless `--max-parallel-image-pulls` says otherwise; a pull that failed is tried again after 10 s, doubling
//! to 5 min, counted by pod and image.

pub mod credentials;
pub mod gc;
pub mod reference;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cri;
use crate::events::{Events, Kind, container_path};
use crate::pod::Waiting;
use crate::runtime::Runtime;
use crate::security::ImageUser;

/// The first delay after a failed pull.
const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest.
const MOST: SignedDuration = SignedDuration::from_mins(5);
/// Failures remembered; the oldest make room. More than a node has containers.
const REMEMBERED: usize = 2_000;

/// An image that is on the node.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// The reference to make containers with.
    pub image_ref: String,
    /// The user it runs as.
    pub user: ImageUser,
}

/// Brings images onto the node.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    events: Events,
    slots: Semaphore,
    failures: Mutex<HashMap<String, Failure>>,
}

#[derive(Clone)]
struct Failure {
    delay: SignedDuration,
    retry_at: Timestamp,
    error: String,
}

impl Images {
    /// Pulls at most `parallel` images at a time.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, events: Events, parallel: usize) -> Self {
        Self { runtime, events, slots: Semaphore::new(parallel.max(1)), failures: Mutex::default() }
    }

    /// Makes sure that the container's image is there.
    ///
    /// # Errors
    /// The state in which the container waits, in upstream's reasons and words.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        secrets: &[Secret],
        sandbox: &cri::PodSandboxConfig,
        now: impl Fn() -> Timestamp + Send + Sync,
    ) -> Result<Present, Waiting> {
        let path = container_path(pod, &container.name);
        let say = |kind, reason: &str, words: &str| self.events.pod(pod, path.clone(), kind, reason, words);
        let soon = || now().saturating_add(FIRST).unwrap_or(Timestamp::MAX);
        let fail = |reason: &str, message: String| Waiting { reason: reason.to_owned(), message, retry_at: soon() };
        let wanted = container.image.clone().unwrap_or_default();
        let image = reference::with_default_tag(&wanted).map_err(|why| {
            let words = format!("Failed to apply default image tag {wanted:?}: {why}");
            say(Kind::Warning, "InspectFailed", &words);
            fail("InvalidImageName", words)
        })?;
        let found = self.runtime.image_status(&image).await.map_err(|error| {
            let words = format!("Failed to inspect image {image:?}: {error}");
            say(Kind::Warning, "InspectFailed", &words);
            fail("ImageInspectError", words)
        })?;
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        match (found, policy) {
            (Some(found), "IfNotPresent" | "Never") => {
                say(
                    Kind::Normal,
                    "Pulled",
                    &format!("Container image {wanted:?} already present on machine and can be accessed by the pod"),
                );
                Ok(present(&found, &image))
            }
            (None, "Never") => {
                let words = format!("Container image {wanted:?} is not present with pull policy of Never");
                say(Kind::Warning, "ErrImageNeverPull", &words);
                Err(fail("ErrImageNeverPull", words))
            }
            _ => self.pull(pod, &path, &wanted, &image, secrets, sandbox, now).await,
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn pull(
        &self,
        pod: &Pod,
        path: &Option<String>,
        wanted: &str,
        image: &str,
        secrets: &[Secret],
        sandbox: &cri::PodSandboxConfig,
        now: impl Fn() -> Timestamp + Send + Sync,
    ) -> Result<Present, Waiting> {
        let say = |kind, reason: &str, words: &str| self.events.pod(pod, path.clone(), kind, reason, words);
        let key = format!("{}_{image}", pod.metadata.uid.as_deref().unwrap_or_default());
        let known = self.failures.lock().get(&key).cloned();
        if let Some(failure) = known.as_ref().filter(|f| f.retry_at > now()) {
            say(Kind::Normal, "BackOff", &format!("Back-off pulling image {wanted:?}"));
            say(Kind::Warning, "Failed", "Error: ImagePullBackOff");
            let message = format!("Back-off pulling image {wanted:?}: ErrImagePull: {}", failure.error);
            return Err(Waiting { reason: "ImagePullBackOff".into(), message, retry_at: failure.retry_at });
        }
        say(Kind::Normal, "Pulling", &format!("Pulling image {wanted:?}"));
        let asked = Instant::now();
        // The semaphore is never closed, so acquiring cannot fail.
        let _slot = self.slots.acquire().await;
        let began = Instant::now();
        let pulled = self.pull_with_each(image, secrets, sandbox).await;
        match pulled {
            Ok(image_ref) => {
                self.failures.lock().remove(&key);
                let found = self.runtime.image_status(&image_ref).await.ok().flatten();
                let size = found.as_ref().map_or(0, |i| i.size);
                say(
                    Kind::Normal,
                    "Pulled",
                    &format!(
                        "Successfully pulled image {wanted:?} in {} ({} including waiting). Image size: {size} bytes.",
                        go_time(began.elapsed()),
                        go_time(asked.elapsed())
                    ),
                );
                Ok(found.map_or_else(|| Present { image_ref: image_ref.clone(), user: ImageUser::default() }, |i| present(&i, &image_ref)))
            }
            Err(error) => {
                let now = now();
                let delay = known.map_or(FIRST, |f| f.delay.saturating_mul(2).min(MOST));
                let retry_at = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
                let mut failures = self.failures.lock();
                if failures.len() >= REMEMBERED
                    && let Some(oldest) = failures.iter().min_by_key(|(_, f)| f.retry_at).map(|(k, _)| k.clone())
                {
                    failures.remove(&oldest);
                }
                failures.insert(key, Failure { delay, retry_at, error: error.clone() });
                drop(failures);
                say(Kind::Warning, "Failed", &format!("Failed to pull image {wanted:?}: {error}"));
                say(Kind::Warning, "Failed", "Error: ErrImagePull");
                // The container is looked at again soon, to say that it backs off; the pull itself waits for its time.
                let soon = now.saturating_add(SignedDuration::from_secs(2)).unwrap_or(Timestamp::MAX);
                Err(Waiting { reason: "ErrImagePull".into(), message: error, retry_at: soon })
            }
        }
    }

    /// Tries every credential that fits the image, most specific first, or none when there is none.
    async fn pull_with_each(&self, image: &str, secrets: &[Secret], sandbox: &cri::PodSandboxConfig) -> Result<String, String> {
        let mut tries: Vec<Option<cri::AuthConfig>> = credentials::matching(image, secrets).into_iter().map(Some).collect();
        if tries.is_empty() {
            tries.push(None);
        }
        let mut last = String::new();
        for auth in tries {
            let spec = cri::ImageSpec { image: image.to_owned(), ..cri::ImageSpec::default() };
            match self.runtime.pull_image(spec, auth, Some(sandbox.clone())).await {
                Ok(image_ref) => return Ok(image_ref),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }
}

fn present(image: &cri::Image, asked: &str) -> Present {
    let image_ref = if image.id.is_empty() { asked.to_owned() } else { image.id.clone() };
    Present { image_ref, user: ImageUser { uid: image.uid.map(|u| u.value), name: image.username.clone() } }
}

/// A duration as Go prints it, to the millisecond: `350ms`, `1.234s`, `1m2.5s`.
fn go_time(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let seconds = if fraction.is_empty() { format!("{}s", rest / 1000) } else { format!("{}.{fraction}s", rest / 1000) };
    if minutes == 0 { seconds } else { format!("{minutes}m{seconds}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        let text = [0, 350, 1000, 1230, 62_500].map(|ms| go_time(Duration::from_millis(ms)));
        assert_eq!(text, ["0s", "350ms", "1s", "1.23s", "1m2.5s"]);
    }
}
