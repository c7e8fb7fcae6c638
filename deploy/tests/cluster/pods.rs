//! Pods and their containers: where they run, whom they reach, and what happens when they die.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::tools::{SLOW, apply, get, kubectl, pods, rolled_out, run, str, text, try_up, wait};

/// A shell on every node, and a server in a few pods.
const WORLD: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: shell}
spec:
  selector: {matchLabels: {app: shell}}
  template:
    metadata: {labels: {app: shell}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: shell, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: nginx
        image: nginx:1.22
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"#;

fn node(pod: &Value) -> &str {
    str(pod, "/spec/nodeName")
}

fn name(pod: &Value) -> &str {
    str(pod, "/metadata/name")
}

/// Six pods are spread over the nodes, and from each node every one of them answers, by its address and behind the Service, by name.
pub fn spread_and_reach_each_other() {
    apply(WORLD);
    rolled_out("web");
    wait("a shell on each node", SLOW, || {
        let status = get(&["daemonset", "shell"])["status"].clone();
        if status["numberReady"] == 3 { Ok(()) } else { Err(status.to_string()) }
    });
    let web = pods("app=web");
    assert!(web.iter().map(node).collect::<BTreeSet<_>>().len() > 1, "six pods are on more than one of three nodes");
    let addresses: Vec<&str> = web.iter().map(|p| str(p, "/status/podIP")).collect();
    let ask = format!("for at in {} web web.default.svc.cluster.local; do wget -q -O - http://$at/ || exit 1; done", addresses.join(" "));
    for shell in pods("app=shell") {
        let answers = kubectl(&["exec", name(&shell), "--", "sh", "-c", &ask]);
        assert_eq!(answers.matches("<title>Welcome to nginx!").count(), 8, "from {}: {answers}", node(&shell));
    }
}

/// The process of the first container of a pod on this machine.
fn process(pod: &Value) -> String {
    let id = str(pod, "/status/containerStatuses/0/containerID").trim_start_matches("containerd://");
    let tasks = run("ctr", &["--address", "/run/ferrite/containerd/containerd.sock", "--namespace", "k8s.io", "tasks", "list"]);
    let row = tasks.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|r| r.first() == Some(&id));
    row.unwrap_or_else(|| panic!("no task {id} in\n{tasks}"))[1].to_owned()
}

/// Killed processes are started again, counted and with back-off; deleted pods are replaced; failing liveness restarts.
pub fn what_goes_comes_back() {
    let host = str(&get(&["nodes"]), "/items/0/metadata/name").to_owned();
    apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: mortal}}
spec:
  nodeName: {host}
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: a, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: unwell}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: a
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "trap 'exit 0' TERM; touch /tmp/well; while true; do sleep 0.1; done"]
    livenessProbe: {{exec: {{command: [test, -e, /tmp/well]}}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}}
