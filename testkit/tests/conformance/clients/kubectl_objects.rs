//! kubectl of each version on a Deployment's life, as people type it.

use std::time::Duration;

use serde_json::json;

use super::super::framework::{BUSYBOX, Behaviour, Framework, SOON, test};
use super::versions;

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("clients: kubectl rolls a Deployment out, scales it, and takes it back", test!(deployment)),
    Behaviour::new("clients: kubectl applies, patches, labels and deletes", test!(apply)),
    Behaviour::new("clients: kubectl waits, watches and sorts", test!(selection)),
];

/// `web` in one Deployment of pods that sleep.
fn manifest(replicas: u32, version: &str) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                    "name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "100000"],
                    "env": [{"name": "VERSION", "value": version}],
                }]},
            },
        },
    })
    .to_string()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

async fn deployment(f: Framework) -> anyhow::Result<()> {
    for version in versions::all().await? {
        let k = || version.on(&f);
        assert_eq!(k().stdin(manifest(2, "one")).ok(&["apply", "-f", "-"]).await?, "deployment.apps/web created\n");
        let rolled = k().ok(&["rollout", "status", "deployment/web", "--timeout=120s"]).await?;
        assert!(rolled.ends_with("deployment \"web\" successfully rolled out\n"), "{rolled}");
        let table = k().ok(&["get", "deployment", "web", "-o", "wide"]).await?;
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(words(lines[0]), ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]);
        let row = words(lines[1]);
        assert_eq!((&row[..4], &row[5..]), (&["web", "2/2", "2", "2"][..], &["main", BUSYBOX, "app=web"][..]));
        assert_eq!(k().ok(&["scale", "deployment", "web", "--replicas=3"]).await?, "deployment.apps/web scaled\n");
        k().ok(&["rollout", "status", "deployment/web", "--timeout=120s"]).await?;
        assert_eq!(k().ok(&["get", "pods", "-l", "app=web", "-o", "name"]).await?.lines().count(), 3);

        k().ok(&["set", "env", "deployment/web", "VERSION=two"]).await?;
        k().ok(&["rollout", "status", "deployment/web", "--timeout=120s"]).await?;
        let history = k().ok(&["rollout", "history", "deployment/web"]).await?;
        let history: Vec<Vec<&str>> = history.lines().map(words).filter(|w| !w.is_empty()).collect();
        assert_eq!(history, [vec!["deployment.apps/web"], vec!["REVISION", "CHANGE-CAUSE"], vec!["1", "<none>"], vec!["2", "<none>"]]);
        let first = k().ok(&["rollout", "history", "deployment/web", "--revision=1"]).await?;
        assert!(first.contains("VERSION:\tone"), "{first}");
        let undone = k().ok(&["rollout", "undo", "deployment/web", "--to-revision=1"]).await?;
        assert_eq!(undone, "deployment.apps/web rolled back\n");
        k().ok(&["rollout", "status", "deployment/web", "--timeout=120s"]).await?;
        let value = "jsonpath={.spec.template.spec.containers[0].env[0].value}";
        assert_eq!(k().ok(&["get", "deployment", "web", "-o", value]).await?, "one");

        assert_eq!(
            k().ok(&["set", "image", "deployment/web", "main=localhost/ferrite/pause:0.1"]).await?,
            "deployment.apps/web image updated\n"
        );
        assert_eq!(k().ok(&["rollout", "pause", "deployment/web"]).await?, "deployment.apps/web paused\n");
        assert_eq!(k().ok(&["rollout", "resume", "deployment/web"]).await?, "deployment.apps/web resumed\n");
        assert_eq!(k().ok(&["rollout", "restart", "deployment/web"]).await?, "deployment.apps/web restarted\n");
        assert_eq!(k().ok(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]).await?, "service/web exposed\n");
        let all = k().ok(&["get", "deploy,rs,po,svc,ep", "-o", "wide"]).await?;
        for heading in ["deployment.apps/web", "replicaset.apps/web-", "pod/web-", "service/web", "endpoints/web"] {
            assert!(all.contains(heading), "no {heading} in {all}");
        }
        assert_eq!(k().ok(&["autoscale", "deployment", "web", "--max=5"]).await?, "horizontalpodautoscaler.autoscaling/web autoscaled\n");
        k().ok(&["delete", "deployment,service,hpa", "web"]).await?;
        f.until("the pods to go", SOON, || async { f.list(&f.core("pods")).await.is_empty().then_some(()) }).await;
    }
    Ok(())
}

