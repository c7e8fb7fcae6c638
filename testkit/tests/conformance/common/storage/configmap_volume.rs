//! ConfigMaps in volumes of their own.

use serde_json::json;

use super::super::pod;
use super::super::source::Source;
use super::shown::{Case, Shown, immutable, optional, read, twice, updated};
use crate::framework::{Behaviour, Framework, test};

const SHOWN: Shown = Shown { source: Source::ConfigMap, projected: false };

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] ConfigMap should be consumable from pods in volume [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::whole()))
    }),
    Behaviour::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::default_mode())),
    ),
    Behaviour::new("[sig-storage] ConfigMap should be consumable from pods in volume as non-root [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::non_root()))
    }),
    Behaviour::new("[sig-storage] ConfigMap should be consumable from pods in volume with mappings [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::mappings()))
    }),
    Behaviour::new(
        "[sig-storage] ConfigMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::item_mode())),
    ),
    Behaviour::new("[sig-storage] ConfigMap should be consumable from pods in volume with mappings as non-root [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::mappings_non_root()))
    }),
    Behaviour::new("[sig-storage] ConfigMap updates should be reflected in volume [NodeConformance]", |f| Box::pin(updated(f, SHOWN))),
    Behaviour::new("[sig-storage] ConfigMap optional updates should be reflected in volume [NodeConformance]", |f| {
        Box::pin(optional(f, SHOWN))
    }),
    Behaviour::new("[sig-storage] ConfigMap should be consumable in multiple volumes in the same pod [NodeConformance]", |f| {
        Box::pin(twice(f, SHOWN))
    }),
    Behaviour::new("[sig-storage] ConfigMap should be immutable if `immutable` field is set", |f| Box::pin(immutable(f, SHOWN))),
    Behaviour::new("[sig-storage] ConfigMap binary data should be reflected in volume [NodeConformance]", test!(binary)),
];

/// Text and bytes side by side.
async fn binary(f: Framework) -> anyhow::Result<()> {
    let mut object = Source::ConfigMap.object("test", &json!({"data-1": "value-1"}));
    object["binaryData"] = json!({"dump.bin": "3sr+/g=="});
    f.wire.post(&f.core("configmaps"), &object).await.expect(201);
    let spec = json!({"volumes": [SHOWN.volume("v", "test", &json!({}))]});
    let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    assert_eq!(f.output_of(&pod("p", "cat /v/data-1; echo; xxd -p /v/dump.bin", spec, mounts)).await, "value-1\ndecafefe\n");
    Ok(())
}
