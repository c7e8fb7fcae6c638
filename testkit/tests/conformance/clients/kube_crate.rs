//! The `kube` crate: a controller of a custom resource with a finalizer, server-side apply, and owned objects that it watches.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::watcher;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::super::framework::{Behaviour, Definition, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("clients: a controller written with the kube crate keeps what it owns", test!(controller))];

const FINALIZER: &str = "rust.clients.ferrite.test/controller";

/// Why a reconciliation did not come to its end.
type Failed = kube::runtime::finalizer::Error<kube::Error>;

struct World {
    client: kube::Client,
    kind: ApiResource,
}

/// One map for each ship, and a status that says so; before a ship goes, a note.
async fn reconcile(ship: Arc<DynamicObject>, world: Arc<World>) -> Result<Action, Failed> {
    let namespace = ship.namespace().unwrap_or_default();
    let ships: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &namespace, &world.kind);
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &namespace);
    finalizer(&ships, FINALIZER, ship, |event| async {
        let mine = PatchParams::apply("rust-controller").force();
        match event {
            Event::Apply(ship) => {
                let owner = ship.controller_owner_ref(&world.kind);
                let cargo = ship.data["spec"]["cargo"].as_str().unwrap_or("").to_owned();
                let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ship.name_any(), "ownerReferences": [owner]}, "data": {"cargo": cargo}});
                let applied = maps.patch(&ship.name_any(), &mine, &Patch::Apply(&map)).await?;
                let status = json!({"apiVersion": world.kind.api_version, "kind": world.kind.kind, "status": {"cargo": applied.data.unwrap_or_default().get("cargo")}});
                ships.patch_status(&ship.name_any(), &mine, &Patch::Apply(&status)).await?;
            }
            Event::Cleanup(ship) => {
                let note = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{}-sank", ship.name_any())}});
                maps.patch(&format!("{}-sank", ship.name_any()), &mine, &Patch::Apply(&note)).await?;
            }
        }
        Ok::<_, kube::Error>(Action::await_change())
    })
    .await
}

async fn controller(f: Framework) -> anyhow::Result<()> {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"cargo": {"type": "string"}}},
        "status": {"type": "object", "properties": {"cargo": {"type": "string"}}},
    }});
    let mut definition = Definition::new("rust.clients.ferrite.test", "ship", "Namespaced", &["v1"], &schema);
    definition.object["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    let definition = f.define(definition).await;
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(definition.group(), "v1", definition.kind()), definition.plural());
    // The crate's own connections, not our daemons'.
    let file = Kubeconfig::read_from(&f.cluster.kubeconfig)?;
    let client = kube::Client::try_from(kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?;
    let ships: Api<DynamicObject> = Api::namespaced_with(client.clone(), &f.namespace, &kind);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &f.namespace);
    let world = Arc::new(World { client, kind: kind.clone() });
    let again = |_: Arc<DynamicObject>, _: &Failed, _: Arc<World>| Action::requeue(Duration::from_secs(1));
    let running = Controller::new_with(ships.clone(), watcher::Config::default().streaming_lists(), kind)
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, again, world)
        .for_each(|_| async {});
    let running = tokio::spawn(running);

    let path = definition.objects(&f.namespace);
    let ship =
        json!({"apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"name": "ark"}, "spec": {"cargo": "tea"}});
    f.wire.post(&path, &ship).await.expect(201);
    let ark = format!("{path}/ark");
    f.until_it(&ark, "to be loaded", SOON, |o| o["status"]["cargo"] == "tea" && o["metadata"]["finalizers"][0] == FINALIZER).await;
    let map = f.core("configmaps/ark");
    assert_eq!(f.wire.get(&map).await.ok()["data"]["cargo"], "tea");
    // What somebody else does to it is put right: by its watch, since nothing else tells it.
    f.wire.patch("merge", &map, &json!({"data": {"cargo": "sand"}})).await.expect(200);
    f.until_it(&map, "to be put right", SOON, |o| o["data"]["cargo"] == "tea").await;
    f.wire.delete(&map).await.expect(200);
    f.until_it(&map, "to be made again", SOON, |o| o["data"]["cargo"] == "tea").await;
    f.wire.patch("merge", &ark, &json!({"spec": {"cargo": "coffee"}})).await.expect(200);
    f.until_it(&ark, "to be loaded anew", SOON, |o| o["status"]["cargo"] == "coffee").await;
    f.wire.delete(&ark).await.expect(200);
    f.until_gone(&ark, SOON).await;
    f.until_gone(&map, SOON).await;
    f.wire.get(&f.core("configmaps/ark-sank")).await.expect(200);
    running.abort();
    Ok(())
}
