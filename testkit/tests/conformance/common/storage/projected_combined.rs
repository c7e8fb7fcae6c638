//! All that a projected volume can be put together from.

use serde_json::json;

use super::super::pod;
use super::super::source::Source;
use super::downwardapi_volume::name_item;
use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "[sig-storage] Projected combined should project all components that make up the projection API [Projection][NodeConformance]",
    test!(combined),
)];

async fn combined(f: Framework) -> anyhow::Result<()> {
    Source::ConfigMap.create(&f, "map", &json!({"configmap-data": "config-value"})).await;
    Source::Secret.create(&f, "secret", &json!({"secret-data": "secret-value"})).await;
    let sources = json!([
        {"configMap": {"name": "map", "items": [{"key": "configmap-data", "path": "configmap-data"}]}},
        {"secret": {"name": "secret", "items": [{"key": "secret-data", "path": "secret-data"}]}},
        {"downwardAPI": {"items": [name_item()]}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
    ]);
    let spec = json!({"volumes": [{"name": "v", "projected": {"sources": sources}}]});
    let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/all"}]});
    let script = "cd /all; cat podname secret-data configmap-data; echo; tr -cd . < token; echo; ls";
    assert_eq!(
        f.output_of(&pod("p", script, spec, mounts)).await,
        "psecret-valueconfig-value\n..\nconfigmap-data\npodname\nsecret-data\ntoken\n"
    );
    Ok(())
}
