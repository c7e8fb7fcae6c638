//! Upstream's `test/e2e/common/node/pod_resize.go` (KEP-1287): resizes that are carried out.

use serde_json::{Value, json};

use super::container_resources::{in_the_kernel, pod, resize, resize_patch, resources, sleeper, until_resized};
use crate::clients::versions::newest;
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, c2, decrease cpu & mem on c3 - net increase [MinimumKubeletVersion:1.34]",
        test!(net_increase),
    ),
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, decrease cpu & mem on c2, c3 - net decrease [MinimumKubeletVersion:1.34]",
        test!(net_decrease),
    ),
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase: CPU (c1,c3), memory (c2, c3) ; decrease: CPU (c2) [MinimumKubeletVersion:1.34]",
        test!(mixed),
    ),
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed (including adding limits and requests) [MinimumKubeletVersion:1.34]",
        test!(various),
    ),
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container burstable pods - extended resize with equivalents [MinimumKubeletVersion:1.34]",
        test!(equivalents),
    ),
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34]",
        test!(replaced),
    ),
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container guaranteed qos - 1 container with resize policy mem restart",
        test!(restarts),
    ),
    Behaviour::new(
        "newer: [sig-node] Pod InPlace Resize Container guaranteed qos - 1 container with resize policy no restart + resize initContainers",
        test!(sidecar),
    ),
    Behaviour::new("newer: [sig-node] Pod InPlace Resize Container decrease memory limit below usage", test!(below_usage)),
    Behaviour::new("newer: kubectl resizes a pod, and its events tell of it", test!(kubectl)),
    Behaviour::new("newer: a container whose image changes is replaced though it is never restarted", test!(image_under_never)),
];

/// Resizes there, and back again.
async fn there_and_back(f: &Framework, before: &[(&str, &str)], after: &[(&str, &str)]) -> anyhow::Result<()> {
    f.create_pod(&pod("p", &before.iter().map(|(name, words)| sleeper(name, words)).collect::<Vec<_>>())).await;
    f.until_ready("p").await;
    until_resized(f, "p", before, 0).await;
    for (generation, wanted) in [(2, after), (3, before)] {
        let patched = resize(f, "p", wanted).await;
        assert_eq!(patched["metadata"]["generation"], generation);
        for (i, (_, words)) in wanted.iter().enumerate() {
            assert_eq!(patched["spec"]["containers"][i]["resources"], resources(words));
        }
        until_resized(f, "p", wanted, 0).await;
    }
    Ok(())
}

const C1: (&str, &str) = ("c1", "cpu=20m:20m memory=35Mi:35Mi");
const C2: (&str, &str) = ("c2", "cpu=22m:22m memory=37Mi:37Mi");
const C3: (&str, &str) = ("c3", "cpu=24m:24m memory=39Mi:39Mi");

async fn net_increase(f: Framework) -> anyhow::Result<()> {
    let after = [("c1", "cpu=25m:25m memory=40Mi:40Mi"), ("c2", "cpu=27m:27m memory=42Mi:42Mi"), ("c3", "cpu=19m:19m memory=34Mi:34Mi")];
    there_and_back(&f, &[C1, C2, C3], &after).await
}

async fn net_decrease(f: Framework) -> anyhow::Result<()> {
    let after = [("c1", "cpu=25m:25m memory=40Mi:40Mi"), ("c2", "cpu=17m:17m memory=32Mi:32Mi"), ("c3", "cpu=19m:19m memory=34Mi:34Mi")];
    there_and_back(&f, &[C1, C2, C3], &after).await
}

async fn mixed(f: Framework) -> anyhow::Result<()> {
    let after = [("c1", "cpu=25m:25m memory=35Mi:35Mi"), ("c2", "cpu=17m:17m memory=42Mi:42Mi"), ("c3", "cpu=29m:29m memory=44Mi:44Mi")];
    there_and_back(&f, &[C1, C2, C3], &after).await
}

async fn equivalents(f: Framework) -> anyhow::Result<()> {
    there_and_back(&f, &[("c1", "cpu=2m:10m")], &[("c1", "cpu=1m:5m")]).await
}

