//! A whole cluster on this machine, as root: `ferrite up` more than once, pods that die, daemons and a node killed, images pulled from a
//! registry, `ferrite down`, and the machine as it was before.
//!
//! One cluster serves every check, because bringing one up is what takes the time. The daemons must be built beside `ferrite`
//! (`cargo build --workspace --bins`); no other cluster may run. Start reading at [`lifetime`].

mod daemons;
mod images;
mod machine;
mod node;
mod pods;
mod tools;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use tools::{down, ferrite, up};

/// Short times where people have long ones: a node is given up after six seconds instead of forty, its pods after two instead of 300.
const FLAGS: &[&str] = &[
    "--daemon-flag=controller-manager:node-monitor-period=500ms",
    "--daemon-flag=controller-manager:node-monitor-grace-period=6s",
    "--daemon-flag=kubelet:node-lease-duration-seconds=4",
    "--daemon-flag=apiserver:default-not-ready-toleration-seconds=2",
    "--daemon-flag=apiserver:default-unreachable-toleration-seconds=2",
];

#[test]
fn a_cluster_comes_up_stays_up_and_leaves_no_trace() {
    assert!(!Path::new("/etc/ferrite/cluster.json").exists(), "a cluster runs on this machine: run deploy/down first");
    let before = machine::look();
    let outcome = catch_unwind(lifetime);
    down();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    for ((what, before), (_, after)) in before.into_iter().zip(machine::look()) {
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

    // Nodes are added to a running cluster, with a registry for them to pull from.
    let registry = images::Registry::start();
    up(&[&["--nodes", "3", "--registry-mirror", &registry.url()], FLAGS].concat());
    let mut failed = Vec::new();
    let mut check = |name: &'static str, check: &dyn Fn()| {
        let began = Instant::now();
        if catch_unwind(AssertUnwindSafe(check)).is_err() {
            failed.push(name);
        }
        eprintln!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    };
    check("pods spread over the nodes and reach each other", &pods::spread_and_reach_each_other);
    check("containers and pods that go come back", &pods::what_goes_comes_back);
    check("what is not ready gets no traffic within two seconds", &pods::unready_pods_get_no_traffic);
    check("images come through the mirror, or the pod says why not", &|| images::come_through_the_mirror(&registry));
    check("a private registry asks for credentials", &images::private_registry);
    check("secrets are encrypted in etcd", &daemons::secrets_are_encrypted);
    check("resizes outlive the kubelet", &daemons::resizes_outlive_the_kubelet);
    check("any daemon may die", &daemons::any_may_die);
    check("a node may die", &node::may_die_and_come_back);
    check("an example that cannot roll out fails the command", &pods::a_failed_example_fails_the_command);
    assert!(failed.is_empty(), "failed: {failed:#?}");
}
