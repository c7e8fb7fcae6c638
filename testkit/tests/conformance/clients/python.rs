//! The official Python client, kopf, and Helm through its Python binding.

use serde_json::json;

use super::super::framework::{Behaviour, Definition, Framework, POD, SOON, test};
use super::programs::{command, python, run, sources};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("clients: Python reads, writes, applies and watches objects", test!(objects)),
    Behaviour::new("clients: Python runs commands, forwards ports and follows logs", test!(streams)),
    Behaviour::new("clients: an operator written with kopf makes and leaves children", test!(operator)),
    Behaviour::new("clients: Helm installs, upgrades, rolls back and uninstalls a chart", test!(helm)),
];

async fn script(f: &Framework, name: &str) -> anyhow::Result<()> {
    let path = sources("python").join(name).display().to_string();
    run(f, &python().await?, &[&path]).await
}

async fn objects(f: Framework) -> anyhow::Result<()> {
    script(&f, "objects.py").await
}

async fn streams(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    script(&f, "streams.py").await
}

async fn helm(f: Framework) -> anyhow::Result<()> {
    script(&f, "helm_releases.py").await
}

async fn operator(f: Framework) -> anyhow::Result<()> {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {"size": {"type": "integer", "minimum": 0}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let fleets = f.define(Definition::new("clients.ferrite.test", "fleet", "Namespaced", &["v1"], &schema)).await;
    let program = sources("python").join("operator_of_maps.py").display().to_string();
    let arguments = ["-m", "kopf", "run", "--quiet", "--namespace", &f.namespace, &program];
    let log = std::env::temp_dir().join(format!("{}-kopf.log", f.namespace));
    let file = std::fs::File::create(&log)?;
    let mut operator = command(&f, &python().await?, &arguments).stdout(file.try_clone()?).stderr(file).spawn()?;

    let path = fleets.objects(&f.namespace);
    let fleet = json!({"apiVersion": fleets.api_version(), "kind": fleets.kind(), "metadata": {"name": "north"}, "spec": {"size": 3}});
    let made = f.wire.post(&path, &fleet).await.expect(201);
    let children = || async { f.list(&f.core("configmaps?labelSelector=fleet%3Dnorth")).await };
    let count = |wanted: usize| {
        f.until("the operator's children (its log is in the temporary folder)", POD, move || async move {
            Some(children().await).filter(|all| all.len() == wanted)
        })
    };
    let three = count(3).await;
    assert!(three.iter().all(|c| c["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]), "{three:?}");
    let north = format!("{path}/north");
    f.until_it(&north, "to be reported on", SOON, |o| o["status"]["built"] == 3).await;
    f.wire.patch("merge", &north, &json!({"spec": {"size": 5}})).await.expect(200);
    count(5).await;
    f.wire.delete(&north).await.expect(200);
    f.until_gone(&north, SOON).await;
    f.wire.get(&f.core("configmaps/north-was-here")).await.expect(200);
    count(0).await;
    assert!(operator.try_wait()?.is_none(), "the operator still runs");
    operator.kill().await?;
    std::fs::remove_file(log)?;
    Ok(())
}
