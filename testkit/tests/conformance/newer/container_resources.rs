//! Containers that ask for something, and what the kernel gives them.

use serde_json::{Value, json};

use crate::common::{condition, container_status};
use crate::framework::{BUSYBOX, Framework, POD};

/// Resources from words such as `cpu=20m:30m memory=35Mi:45Mi`: request, limit, each of which may be missing.
pub fn resources(words: &str) -> Value {
    let mut out = json!({});
    for word in words.split_whitespace() {
        let (name, amounts) = word.split_once('=').expect("NAME=REQUEST:LIMIT");
        let (request, limit) = amounts.split_once(':').expect("REQUEST:LIMIT");
        for (list, amount) in [("requests", request), ("limits", limit)] {
            if !amount.is_empty() {
                out[list][name] = json!(amount);
            }
        }
    }
    out
}

/// A container that sleeps and ends well when it is told to.
pub fn sleeper(name: &str, words: &str) -> Value {
    let script = "trap 'exit 0' TERM; while true; do sleep 0.2; done";
    json!({"name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], "resources": resources(words)})
}

/// A pod of such containers that are started again only when they fail.
pub fn pod(name: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1, "containers": containers},
    })
}

/// The same on a node.
pub fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod
}

/// A patch that gives containers other resources: name and words each.
pub fn resize_patch(containers: &[(&str, &str)]) -> Value {
    let of = |(name, words): &(&str, &str)| json!({"name": name, "resources": resources(words)});
    json!({"spec": {"containers": containers.iter().map(of).collect::<Vec<_>>()}})
}

/// Resizes a pod, which must be accepted, and gives it.
pub async fn resize(f: &Framework, pod: &str, containers: &[(&str, &str)]) -> Value {
    f.wire.patch("strategic", &f.core(&format!("pods/{pod}/resize")), &resize_patch(containers)).await.expect(200)
}

/// Whether nothing of a resize is left to do: upstream's clients take it for done when no condition speaks of one.
fn is_resized(pod: &Value, containers: &[(&str, &str)]) -> bool {
    let same = |(name, words): &(&str, &str)| {
        let status = container_status(pod, name);
        let wanted = resources(words);
        let allocated = wanted.get("requests").unwrap_or(&Value::Null);
        status["resources"] == wanted && status["allocatedResources"] == *allocated
    };
    let told = |kind| !condition(pod, kind).is_empty();
    containers.iter().all(same)
        && !told("PodResizePending")
        && !told("PodResizeInProgress")
        && condition(pod, "Ready") == "True"
        && pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
}

/// Waits until a pod's containers have these resources by its status and by the kernel, and were restarted so often; gives the pod.
pub async fn until_resized(f: &Framework, name: &str, containers: &[(&str, &str)], restarts: u64) -> Value {
    let what = format!("to be resized to {containers:?}");
    let pod = f.until_it(&f.core(&format!("pods/{name}")), &what, POD, |pod| is_resized(pod, containers)).await;
    for (container, words) in containers {
        assert_eq!(container_status(&pod, container)["restartCount"], restarts, "{}", pod["status"]);
        in_the_kernel(f, name, container, words).await;
    }
    pod
}

fn milli(amount: &str) -> u64 {
    amount.strip_suffix('m').map_or_else(|| amount.parse::<u64>().expect("cores") * 1000, |m| m.parse().expect("thousandths"))
}

/// Asserts that a container's cgroup, as it sees it itself, has what the words say.
pub async fn in_the_kernel(f: &Framework, pod: &str, container: &str, words: &str) {
    let amounts = resources(words);
    let amount = |list: &str, name: &str| amounts[list][name].as_str();
    let mut wanted = vec![];
    let request = amount("requests", "cpu").or(amount("limits", "cpu")).map_or(0, milli);
    let shares = (request * 1024 / 1000).max(2);
    wanted.push(("shares", Some(shares.to_string()), Some((1 + (shares - 2) * 9999 / 262_142).to_string())));
    if let Some(limit) = amount("limits", "cpu") {
        let quota = (milli(limit) * 100).max(1000);
        wanted.push(("quota", Some(quota.to_string()), Some(format!("{quota} 100000"))));
    }
    if let Some(limit) = amount("limits", "memory") {
        let bytes = limit.strip_suffix("Mi").expect("in Mi").parse::<u64>().expect("a number") << 20;
        wanted.push(("memory", Some(bytes.to_string()), Some(bytes.to_string())));
    }
    let file = |what: &str| match what {
        "shares" => "cpu/cpu.shares cpu.weight",
        "quota" => "cpu/cpu.cfs_quota_us cpu.max",
        _ => "memory/memory.limit_in_bytes memory.max",
    };
    for (what, one, two) in wanted {
        let script = format!("cd /sys/fs/cgroup && for f in {}; do [ -f $f ] && exec cat $f; done; exit 1", file(what));
        let said = f.kubectl().run(&["exec", pod, "-c", container, "--", "sh", "-c", &script]).await.expect("kubectl");
        assert!(said.success, "{what} of {container}: {}{}", said.out, said.err);
        let found = Some(said.out.trim().to_owned());
        assert!(found == one || found == two, "{what} of {container}: {found:?}, wanted {one:?} or {two:?}");
    }
}
