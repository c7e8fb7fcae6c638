//! Any daemon may be killed at any moment: it comes back, no container notices, Services answer meanwhile, nothing acknowledged is lost.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tools::{SLOW, apply, ferrite, get, kubectl, pid_of, pods, replace, run, signal, str, try_kubectl, up, wait};

/// A request and its answer, within this time.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// One request to nginx at `at`.
fn ask(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(std::io::Error::other(format!("answered {answer:?}"))) }
}

/// Asks until told to stop: how many requests there were, and those that failed.
pub fn client(at: SocketAddr, stop: &AtomicBool) -> (usize, Vec<String>) {
    let began = Instant::now();
    let (mut asked, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        if let Err(error) = ask(at) {
            failed.push(format!("after {:.2} s: {error}", began.elapsed().as_secs_f64()));
        }
        deploy::wait::until(PAUSE, || stop.load(Ordering::Relaxed));
    }
    (asked, failed)
}

/// Writes one ConfigMap after another until told to stop: the names of those that were acknowledged.
fn writer(stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("written-{number}");
        match try_kubectl(&["create", "configmap", &name, "--from-literal=number=1"]) {
            Ok(_) => acknowledged.push(name),
            // It may have been stored though nobody could say so; that is not what is counted.
            Err(_) => {
                deploy::wait::until(PAUSE, || stop.load(Ordering::Relaxed));
            }
        }
    }
    acknowledged
}

/// Every daemon of this machine and of another node, and the supervisor.
pub fn any_may_die() {
    let nodes = get(&["nodes"]);
    let (host, other) = (str(&nodes, "/items/0/metadata/name").to_owned(), str(&nodes, "/items/1/metadata/name").to_owned());
    let service = str(&get(&["service", "web"]), "/spec/clusterIP").to_owned();
    let at: SocketAddr = format!("{service}:80").parse().expect("an address");
    let containers = || {
        let named = |p: &Value| {
            let container = str(p, "/status/containerStatuses/0/containerID");
            format!("{} on {}: {container}", str(p, "/metadata/name"), str(p, "/spec/nodeName"))
        };
        ["app=web", "app=shell", "app=nginx"].into_iter().flat_map(pods).map(|p| named(&p)).collect::<BTreeSet<String>>()
    };
    let before = containers();
    let stop = AtomicBool::new(false);
    let (traffic, written) = std::thread::scope(|scope| {
        let client = scope.spawn(|| client(at, &stop));
        let writer = scope.spawn(|| writer(&stop));
        let kills = std::panic::catch_unwind(|| {
            let of_host = ["etcd", "apiserver", "containerd", "kubelet", "kube-proxy", "scheduler", "controller-manager", "coredns-lite"];
            let of_other = ["containerd", "kubelet", "kube-proxy", "coredns-lite"];
            let all = of_host.map(|d| (host.as_str(), d)).into_iter().chain(of_other.map(|d| (other.as_str(), d)));
            for (node, daemon) in all {
                let pid = pid_of(node, daemon);
                signal("-KILL", &pid);
                wait(&format!("{daemon} on {node}"), SLOW, || {
                    let running = ferrite(&["status"]).status.success() && pid_of(node, daemon) != pid;
                    if running { Ok(()) } else { Err("not back".into()) }
                });
            }
            // Without the supervisor everything goes on; the next one takes over what runs.
            let daemons = || ["etcd", "kubelet"].map(|d| pid_of(&host, d));
            let running = daemons();
            let supervisor = run("pgrep", &["-o", "-f", "^/usr/local/lib/ferrite/ferrite supervise$"]);
            signal("-KILL", supervisor.trim());
            up(&[]);
            assert_eq!(daemons(), running, "what ran goes on");
        });
        stop.store(true, Ordering::Relaxed);
        let ended = (client.join().expect("the client"), writer.join().expect("the writer"));
        if let Err(panic) = kills {
            std::panic::resume_unwind(panic);
        }
        ended
    });
    let (asked, failed) = traffic;
    assert!(failed.is_empty() && asked > 50, "{} of {asked} requests failed: {failed:#?}", failed.len());
    let stored = kubectl(&["get", "configmaps", "-o", "name"]);
    let lost: Vec<&String> = written.iter().filter(|name| !stored.lines().any(|l| l == format!("configmap/{name}"))).collect();
    assert!(lost.is_empty() && written.len() > 10, "of {} acknowledged writes these are lost: {lost:?}", written.len());
    eprintln!("{asked} requests and {} writes while daemons died", written.len());
    let after = containers();
    let (gone, new): (Vec<_>, Vec<_>) = (before.difference(&after).collect(), after.difference(&before).collect());
    assert!(gone.is_empty() && new.is_empty(), "gone {gone:#?}, new {new:#?}\n{}", kubectl(&["get", "events", "--sort-by=.lastTimestamp"]));
    kubectl(&["delete", "configmaps", "--field-selector", "metadata.name!=kube-root-ca.crt", "--wait=false"]);
}

