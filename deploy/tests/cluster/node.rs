//! A node dies with everything on it: it is found out, its pods run elsewhere, and it is welcome back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::daemons::client;
use crate::tools::{SLOW, get, kubectl, pid_of, pods, rolled_out, run, signal, str, wait};

/// As [`crate::FLAGS`] has it.
const GRACE: Duration = Duration::from_secs(6);
/// Leases are renewed this often, so a node may have been silent for this long when it dies.
const RENEWAL: Duration = Duration::from_secs(1);

fn ready(node: &str) -> String {
    let found = get(&["node", node]);
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().find(|c| c["type"] == "Ready").map(|c| str(c, "/status").to_owned()).unwrap_or_default()
}

/// The supervisor is made to wait, so that it does not bring the node back at once.
struct Paused(String);

impl Paused {
    fn new() -> Self {
        let pid = run("pgrep", &["-o", "-f", "^/usr/local/lib/ferrite/ferrite supervise$"]).trim().to_owned();
        signal("-STOP", &pid);
        Self(pid)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

/// The third node is switched off, and on again.
pub fn may_die_and_come_back() {
    let nodes = get(&["nodes"]);
    let (host, lost) = (str(&nodes, "/items/0/metadata/name").to_owned(), str(&nodes, "/items/2/metadata/name").to_owned());
    let on_lost = |label: &str| pods(label).iter().filter(|p| str(p, "/spec/nodeName") == lost).count();
    assert!(on_lost("app=web") > 0, "there is something to lose");
    let switch = pid_of(&host, &format!("node-{lost}"));
    let paused = Paused::new();
    signal("-KILL", &switch);
    let died = Instant::now();
    wait("the node to be found out", SLOW, || {
        let is = ready(&lost);
        if is == "Unknown" { Ok(()) } else { Err(is) }
    });
    let after = died.elapsed();
    assert!(after >= GRACE.saturating_sub(RENEWAL * 2), "not before the grace period is over, but after {after:?}");
    assert!(after < GRACE + Duration::from_secs(10), "and soon after it, not after {after:?}");
    assert!(kubectl(&["get", "node", &lost]).contains(" NotReady "));
    wait("its pods elsewhere", SLOW, || match on_lost("app=web") {
        0 => Ok(()),
        left => Err(format!("{left} are still there")),
    });
    rolled_out("web");
    // What is left of the Service answers without fail.
    let at: std::net::SocketAddr = format!("{}:80", str(&get(&["service", "web"]), "/spec/clusterIP")).parse().expect("an address");
    let stop = AtomicBool::new(false);
    let (asked, failed) = std::thread::scope(|scope| {
        let client = scope.spawn(|| client(at, &stop));
        deploy::wait::until(Duration::from_secs(1), || false);
        stop.store(true, Ordering::Relaxed);
        client.join().expect("the client")
    });
    assert!(failed.is_empty(), "{} of {asked} requests failed: {failed:#?}", failed.len());

    drop(paused);
    wait("the node back", SLOW, || {
        let is = ready(&lost);
        if is == "True" { Ok(()) } else { Err(is) }
    });
    wait("no taint left, and nothing of what ran there", SLOW, || {
        let taints = get(&["node", &lost])["spec"]["taints"].clone();
        let all = get(&["pods", "-l", "app=web"]);
        let dying = all["items"].as_array().into_iter().flatten().filter(|p| !p["metadata"]["deletionTimestamp"].is_null()).count();
        if taints.is_null() && dying == 0 { Ok(()) } else { Err(format!("{taints}, {dying} pods are dying")) }
    });
    // It takes pods again.
    kubectl(&["scale", "deployment", "web", "--replicas=9"]);
    rolled_out("web");
    assert!(on_lost("app=web") > 0, "new pods run there");
    kubectl(&["scale", "deployment", "web", "--replicas=6"]);
    rolled_out("web");
}
