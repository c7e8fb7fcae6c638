//! The webhooks of the cluster: configurations, read once for each version of one, in the order in which they are asked.

use std::sync::Arc;
use std::time::Duration;

use api::labels::Selector;
use arc_swap::ArcSwap;
use serde_json::Value;

use super::metrics::Metrics;
use crate::admission::matching::{Rule, selector};
use crate::cel::conditions::Conditions;
use crate::outbound::ClientConfig;
use crate::resources::cells::{int, items, text};
use crate::storage::{Cache, Entry, Hub};

const MUTATING: &str = "/registry/admissionregistration.k8s.io/mutatingwebhookconfigurations/";
const VALIDATING: &str = "/registry/admissionregistration.k8s.io/validatingwebhookconfigurations/";

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    /// The name of its configuration and its own, which together are its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whom to ask.
    pub client: Result<ClientConfig, String>,
    /// What it is asked about.
    pub rules: Vec<Rule>,
    /// Whether a request by another version or group of the same resource is converted and asked about too.
    pub equivalent: bool,
    /// Whether a request fails when the webhook cannot be asked.
    pub fails: bool,
    /// Namespaces whose objects it is asked about.
    pub namespaces: Result<Selector, String>,
    /// Objects that it is asked about.
    pub objects: Result<Selector, String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether it may be asked in a dry run.
    pub dry_run: bool,
    /// Whether it is asked again when later webhooks changed the object.
    pub again: bool,
    /// The version of its reviews: the first that it lists and we know.
    pub review: Option<Review>,
    /// Further conditions.
    pub conditions: Conditions,
}

/// The versions of reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Review {
    /// `admission.k8s.io/v1`
    V1,
    /// `admission.k8s.io/v1beta1`
    V1beta1,
}

impl Hook {
    /// Reads a webhook of the configuration of that name.
    #[must_use]
    pub fn parse(configuration: &str, hook: &Value) -> Self {
        let name = text(hook, "/name").to_owned();
        let review = items(hook, "/admissionReviewVersions").iter().find_map(|v| match v.as_str() {
            Some("v1") => Some(Review::V1),
            Some("v1beta1") => Some(Review::V1beta1),
            _ => None,
        });
        Self {
            id: format!("{configuration}/{name}"),
            client: ClientConfig::parse(&hook["clientConfig"]),
            rules: items(hook, "/rules").iter().map(Rule::parse).collect(),
            equivalent: text(hook, "/matchPolicy") != "Exact",
            fails: text(hook, "/failurePolicy") != "Ignore",
            namespaces: selector(&hook["namespaceSelector"]),
            objects: selector(&hook["objectSelector"]),
            timeout: Duration::from_secs(u64::try_from(int(hook, "/timeoutSeconds")).ok().filter(|s| *s > 0).unwrap_or(10)),
            dry_run: matches!(text(hook, "/sideEffects"), "None" | "NoneOnDryRun"),
            again: text(hook, "/reinvocationPolicy") == "IfNeeded",
            review,
            conditions: Conditions::compile(items(hook, "/matchConditions")),
            name,
        }
    }
}

/// The webhooks of one kind of configuration.
struct Kind {
    prefix: &'static str,
    read: ArcSwap<Read>,
    cache: std::sync::OnceLock<Arc<Cache>>,
}

/// What was read at one moment.
#[derive(Default)]
struct Read {
    /// The cache's sequence when it was looked at; nothing before the first time.
    sequence: Option<u64>,
    /// Each configuration's webhooks, with its key and revision.
    configurations: Vec<(Box<str>, u64, Vec<Arc<Hook>>)>,
    hooks: Arc<[Arc<Hook>]>,
}

impl Kind {
    fn new(prefix: &'static str) -> Self {
        Self { prefix, read: ArcSwap::default(), cache: std::sync::OnceLock::new() }
    }

