//! Pods that say who they are, Services in front of them, and somebody who asks.

use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Framework, POD, SOON};

/// The shell's part of a question: `ask HOST:PORT` prints the name of the pod that answered.
const ASK: &str = "ask() { timeout 3 wget -q -O- http://$1/hostname 2>/dev/null; }; ";

/// A container that serves its pod's name on a port.
pub fn server(name: &str, port: u16) -> Value {
    let script = format!("mkdir -p /www && hostname > /www/hostname && exec httpd -f -p {port} -h /www");
    json!({
        "name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
        "ports": [{"containerPort": port}],
    })
}

/// A pod of one such server.
pub fn server_pod(name: &str, labels: &Value, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [server("main", port)]},
    })
}

/// Makes `replicas` servers on port 9376 that the Service of this name selects, and waits until they run.
pub async fn servers(f: &Framework, name: &str, replicas: usize) -> Vec<String> {
    let labels = json!({"name": name});
    let mut rc = Framework::replication_controller(name, replicas, &labels);
    rc["spec"]["template"]["spec"]["containers"][0] = server("main", 9376);
    f.wire.post(&f.core("replicationcontrollers"), &rc).await.expect(201);
    let pods = f.until_pods(&format!("name={name}"), replicas).await;
    let mut names: Vec<String> = pods.iter().map(|p| p["metadata"]["name"].as_str().expect("a name").to_owned()).collect();
    for name in &names {
        f.until_ready(name).await;
    }
    names.sort();
    names
}

/// A Service in front of [`servers`] of the same name.
pub fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": kind, "selector": {"name": name}, "ports": [{"port": 80, "targetPort": 9376, "protocol": "TCP"}]},
    })
}

/// Makes a pod to run commands in, and waits for it.
pub async fn client(f: &Framework) -> &'static str {
    let mut pod = Framework::script("client", "exec sleep 3600");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    f.create_pod(&pod).await;
    f.until_ready("client").await;
    "client"
}

/// Runs a script in a pod; what it prints, whether it succeeds or not.
pub async fn shell(f: &Framework, pod: &str, script: &str) -> anyhow::Result<String> {
    let done = f.kubectl().run(&["exec", pod, "--", "sh", "-c", script]).await?;
    Ok(if done.success { done.out } else { format!("{}{}", done.out, done.err) })
}

/// Waits until something answers at each of these places, asked from the client.
pub async fn reachable(f: &Framework, places: &[String]) -> anyhow::Result<()> {
    let wait = format!(
        "{ASK}for at in {}; do n=0; until ask $at; do n=$((n+1)); [ $n -lt 60 ] || {{ echo $at never answered; exit 1; }}; sleep 0.5; done; done",
        places.join(" ")
    );
    let said = shell(f, "client", &wait).await?;
    anyhow::ensure!(said.lines().count() == places.len() && !said.contains("never answered"), "{said}");
    Ok(())
}

/// Waits until nothing answers there any more.
pub async fn unreachable(f: &Framework, place: &str) -> anyhow::Result<()> {
    let wait = format!("{ASK}n=0; while ask {place}; do n=$((n+1)); [ $n -lt 60 ] || exit 1; sleep 0.5; done >/dev/null; echo gone");
    let said = shell(f, "client", &wait).await?;
    anyhow::ensure!(said == "gone\n", "{place} still answers: {said}");
    Ok(())
}

/// Waits until sixteen questions in a row are answered by one pod, or by several.
pub async fn answered_by_one(f: &Framework, place: &str, one: bool) -> String {
    let script = format!("{ASK}i=0; while [ $i -lt 16 ]; do ask {place} || echo failed; i=$((i+1)); done | sort -u");
    f.until(&format!("{place} to be answered by {}", if one { "one pod" } else { "several pods" }), SOON, || async {
        let said = shell(f, "client", &script).await.ok()?;
        (!said.contains("failed") && (said.lines().count() == 1) == one && !said.is_empty()).then_some(said)
    })
    .await
}

/// The addresses of all nodes.
pub async fn node_addresses(f: &Framework) -> Vec<String> {
    let nodes = f.list("/api/v1/nodes").await;
    let addresses = nodes.iter().flat_map(|n| n["status"]["addresses"].as_array().into_iter().flatten());
    addresses.filter(|a| a["type"] == "InternalIP").filter_map(|a| a["address"].as_str().map(str::to_owned)).collect()
}

/// Where a Service answers: its name, its cluster IP, and its node port on each node when it has one.
pub async fn places(f: &Framework, service: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().expect("a text").to_owned();
    let mut places = vec![format!("{}:80", text(&service["metadata"]["name"])), format!("{}:80", text(&service["spec"]["clusterIP"]))];
    if let Some(port) = service["spec"]["ports"][0]["nodePort"].as_u64() {
        places.extend(node_addresses(f).await.iter().map(|a| format!("{a}:{port}")));
    }
    places
}

/// Waits until the Endpoints of a Service, and its slices, hold exactly these pods with these ports: `pod:port`, sorted.
pub async fn until_endpoints(f: &Framework, service: &str, wanted: &[(&str, u16)]) {
    let mut pods = vec![];
    for (name, port) in wanted {
        let pod = f.until_it(&f.core(&format!("pods/{name}")), "to have an address", POD, |p| p["status"]["podIP"].is_string()).await;
        pods.push(format!("{}:{port}", pod["status"]["podIP"].as_str().expect("an address")));
    }
    pods.sort();
    let path = f.core(&format!("endpoints/{service}"));
    let slices = f.group("discovery.k8s.io/v1", &format!("endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{service}"));
    let pairs = |addresses: Vec<&Value>, ports: &Value| -> Vec<String> {
        let ports: Vec<&Value> = ports.as_array().into_iter().flatten().collect();
        addresses.iter().flat_map(|a| ports.iter().map(move |p| format!("{}:{}", a.as_str().unwrap_or("?"), p["port"]))).collect()
    };
    f.until(&format!("endpoints of {service} to be {pods:?}"), POD, || async {
        let endpoints = f.wire.get(&path).await;
        let subsets = if endpoints.code == 200 { endpoints.json()["subsets"].clone() } else { Value::Null };
        let mut old: Vec<String> = vec![];
        for subset in subsets.as_array().into_iter().flatten() {
            old.extend(pairs(subset["addresses"].as_array().into_iter().flatten().map(|a| &a["ip"]).collect(), &subset["ports"]));
        }
        let mut new: Vec<String> = vec![];
        for slice in f.list(&slices).await {
            let ready = slice["endpoints"].as_array().into_iter().flatten().filter(|e| e["conditions"]["ready"] != false);
            new.extend(pairs(ready.map(|e| &e["addresses"][0]).collect(), &slice["ports"]));
        }
        old.sort();
        new.sort();
        (old == pods && new == pods).then_some(())
    })
    .await;
}