"#
    ));
    let running = |pod: &str, restarts: u64| {
        let what = format!("{pod} with {restarts} restarts");
        wait(&what, SLOW, || {
            let found = get(&["pod", pod]);
            let status = &found["status"]["containerStatuses"][0];
            match status["restartCount"] == restarts && !status["state"]["running"].is_null() {
                true => Ok(found),
                false => Err(status.to_string()),
            }
        })
    };
    let first = running("mortal", 0);
    run("kill", &["-KILL", &process(&first)]);
    let second = running("mortal", 1);
    assert_eq!(second["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    run("kill", &["-KILL", &process(&second)]);
    wait("back-off after the second end", SLOW, || {
        let state = get(&["pod", "mortal"])["status"]["containerStatuses"][0].clone();
        let waiting = &state["state"]["waiting"];
        let words = str(waiting, "/message").starts_with("back-off 10s restarting failed container=a pod=mortal_default(");
        if waiting["reason"] == "CrashLoopBackOff" && words { Ok(()) } else { Err(state.to_string()) }
    });
    let table = kubectl(&["get", "pod", "mortal"]);
    assert!(table.contains("CrashLoopBackOff"), "{table}");

    running("unwell", 0);
    kubectl(&["exec", "unwell", "--", "rm", "/tmp/well"]);
    running("unwell", 1);
    let events = kubectl(&["get", "events", "--field-selector", "involvedObject.name=unwell"]);
    let said = |reason: &str, words: &str| events.lines().any(|l| l.contains(reason) && l.contains(words));
    assert!(
        said("Unhealthy", "Liveness probe failed") && said("Killing", "Container a failed liveness probe, will be restarted"),
        "{events}"
    );

    let web = pods("app=web");
    kubectl(&["delete", "pod", name(&web[0]), "--wait=false"]);
    wait("another pod instead", SLOW, || {
        let now = pods("app=web");
        let ready = now
            .iter()
            .filter(|p| !p["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] != "True"));
        let names: BTreeSet<&str> = ready.map(name).collect();
        if names.len() == 6 && !names.contains(name(&web[0])) { Ok(()) } else { Err(format!("{names:?}")) }
    });
    rolled_out("web");

    let mortal = wait("the end of the back-off", SLOW, || Ok::<_, String>(running("mortal", 2)));
    assert_eq!(str(&mortal, "/status/phase"), "Running");
    kubectl(&["delete", "pod", "mortal", "unwell", "--wait=false"]);
}

/// From the moment that the API says a pod is not ready, it is out of the endpoints and out of the kernel's map within two seconds.
pub fn unready_pods_get_no_traffic() {
    const WITHIN: Duration = Duration::from_secs(2);
    apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: moody}
spec:
  replicas: 2
  selector: {matchLabels: {app: moody}}
  template:
    metadata: {labels: {app: moody}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: a
        image: nginx:1.22
        command: [sh, -c, "touch /tmp/ready; exec nginx -g 'daemon off;'"]
        readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Service
metadata: {name: moody}
spec:
  selector: {app: moody}
  ports: [{port: 80}]
"#,
    );
    rolled_out("moody");
    let moody = pods("app=moody");
    let (pod, address) = (name(&moody[0]), str(&moody[0], "/status/podIP"));
    let in_map = || {
        let rules = run("nft", &["list", "table", "ip", "ferrite"]);
        rules.split(|c: char| !c.is_ascii_digit() && c != '.').any(|word| word == address)
    };
    wait("the pod in the map", SLOW, || in_map().then_some(()).ok_or_else(|| format!("{address} is not in the map")));
    kubectl(&["exec", pod, "--", "rm", "/tmp/ready"]);
    let ready =
        |pod: &Value| pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    wait("the pod not ready", SLOW, || if ready(&get(&["pod", pod])) { Err("ready".into()) } else { Ok(()) });
    wait("the map without the pod", WITHIN, || if in_map() { Err(format!("{address} is in the map")) } else { Ok(()) });
    let slices = get(&["endpointslices", "-l", "kubernetes.io/service-name=moody"]);
    let endpoints = slices["items"].as_array().into_iter().flatten().flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
    let unready: Vec<&Value> = endpoints.filter(|e| e["addresses"][0] == address).collect();
    assert!(!unready.is_empty() && unready.iter().all(|e| e["conditions"]["ready"] == false), "{slices}");
    assert!(!kubectl(&["get", "endpoints", "moody"]).contains(&format!("{address}:80")), "out of the endpoints");

    kubectl(&["exec", pod, "--", "touch", "/tmp/ready"]);
    wait("the pod in the map again", SLOW, || in_map().then_some(()).ok_or_else(|| format!("{address} is not in the map")));
    kubectl(&["delete", "deployment,service", "moody"]);
}

/// What the command promises is that nginx answers: when it cannot, the exit code says so, soon, and the words say why.
pub fn a_failed_example_fails_the_command() {
    kubectl(&[
        "patch",
        "deployment",
        "nginx",
        "-p",
        r#"{"spec": {"progressDeadlineSeconds": 2, "template": {"spec": {"containers": [{"name": "nginx", "image": "nginx:absent"}]}}}}"#,
    ]);
    let out = try_up(&[]);
    let (said, told) = (text(&out.stdout), text(&out.stderr));
    assert!(!out.status.success(), "{said}{told}");
    assert!(told.contains("step `example`") && told.contains("kubectl describe pods -l app=nginx"), "{told}");
    assert_eq!(said.lines().last(), Some("export KUBECONFIG=/etc/kubernetes/admin.conf"), "the cluster itself can be used");
    kubectl(&["rollout", "undo", "deployment", "nginx"]);
}
