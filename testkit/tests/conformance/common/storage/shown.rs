//! ConfigMaps and Secrets in volumes, of their own and projected: one body for what all four do.

use serde_json::{Value, json};

use super::super::source::Source;
use super::super::{pod, put};
use super::files::{until_log, watching};
use crate::framework::Framework;

/// What a volume shows, and how.
#[derive(Clone, Copy)]
pub struct Shown {
    pub source: Source,
    /// Inside a projected volume.
    pub projected: bool,
}

impl Shown {
    /// A volume that shows an object; `more` may have `items`, `optional` and `defaultMode`.
    pub fn volume(self, volume: &str, object: &str, more: &Value) -> Value {
        let name = if self.source == Source::Secret && !self.projected { "secretName" } else { "name" };
        let mut source = json!({name: object});
        put(&mut source, more.clone());
        if !self.projected {
            return json!({"name": volume, self.source.field(): source});
        }
        // Of a projected volume, the mode is the whole volume's.
        let mode = source.as_object_mut().expect("an object").remove("defaultMode");
        let mut projected = json!({"sources": [{self.source.field(): source}]});
        put(&mut projected, mode.map_or(json!({}), |mode| json!({"defaultMode": mode})));
        json!({"name": volume, "projected": projected})
    }
}

/// One way to show an object and what is to be seen of it.
pub struct Case {
    /// `items`, `defaultMode`.
    pub volume: Value,
    /// The pod's security context.
    pub context: Value,
    /// The file, and what is in it.
    pub file: (&'static str, &'static str),
    /// Its mode, and whom it belongs to.
    pub owned: &'static str,
}

/// Each file is readable by everybody and belongs to root.
pub const PLAIN: &str = "-rw-r--r-- 0:0";

fn data() -> Value {
    json!({"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"})
}

fn mapped(mode: Option<u32>) -> Value {
    let mut item = json!({"key": "data-2", "path": "path/to/data-2"});
    put(&mut item, mode.map_or(json!({}), |mode| json!({"mode": mode})));
    json!({"items": [item]})
}

impl Case {
    pub fn whole() -> Self {
        Self { volume: json!({}), context: json!({}), file: ("data-1", "value-1"), owned: PLAIN }
    }

    pub fn default_mode() -> Self {
        Self { volume: json!({"defaultMode": 0o400}), owned: "-r-------- 0:0", ..Self::whole() }
    }

    pub fn non_root() -> Self {
        Self { context: json!({"runAsUser": 1000}), ..Self::whole() }
    }

    /// The group is the volume's, and may read what nobody else may.
    pub fn group() -> Self {
        let context = json!({"runAsUser": 1000, "fsGroup": 1001});
        Self { volume: json!({"defaultMode": 0o440}), context, owned: "-r--r----- 0:1001", ..Self::whole() }
    }

    pub fn mappings() -> Self {
        Self { volume: mapped(None), file: ("path/to/data-2", "value-2"), ..Self::whole() }
    }

    pub fn item_mode() -> Self {
        Self { volume: mapped(Some(0o400)), owned: "-r-------- 0:0", ..Self::mappings() }
    }

    pub fn mappings_non_root() -> Self {
        Self { context: json!({"runAsUser": 1000}), ..Self::mappings() }
    }
}

/// The object is read through a volume.
pub async fn read(f: Framework, shown: Shown, case: Case) -> anyhow::Result<()> {
    shown.source.create(&f, "test", &data()).await;
    reads(&f, shown, &case).await;
    Ok(())
}

async fn reads(f: &Framework, shown: Shown, case: &Case) {
    let (path, content) = case.file;
    let script = format!("cat /v/{path}; echo; stat -L -c '%A %u:%g' /v/{path}");
    let spec = json!({"volumes": [shown.volume("v", "test", &case.volume)], "securityContext": case.context});
    let pod = pod("reader", &script, spec, json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}));
    assert_eq!(f.output_of(&pod).await, format!("{content}\n{}\n", case.owned));
}

/// One of the same name in another namespace is another.
pub async fn same_name(f: Framework, shown: Shown) -> anyhow::Result<()> {
    let other = f.in_namespace(&f.new_namespace("secret-namespace").await?);
    shown.source.create(&other, "test", &json!({"data-1": "other"})).await;
    read(f, shown, Case::whole()).await
}