async fn apply(f: Framework) -> anyhow::Result<()> {
    for version in versions::all().await? {
        let k = || version.on(&f);
        let map = |data: &str, labels: &str| {
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m, labels: {{{labels}}}}}\ndata: {{{data}}}\n")
        };
        let apply = |text: String| async move { k().stdin(text).ok(&["apply", "-f", "-"]).await };
        let data = || async { k().ok(&["get", "configmap", "m", "-o", "jsonpath={.data}"]).await };
        assert_eq!(apply(map("a: '1', b: '2'", "app: x")).await?, "configmap/m created\n");
        assert_eq!(apply(map("a: '1', b: '2'", "app: x")).await?, "configmap/m unchanged\n");
        k().ok(&["patch", "configmap", "m", "--type=merge", "-p", r#"{"data":{"other":"kept"}}"#]).await?;
        assert_eq!(apply(map("a: '3'", "app: x")).await?, "configmap/m configured\n");
        assert_eq!(data().await?, r#"{"a":"3","other":"kept"}"#, "what apply no longer has is pruned, what others wrote stays");
        let diff = k().stdin(map("a: '4'", "app: x")).run(&["diff", "-f", "-"]).await?;
        assert!(!diff.success && diff.out.contains("-  a: \"3\"\n+  a: \"4\"\n"), "{}{}", diff.out, diff.err);

        assert_eq!(k().ok(&["patch", "configmap", "m", "-p", r#"{"data":{"s":"1"}}"#]).await?, "configmap/m patched\n");
        assert_eq!(
            k().ok(&["patch", "configmap", "m", "--type=json", "-p", r#"[{"op":"remove","path":"/data/s"}]"#]).await?,
            "configmap/m patched\n"
        );
        assert_eq!(
            k().ok(&["patch", "configmap", "m", "--type=merge", "-p", r#"{"data":{"other":null}}"#]).await?,
            "configmap/m patched\n"
        );
        assert_eq!(data().await?, r#"{"a":"3"}"#);
        assert_eq!(k().ok(&["label", "configmap", "m", "tier=front"]).await?, "configmap/m labeled\n");
        assert!(k().ok(&["annotate", "configmap", "m", "note=a b"]).await?.starts_with("configmap/m annotate"));
        assert!(
            k().fails(&["label", "configmap", "m", "tier=back"]).await?.contains("already has a value (front), and --overwrite is false")
        );
        let edited = k().stdin(map("a: '5'", "app: x")).ok(&["replace", "-f", "-"]).await?;
        assert_eq!(edited, "configmap/m replaced\n");
        let other = k().stdin(map("a: '6'", "app: x")).ok(&["apply", "--server-side", "--force-conflicts", "-f", "-"]).await?;
        assert_eq!(other, "configmap/m serverside-applied\n");
        let dry = k().ok(&["run", "web", "--image=nginx", "--port=80", "--dry-run=client", "-o", "yaml"]).await?;
        for line in
            ["apiVersion: v1", "kind: Pod", "    run: web", "  - image: nginx", "    - containerPort: 80", "  restartPolicy: Always"]
        {
            assert!(dry.lines().any(|l| l == line), "no {line:?} in {dry}");
        }
        k().ok(&["create", "configmap", "n"]).await?;
        let deleted = k().ok(&["delete", "configmaps", "-l", "app=x"]).await?;
        assert!(deleted.starts_with("configmap \"m\" deleted") && deleted.lines().count() == 1, "{deleted}");
        assert!(k().ok(&["delete", "configmap", "n", "--now"]).await?.starts_with("configmap \"n\" deleted"));
        assert_eq!(k().fails(&["get", "configmap", "m"]).await?, "Error from server (NotFound): configmaps \"m\" not found\n");
    }
    Ok(())
}

async fn selection(f: Framework) -> anyhow::Result<()> {
    for version in versions::all().await? {
        let k = || version.on(&f);
        let mut watching = k().command(&["get", "configmaps", "-w", "-o", "name", "--field-selector=metadata.name=seen"]);
        let log = std::env::temp_dir().join(format!("{}-{}-watch.log", f.namespace, version.minor));
        let mut watching = watching.stdout(std::fs::File::create(&log)?).spawn()?;
        let times = |wanted: usize| {
            let log = log.clone();
            f.until("kubectl to see it", Duration::from_secs(30), move || {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                async move { (text.matches("configmap/seen").count() >= wanted).then_some(()) }
            })
        };
        k().ok(&["create", "configmap", "seen"]).await?;
        times(1).await;
        k().ok(&["label", "configmap", "seen", "a=b"]).await?;
        times(2).await;
        watching.kill().await?;
        std::fs::remove_file(log)?;
        k().ok(&["create", "configmap", "unseen"]).await?;
        let sorted = k().ok(&["get", "configmaps", "--sort-by=.metadata.creationTimestamp", "-o", "name"]).await?;
        assert_eq!(sorted.lines().last(), Some("configmap/unseen"));
        let chunks = k().ok(&["get", "configmaps", "--chunk-size=1", "-o", "custom-columns=NAME:.metadata.name", "--no-headers"]).await?;
        assert_eq!(chunks.lines().map(str::trim).collect::<Vec<_>>(), ["kube-root-ca.crt", "seen", "unseen"]);
        let everywhere = k().ok(&["get", "configmaps", "-A", "-o", "name"]).await?;
        assert!(everywhere.lines().count() > 3, "{everywhere}");
        k().ok(&["delete", "configmap", "seen", "unseen"]).await?;
        assert!(k().fails(&["wait", "--for=condition=Ready", "pod/none", "--timeout=1s"]).await?.contains("not found"));
    }
    Ok(())
}