async fn various(f: Framework) -> anyhow::Result<()> {
    let before = [("c1", "cpu=20m:"), ("c2", "memory=35Mi:"), ("c3", "cpu=20m: memory=35Mi:"), ("c4", "cpu=20m:"), ("c5", "memory=35Mi:")];
    let after = [
        ("c1", "cpu=25m:35m"),
        ("c2", "memory=30Mi:50Mi"),
        ("c3", "cpu=20m: memory=30Mi:"),
        ("c4", "cpu=15m: memory=35Mi:"),
        ("c5", "cpu=20m: memory=40Mi:"),
    ];
    f.create_pod(&pod("p", &before.map(|(name, words)| sleeper(name, words)))).await;
    f.until_ready("p").await;
    until_resized(&f, "p", &before, 0).await;
    resize(&f, "p", &after).await;
    until_resized(&f, "p", &after, 0).await;
    Ok(())
}

async fn replaced(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&pod("p", &[sleeper("c1", "cpu=20m: memory=35Mi:")])).await;
    let mut read = f.until_ready("p").await;
    assert_eq!(read["metadata"]["generation"], 1);
    let after = "cpu=25m: memory=40Mi:";
    read["spec"]["containers"][0]["resources"] = resources(after);
    // What a resize does not speak of is left out of it.
    read["spec"]["activeDeadlineSeconds"] = json!(5000);
    read["metadata"]["resourceVersion"] = Value::Null;
    let written = f.wire.put(&f.core("pods/p/resize"), &read).await.expect(200);
    assert_eq!((&written["metadata"]["generation"], &written["spec"]["activeDeadlineSeconds"]), (&json!(2), &Value::Null));
    until_resized(&f, "p", &[("c1", after)], 0).await;
    f.until("both endpoints to show the same", SOON, || async {
        let (whole, part) = (f.wire.get(&f.core("pods/p")).await.expect(200), f.wire.get(&f.core("pods/p/resize")).await.expect(200));
        (whole == part).then_some(())
    })
    .await;
    Ok(())
}

fn with_policy(mut container: Value, cpu: &str, memory: &str) -> Value {
    container["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": cpu}, {"resourceName": "memory", "restartPolicy": memory}]);
    container
}

async fn restarts(f: Framework) -> anyhow::Result<()> {
    let policy = |name, words| with_policy(sleeper(name, words), "NotRequired", "RestartContainer");
    let made = f.create_pod(&pod("p", &[policy("c1", C1.1), sleeper("c2", C2.1)])).await;
    let policies = |i: usize| made["spec"]["containers"][i]["resizePolicy"].clone();
    assert_eq!((policies(0).as_array().map(Vec::len), policies(1)), (Some(2), Value::Null), "nothing is filled in");
    f.until_ready("p").await;
    // CPU alone needs no restart.
    resize(&f, "p", &[("c1", "cpu=25m:25m memory=35Mi:35Mi")]).await;
    until_resized(&f, "p", &[("c1", "cpu=25m:25m memory=35Mi:35Mi")], 0).await;
    let after = ("c1", "cpu=20m:20m memory=40Mi:40Mi");
    resize(&f, "p", &[after]).await;
    until_resized(&f, "p", &[after], 1).await;
    until_resized(&f, "p", &[C2], 0).await;
    let events = f.core("events?fieldSelector=reason%3DKilling");
    f.until("an event", SOON, || async {
        f.list(&events).await.iter().any(|e| e["message"] == "Container c1 resize requires restart").then_some(())
    })
    .await;
    resize(&f, "p", &[C1]).await;
    until_resized(&f, "p", &[C1], 2).await;
    Ok(())
}