/// Two volumes of one object.
pub async fn twice(f: Framework, shown: Shown) -> anyhow::Result<()> {
    shown.source.create(&f, "test", &data()).await;
    let volumes: Vec<Value> = ["v1", "v2"].iter().map(|v| shown.volume(v, "test", &json!({}))).collect();
    let mounts = json!([{"name": "v1", "mountPath": "/v1", "readOnly": true}, {"name": "v2", "mountPath": "/v2", "readOnly": true}]);
    let pod = pod("reader", "cat /v1/data-1 /v2/data-1", json!({"volumes": volumes}), json!({"volumeMounts": mounts}));
    assert_eq!(f.output_of(&pod).await, "value-1value-1");
    Ok(())
}

/// A running container sees a change.
pub async fn updated(f: Framework, shown: Shown) -> anyhow::Result<()> {
    shown.source.create(&f, "test", &data()).await;
    f.create_pod(&watching(&["/v/data-1"], json!([shown.volume("v", "test", &json!({}))]), &["v"])).await;
    until_log(&f, "/v/data-1: value-1").await;
    f.wire.put(&shown.source.path(&f, "test"), &shown.source.object("test", &json!({"data-1": "changed"}))).await.expect(200);
    until_log(&f, "/v/data-1: changed").await;
    Ok(())
}

/// One that comes, one that changes and one that goes, none of which need be there.
pub async fn optional(f: Framework, shown: Shown) -> anyhow::Result<()> {
    let Shown { source, .. } = shown;
    source.create(&f, "del", &json!({"data-1": "value-1"})).await;
    source.create(&f, "upd", &json!({"data-1": "value-1"})).await;
    let names = ["del", "upd", "create"];
    let volumes: Vec<Value> = names.iter().map(|n| shown.volume(n, n, &json!({"optional": true}))).collect();
    f.create_pod(&watching(&["/del/data-1", "/upd/data-3", "/create/data-1"], json!(volumes), &names)).await;
    for seen in ["/del/data-1: value-1", "/upd/data-3: none", "/create/data-1: none"] {
        until_log(&f, seen).await;
    }
    f.wire.delete(&source.path(&f, "del")).await.expect(200);
    f.wire.put(&source.path(&f, "upd"), &source.object("upd", &json!({"data-3": "value-3"}))).await.expect(200);
    source.create(&f, "create", &json!({"data-1": "value-1"})).await;
    for seen in ["/del/data-1: none", "/upd/data-3: value-3", "/create/data-1: value-1"] {
        until_log(&f, seen).await;
    }
    Ok(())
}

/// What is immutable keeps its data, and stays so; other things of it change, and it goes.
pub async fn immutable(f: Framework, shown: Shown) -> anyhow::Result<()> {
    let path = shown.source.path(&f, "test");
    shown.source.create(&f, "test", &json!({"data-1": "value-1"})).await;
    let text = |text: &str| match shown.source {
        Source::ConfigMap => text.to_owned(),
        Source::Secret => base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text),
    };
    let data = |value: &str| json!({"data": {"data-1": text(value)}});
    f.wire.patch("merge", &path, &data("value-2")).await.expect(200);
    f.wire.patch("merge", &path, &json!({"immutable": true})).await.expect(200);
    for (change, field) in
        [(data("value-3"), "data"), (json!({"immutable": false}), "immutable"), (json!({"immutable": null}), "immutable")]
    {
        let refused = f.wire.patch("merge", &path, &change).await.refusal();
        let words = format!(
            "422 Invalid: {} \"test\" is invalid: {field}: Forbidden: field is immutable when `immutable` is set",
            shown.source.kind()
        );
        assert_eq!(refused, words);
    }
    f.wire.patch("merge", &path, &json!({"metadata": {"labels": {"label1": "value1"}}})).await.expect(200);
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!((&read["data"]["data-1"], &read["metadata"]["labels"]["label1"]), (&json!(text("value-2")), &json!("value1")));
    f.wire.delete(&path).await.expect(200);
    assert_eq!(f.wire.get(&path).await.code, 404);
    Ok(())
}
