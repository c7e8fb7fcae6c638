//! What becomes of a plan that was made on what is no more.

use std::sync::Arc;

use controller_manager::apply::Executor;
use controller_manager::caches::Caches;
use controller_manager::events;
use controller_manager::plan::{Action, Plan, Propagation};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use testkit::ApiServer;

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_before_it_could_be_patched_is_not_deleted() {
    let server = ApiServer::start().await.expect("an apiserver");
    let client = server.client().await.expect("a client");
    let (recorder, _never_written) = events::channel(client.clone());
    let executor = Executor::new(client.clone(), Arc::new(Caches::default()), recorder);
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "t"}})).expect("a namespace");
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("created");
    let maps: Api<ConfigMap> = Api::namespaced(client, "t");
    let made: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m", "finalizers": ["example.com/held"]}})).expect("a map");
    let made = maps.create(&PostParams::default(), &made).await.expect("created");
    let plan = |seen: &ConfigMap| {
        let mut free = seen.clone();
        free.metadata.finalizers = None;
        let mut plan = Plan::default();
        plan.push(Action::update(seen, &free));
        plan.push(Action::delete(seen, Propagation::Default));
        plan
    };
    let changed = Patch::Merge(json!({"data": {"somebody": "else"}}));
    let changed = maps.patch("m", &PatchParams::default(), &changed).await.expect("patched");
    assert!(executor.apply(plan(&made)).await.stale, "it is to be looked at again");
    let left = maps.get("m").await.expect("still there");
    assert_eq!(left.metadata.deletion_timestamp, None, "with its finalizer it must not go");
    assert!(!executor.apply(plan(&changed)).await.stale);
    assert!(maps.get_opt("m").await.expect("an answer").is_none(), "planned anew, it goes");
}
