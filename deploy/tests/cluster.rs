//! A whole cluster on this machine, as root: `ferrite up` twice, daemons killed, `ferrite down`, and the machine as it was before.
//!
//! The daemons must be built beside `ferrite` (`cargo build --workspace --bins`); no other cluster may run.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use deploy::wait::until;

/// Downloading packages and starting three nodes on a busy machine.
const SLOW: Duration = Duration::from_secs(60);

fn ferrite(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ferrite")).args(args).output().expect("ferrite starts")
}

fn up(args: &[&str]) -> (String, String) {
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/ferrite-images");
    let out = ferrite(&[&["up", "--cache-dir", cache], args].concat());
    let (said, told) = (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned());
    assert!(out.status.success(), "{said}{told}");
    assert_eq!(said.lines().last(), Some("export KUBECONFIG=/etc/kubernetes/admin.conf"), "the last line is for scripts");
    (said, told)
}

fn down() {
    let out = ferrite(&["down"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn kubectl(args: &[&str]) -> String {
    let out = Command::new("kubectl").args(["--kubeconfig", "/etc/kubernetes/admin.conf"]).args(args).output().expect("kubectl starts");
    assert!(out.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What `down` promises to leave as it was.
fn machine() -> Vec<(&'static str, BTreeSet<String>)> {
    let lines = |program: &str, args: &[&str]| -> BTreeSet<String> {
        let out = Command::new(program).args(args).output().expect("the program starts");
        // Comments of iptables-save tell the time.
        String::from_utf8_lossy(&out.stdout).lines().filter(|l| !l.starts_with('#')).map(|l| l.trim().to_owned()).collect()
    };
    // Beside the groups that this test itself runs in, those of other commands come and go.
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("the test's own cgroups");
    let parents = own.lines().filter_map(|l| l.rsplit(':').next()?.rsplit_once('/').map(|(parent, _)| parent));
    let neighbours: BTreeSet<String> = parents.filter(|p| !p.is_empty()).map(|p| format!("{p}/")).collect();
    let names = |text: BTreeSet<String>| text.iter().filter_map(|l| l.split_whitespace().nth(1).map(str::to_owned)).collect();
    vec![
        ("links", names(lines("ip", &["-o", "link"]))),
        ("addresses", lines("ip", &["-brief", "address"])),
        ("routes", lines("ip", &["route", "show", "table", "all"])),
        ("namespaces", lines("ip", &["netns"])),
        ("nftables", lines("nft", &["list", "ruleset"])),
        ("iptables", lines("iptables-save", &[])),
        ("mounts", lines("cat", &["/proc/mounts"])),
        ("cgroups", lines("find", &["/sys/fs/cgroup", "-type", "d"]).into_iter().filter(|c| !neighbours.iter().any(|n| c.contains(n))).collect()),
        ("sysctls", lines("sysctl", &["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"])),
        ("files", lines("find", &["/etc", "/var/lib", "/var/log", "/run", "/usr/local/lib", "-maxdepth", "1"])),
    ]
}

fn pid_of(daemon: &str) -> String {
    let status = String::from_utf8_lossy(&ferrite(&["status"]).stdout).into_owned();
    let row = status.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|r| r.get(1) == Some(&daemon));
    row.unwrap_or_else(|| panic!("{daemon} is not in\n{status}"))[2].to_owned()
}

#[test]
fn a_cluster_comes_up_stays_up_and_leaves_no_trace() {
    assert!(!Path::new("/etc/ferrite/cluster.json").exists(), "a cluster runs on this machine: run deploy/down first");
    let before = machine();
    let outcome = std::panic::catch_unwind(lifetime);
    down();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    for ((what, before), (_, after)) in before.into_iter().zip(machine()) {
        let (missing, left): (Vec<_>, Vec<_>) = (before.difference(&after).collect(), after.difference(&before).collect());
        assert!(missing.is_empty() && left.is_empty(), "{what}: missing {missing:#?}, left {left:#?}");
    }
    down();
}

fn lifetime() {
    let (answers, _) = up(&[]);
    assert_eq!(answers.matches("Welcome to nginx!").count(), 3, "by ClusterIP, by NodePort, and by name:\n{answers}");
    let (answers, steps) = up(&[]);
    assert_eq!(answers.matches("Welcome to nginx!").count(), 3, "{answers}");
    assert!(steps.contains("nothing was changed") && !steps.contains("done "), "a second time changes nothing:\n{steps}");
    assert!(ferrite(&["status"]).status.success());

    // Whoever is killed comes back, and no container notices.
    let containers = ["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}"];
    let running = kubectl(&containers);
    for daemon in ["etcd", "apiserver", "containerd", "kubelet", "kube-proxy", "scheduler", "controller-manager", "coredns-lite"] {
        let pid = pid_of(daemon);
        let killed = Command::new("kill").args(["-KILL", &pid]).status().expect("kill starts");
        assert!(killed.success(), "{daemon} runs");
        assert!(until(SLOW, || pid_of(daemon) != pid && ferrite(&["status"]).status.success()), "{daemon} comes back");
    }
    let (answers, _) = up(&[]);
    assert_eq!(answers.matches("Welcome to nginx!").count(), 3, "{answers}");
    assert_eq!(kubectl(&containers), running, "the same containers as before");

    // Nodes are added to a running cluster, and a pod there is reached from here.
    up(&["--nodes", "3"]);
    let ready = kubectl(&["get", "nodes", "--no-headers"]);
    assert_eq!(ready.matches(" Ready ").count(), 3, "{ready}");
}