    fn hooks(&self, hub: &Hub) -> Arc<[Arc<Hook>]> {
        let cache = self.cache.get_or_init(|| hub.cache(self.prefix));
        let read = self.read.load();
        let sequence = cache.sequence();
        if read.sequence == Some(sequence) {
            return read.hooks.clone();
        }
        let entries = cache.snapshot("", 0).0;
        let next = read.following(sequence, &entries);
        let hooks = next.hooks.clone();
        self.read.store(Arc::new(next));
        hooks
    }
}

impl Read {
    /// What is read of these entries, of which those that did not change need not be read again.
    fn following(&self, sequence: u64, entries: &[Arc<Entry>]) -> Self {
        let mut configurations = Vec::with_capacity(entries.len());
        // Entries come in the order of their names, which is the order in which webhooks are asked.
        for entry in entries {
            let known = self.configurations.iter().find(|(key, revision, _)| *key == entry.key && *revision == entry.revision);
            let hooks = match known {
                Some((_, _, hooks)) => hooks.clone(),
                None => match entry.tree() {
                    Ok(tree) => items(&tree, "/webhooks").iter().map(|h| Arc::new(Hook::parse(entry.name(), h))).collect(),
                    Err(error) => {
                        tracing::error!(name = entry.name(), %error, "a webhook configuration in the storage is no JSON");
                        vec![]
                    }
                },
            };
            configurations.push((entry.key.clone(), entry.revision, hooks));
        }
        let hooks = configurations.iter().flat_map(|(_, _, hooks)| hooks.iter().cloned()).collect();
        Self { sequence: Some(sequence), configurations, hooks }
    }
}

/// All webhooks, as the caches have them.
pub struct Webhooks {
    mutating: Kind,
    validating: Kind,
    /// What is counted of calls.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

impl Webhooks {
    /// Nothing read yet.
    #[must_use]
    pub fn new(metrics: &daemon::metrics::Metrics) -> Self {
        Self { mutating: Kind::new(MUTATING), validating: Kind::new(VALIDATING), metrics: Metrics::new(metrics) }
    }

    /// Those that may change objects, in order.
    #[must_use]
    pub fn mutating(&self, hub: &Hub) -> Arc<[Arc<Hook>]> {
        self.mutating.hooks(hub)
    }

    /// Those that only look, in order.
    #[must_use]
    pub fn validating(&self, hub: &Hub) -> Arc<[Arc<Hook>]> {
        self.validating.hooks(hub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::yaml;
    use crate::storage::entry;

    #[test]
    fn a_webhook_is_read_with_defaults() {
        let hook = Hook::parse("c", &yaml("{name: a.b.c, admissionReviewVersions: [v9, v1beta1, v1], clientConfig: {url: 'https://x'}}"));
        assert_eq!((hook.id.as_str(), hook.fails, hook.equivalent, hook.dry_run, hook.again), ("c/a.b.c", true, true, false, false));
        assert_eq!((hook.review, hook.timeout), (Some(Review::V1beta1), Duration::from_secs(10)));
        assert!(hook.namespaces.unwrap().is_everything());
    }

    #[test]
    fn what_did_not_change_is_not_read_again() {
        let stored = |name: &str, revision| {
            let text = format!(r#"{{"metadata":{{"name":"{name}"}},"webhooks":[{{"name":"{name}.x.y"}}]}}"#);
            Arc::new(Entry::new(name, text.as_bytes(), revision, entry::Kind::Added, &[]))
        };
        let first = Read::default().following(1, &[stored("a", 5), stored("b", 6)]);
        let second = first.following(2, &[stored("a", 5), stored("b", 7)]);
        assert!(Arc::ptr_eq(&first.hooks[0], &second.hooks[0]));
        assert!(!Arc::ptr_eq(&first.hooks[1], &second.hooks[1]));
        assert_eq!(second.hooks.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), ["a/a.x.y", "b/b.x.y"]);
    }
}