/// What a node has allocated to a pod stays when its kubelet dies, and what waits for room goes on waiting.
pub fn resizes_outlive_the_kubelet() {
    let host = str(&get(&["nodes"]), "/items/0/metadata/name").to_owned();
    let cores: u64 = str(&get(&["node", &host]), "/status/allocatable/cpu").parse().expect("whole cores");
    let pod = |name: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {host}}}
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: a, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000000"], resources: {{requests: {{cpu: {}m}}}}}}
---"#,
            cores * 400
        )
    };
    apply(&["waits", "shrinks"].map(pod).concat());
    let resize = |pod: &str, milli: u64| {
        let mut changed = get(&["pod", pod]);
        changed["spec"]["containers"][0]["resources"]["requests"]["cpu"] = format!("{milli}m").into();
        changed["metadata"]["resourceVersion"] = Value::Null;
        replace(&format!("/api/v1/namespaces/default/pods/{pod}/resize"), &changed);
    };
    let milli = |amount: &Value| match amount.as_str().unwrap_or_default() {
        text if text.ends_with('m') => text.trim_end_matches('m').parse().unwrap_or(0),
        text => text.parse::<u64>().unwrap_or(0) * 1000,
    };
    let has = |pod: &str, wanted: u64, waits: bool| {
        wait(&format!("{pod} to have {wanted}m"), SLOW, || {
            let found = get(&["pod", pod]);
            let status = &found["status"]["containerStatuses"][0];
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let deferred = conditions.iter().any(|c| c["type"] == "PodResizePending" && c["reason"] == "Deferred");
            let right = milli(&status["resources"]["requests"]["cpu"]) == wanted && deferred == waits;
            if right { Ok(str(status, "/containerID").to_owned()) } else { Err(found["status"].to_string()) }
        })
    };
    has("waits", cores * 400, false);
    has("shrinks", cores * 400, false);
    resize("waits", cores * 700);
    let container = has("waits", cores * 400, true);
    let pid = pid_of(&host, "kubelet");
    signal("-KILL", &pid);
    wait("the next kubelet", SLOW, || {
        let back = ferrite(&["status"]).status.success() && pid_of(&host, "kubelet") != pid;
        if back { Ok(()) } else { Err("not back".into()) }
    });
    assert_eq!(has("waits", cores * 400, true), container, "it goes on with what it had");
    resize("shrinks", cores * 200);
    has("shrinks", cores * 200, false);
    assert_eq!(has("waits", cores * 700, false), container, "it was resized where it runs");
    kubectl(&["delete", "pod", "waits", "shrinks", "--wait=false"]);
}

/// What is in etcd's files is not what is in the Secret; the key is kept, and for root alone.
pub fn secrets_are_encrypted() {
    const CLEAR: &str = "correct-horse-battery-staple";
    let stored =
        |text: &str| Command::new("grep").args(["-r", "-q", "-a", text, "/var/lib/ferrite/etcd"]).status().expect("grep starts").success();
    kubectl(&["create", "configmap", "clear", &format!("--from-literal=word={CLEAR}-map")]);
    kubectl(&["create", "secret", "generic", "sealed", &format!("--from-literal=word={CLEAR}-secret")]);
    assert_eq!(str(&get(&["secret", "sealed"]), "/data/word"), "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZS1zZWNyZXQ=");
    assert!(stored(&format!("{CLEAR}-map")), "ConfigMaps are stored as they are");
    for text in [format!("{CLEAR}-secret"), "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZS1zZWNyZXQ=".into()] {
        assert!(!stored(&text), "{text} is in etcd's files");
    }
    let key = std::fs::metadata("/etc/kubernetes/pki/encryption.yaml").expect("the key");
    assert_eq!(key.permissions().mode() & 0o7777, 0o600);
    kubectl(&["delete", "configmap/clear", "secret/sealed"]);
}
