//! What a behaviour's test is given: a cluster, a namespace of its own, clients, and a promise that what it leaves behind is removed.

pub mod cluster;
mod definition;
mod kubectl;
mod lifecycle;
mod outside;
mod pods;
pub mod run;
mod workloads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{Wire, wait};

pub use cluster::Cluster;
pub use definition::{DEFINITIONS, Definition};
pub use kubectl::Kubectl;
pub use lifecycle::{Resource, has_condition, until_event};

/// A shell and small programs; on every node, never pulled.
pub const BUSYBOX: &str = "busybox";
/// nginx 1.22 of Debian, serving its welcome page on port 80; on every node, never pulled.
pub const NGINX: &str = "nginx:1.22";
/// What every pod's sandbox runs, and a container that does nothing; on every node, never pulled.
pub const PAUSE: &str = "localhost/ferrite/pause:0.1";
/// A pod starts, ends or is reported within this time, also while a busy machine runs other tests.
pub const POD: Duration = Duration::from_secs(120);
/// A control loop has done its work within this time.
pub const SOON: Duration = Duration::from_secs(60);
/// How often a condition is looked at: often enough to be quick, seldom enough not to be the load.
const POLL: Duration = Duration::from_millis(200);

/// One behaviour: its codename without the trailing ` [Conformance]`, and its test.
pub struct Behaviour {
    name: &'static str,
    test: fn(Framework) -> BoxFuture<'static, anyhow::Result<()>>,
    serial: bool,
}

impl Behaviour {
    /// A behaviour that may be tested beside others.
    pub const fn new(name: &'static str, test: fn(Framework) -> BoxFuture<'static, anyhow::Result<()>>) -> Self {
        Self { name, test, serial: false }
    }

    /// One that needs the cluster to itself: it runs alone, after those that do not.
    #[allow(dead_code, reason = "for whoever needs it; few do")]
    pub const fn serial(name: &'static str, test: fn(Framework) -> BoxFuture<'static, anyhow::Result<()>>) -> Self {
        Self { name, test, serial: true }
    }
}

/// Makes an `async fn(Framework) -> anyhow::Result<()>` what [`Behaviour::new`] takes.
macro_rules! test {
    ($function:path) => {
        |f| ::std::boxed::Box::pin($function(f))
    };
}
pub(crate) use test;

/// What a test is given. Clones share everything.
#[derive(Clone)]
pub struct Framework {
    /// The namespace of its own, with its default ServiceAccount.
    pub namespace: String,
    /// Requests of a cluster admin as they go over the wire.
    pub wire: Wire,
    /// The same rights through the `kube` crate.
    #[allow(dead_code, reason = "for whoever needs it")]
    pub client: kube::Client,
    /// What the tests share.
    pub cluster: Arc<Cluster>,
    leftovers: Arc<Mutex<Vec<String>>>,
}

impl Framework {
    async fn new(cluster: Arc<Cluster>) -> anyhow::Result<Self> {
        let client = cluster.client().await?;
        let wire = Wire::new(client.clone());
        let mut framework = Self { namespace: String::new(), wire, client, cluster, leftovers: Arc::default() };
        framework.namespace = framework.new_namespace("e2e").await?;
        Ok(framework)
    }

    /// A name that nothing else in the cluster has.
    pub fn unique(&self, base: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Runs on one cluster differ by when they began; tests of one run by the counter.
        let began = self.cluster.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 1_000_000;
        format!("{base}-{began}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A further namespace of its own, with its default ServiceAccount.
    pub async fn new_namespace(&self, base: &str) -> anyhow::Result<String> {
        let name = self.unique(base);
        let labels = json!({"e2e-framework": base});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let made = self.wire.try_send(http::Method::POST, "/api/v1/namespaces", object.to_string()).await?;
        anyhow::ensure!(made.code == 201, "making namespace {name}: {} {}", made.code, made.text());
        let path = format!("/api/v1/namespaces/{name}");
        self.remove_later(&path);
        self.until("the default ServiceAccount", SOON, || async {
            (self.wire.get(&format!("{path}/serviceaccounts/default")).await.code == 200).then_some(())
        })
        .await;
        Ok(name)
    }

    /// The same test's requests in another namespace.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// Has the object at `path` deleted when the test has ended, whether it passed or not. What is in the test's namespaces goes anyway.
    pub fn remove_later(&self, path: &str) {
        self.leftovers.lock().push(path.to_owned());
    }

    /// The path of a resource of the core group in the namespace, or of one of its objects: `core("pods")`, `core("pods/x")`.
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// As [`Framework::core`], in another group: `group("apps/v1", "deployments")`.
    pub fn group(&self, group_version: &str, rest: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{rest}", self.namespace)
    }

    /// The real kubectl, in the test's namespace.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.cluster.kubeconfig, &self.namespace)
    }

    /// Looks until there is something to return; panics with what it waited for when the time is over.
    pub async fn until<T, Fut: Future<Output = Option<T>>>(&self, what: &str, within: Duration, look: impl FnMut() -> Fut) -> T {
        wait::eventually_every(POLL, what, within, look).await
    }

    /// Waits until the object at `path` is as `wanted`, and gives it.
    #[allow(dead_code, reason = "for whoever needs it")]
    pub async fn until_it(&self, path: &str, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("{path}: {what}"), within, || async {
            let answer = self.wire.get(path).await;
            (answer.code == 200).then(|| answer.json()).filter(&wanted)
        })
        .await
    }

    /// Waits until nothing is at `path`.
    #[allow(dead_code, reason = "for whoever needs it")]
    pub async fn until_gone(&self, path: &str, within: Duration) {
        self.until(&format!("{path} to go"), within, || async { (self.wire.get(path).await.code == 404).then_some(()) }).await;
    }

    /// What the namespace looks like, for somebody who reads why a test failed.
    async fn describe(&self) -> String {
        let mut said = String::new();
        for what in [&["get", "pods", "-o", "wide"][..], &["get", "events"]] {
            let answer = self.kubectl().run(what).await;
            said += &answer.map_or_else(|e| format!("{e:#}\n"), |o| o.out);
        }
        said + &self.cluster.warnings()
    }

    /// Deletes what is left, last first. It need not be gone when this returns.
    async fn clean(&self) -> anyhow::Result<()> {
        let leftovers = std::mem::take(&mut *self.leftovers.lock());
        for path in leftovers.iter().rev() {
            let answer = self.wire.try_send(http::Method::DELETE, path, vec![]).await.with_context(|| format!("removing {path}"))?;
            // 409: it is being deleted already.
            anyhow::ensure!(matches!(answer.code, 200..300 | 404 | 409), "removing {path}: {} {}", answer.code, answer.text());
        }
        Ok(())
    }
}