async fn sidecar(f: Framework) -> anyhow::Result<()> {
    let mut p = pod("p", &[sleeper("c1", C1.1)]);
    p["spec"]["initContainers"] = json!([sleeper("s1", C2.1)]);
    p["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
    f.create_pod(&p).await;
    f.until_ready("p").await;
    let patch = |words| json!({"spec": {"initContainers": [{"name": "s1", "resources": resources(words)}]}});
    for words in ["cpu=30m:30m memory=45Mi:45Mi", "cpu=10m:10m memory=30Mi:30Mi"] {
        f.wire.patch("strategic", &f.core("pods/p/resize"), &patch(words)).await.expect(200);
        until_resized(&f, "p", &[("s1", words), C1], 0).await;
    }
    Ok(())
}

async fn below_usage(f: Framework) -> anyhow::Result<()> {
    // A shell that holds some twenty megabytes.
    let mut hungry = sleeper("c1", "memory=64Mi:64Mi");
    let script = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; trap 'exit 0' TERM; while true; do sleep 0.2; done";
    hungry["command"] = json!(["sh", "-c", script]);
    f.create_pod(&pod("p", &[hungry])).await;
    f.until_ready("p").await;
    f.until("the memory to be in use", POD, || async { f.logs("p", "c1").await.contains("ready").then_some(()) }).await;
    let small = ("c1", "memory=50Mi:50Mi");
    resize(&f, "p", &[small]).await;
    until_resized(&f, "p", &[small], 0).await;
    resize(&f, "p", &[("c1", "memory=1Mi:1Mi")]).await;
    let stuck = f
        .until_it(&f.core("pods/p"), "to say why it is not resized", POD, |p| {
            let found = crate::common::condition(p, "PodResizeInProgress");
            found.starts_with("True Error ") && found.contains("memory limit (1048576) below current usage (")
        })
        .await;
    let status = crate::common::container_status(&stuck, "c1");
    assert_eq!((&status["resources"], &status["allocatedResources"]["memory"]), (&resources(small.1), &json!("1Mi")));
    assert_eq!(crate::common::condition(&stuck, "PodResizePending"), "");
    in_the_kernel(&f, "p", "c1", small.1).await;
    resize(&f, "p", &[("c1", "memory=64Mi:64Mi")]).await;
    until_resized(&f, "p", &[("c1", "memory=64Mi:64Mi")], 0).await;
    Ok(())
}

/// The first minor version of kubectl that knows the subresource.
const KUBECTL_RESIZES: u32 = 32;

async fn kubectl(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&pod("p", &[sleeper("c1", "cpu=20m:30m")])).await;
    f.until_ready("p").await;
    let kubectl = newest().await?;
    if kubectl.minor >= KUBECTL_RESIZES {
        let patch = resize_patch(&[("c1", "cpu=25m:35m")]).to_string();
        let said = kubectl.on(&f).ok(&["patch", "pod", "p", "--subresource", "resize", "--patch", &patch]).await?;
        assert_eq!(said, "pod/p patched\n");
    } else {
        resize(&f, "p", &[("c1", "cpu=25m:35m")]).await;
    }
    until_resized(&f, "p", &[("c1", "cpu=25m:35m")], 0).await;
    let of = |what: &str| {
        let resources = r#"{"containers":[{"name":"c1","resources":{"limits":{"cpu":"35m"},"requests":{"cpu":"25m"}}}],"generation":2}"#;
        format!("Pod resize {what}: {resources}")
    };
    f.until("the events", SOON, || async {
        let events = f.list(&f.core("events")).await;
        let told = |reason: &str, words: String| events.iter().any(|e| e["reason"] == reason && e["message"] == words);
        (told("ResizeStarted", of("started")) && told("ResizeCompleted", of("completed"))).then_some(())
    })
    .await;
    // By the ordinary endpoint nothing is resized.
    let refused = f
        .wire
        .patch("strategic", &f.core("pods/p"), &json!({"spec": {"containers": [{"name": "c1", "resources": resources("cpu=30m:35m")}]}}))
        .await;
    assert!(refused.code == 422 && refused.refusal().contains("pod updates may not change fields other than"), "{}", refused.text());
    Ok(())
}

async fn image_under_never(f: Framework) -> anyhow::Result<()> {
    let mut p = pod("p", &[sleeper("c1", "")]);
    p["spec"]["restartPolicy"] = json!("Never");
    f.create_pod(&p).await;
    f.until_ready("p").await;
    let image = format!("docker.io/library/{BUSYBOX}:latest");
    f.wire.patch("strategic", &f.core("pods/p"), &json!({"spec": {"containers": [{"name": "c1", "image": image}]}})).await.expect(200);
    f.until_it(&f.core("pods/p"), "to run the other image", POD, |p| {
        let status = crate::common::container_status(p, "c1");
        assert_eq!(p["status"]["phase"], "Running", "{}", p["status"]);
        status["restartCount"] == 1 && status["state"]["running"].is_object() && crate::common::condition(p, "Ready") == "True"
    })
    .await;
    Ok(())
}
