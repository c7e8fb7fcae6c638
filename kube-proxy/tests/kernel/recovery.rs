//! Restarts, and other people's hands on the table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube_proxy::monitor;
use kube_proxy::sink::OwnSockets;
use kube_proxy::table::Table;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::world::{CLUSTER_IP, POD_A, POD_B, World, ask_tcp};

fn nft(w: &World, arguments: &str) {
    crate::world::run(&format!("ip netns exec {} nft {arguments}", w.namespaces.name("node")));
}

#[test]
fn a_restart_interrupts_nobody() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_A, POD_B]);
    w.sync();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let client = w.namespaces.spawn("client", move || {
        let mut asked = 0;
        while !stopped.load(Ordering::Relaxed) {
            let answer = ask_tcp(SocketAddr::from((CLUSTER_IP, 80)));
            assert!(answer.ends_with("10.244.0.1"), "question {asked} was answered {answer}");
            asked += 1;
        }
        asked
    });
    for _ in 0..20 {
        w.restart();
        assert!(w.sync().replaced);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(client.join().unwrap() > 0);
}

#[test]
fn damage_is_noticed_and_repaired() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_A]);
    for damage in [
        "flush ruleset",
        "delete table ip ferrite",
        "flush chain ip ferrite postrouting",
        "flush map ip ferrite endpoints",
        "delete element ip ferrite services { 10.96.0.5 . tcp . 80 }",
        "add rule ip ferrite prerouting drop",
    ] {
        w.sync();
        assert!(w.with_table(Table::audit), "nobody touched it");
        nft(&w, damage);
        assert!(!w.with_table(Table::audit), "not noticed: {damage}");
        assert!(w.sync().replaced);
        assert_eq!(w.tcp("client", CLUSTER_IP, 80), "a 10.244.0.1", "after {damage}");
    }
}

#[test]
fn only_other_peoples_changes_are_announced() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_A]);
    let own = OwnSockets::default();
    let (sender, mut touched) = mpsc::channel(1);
    let (opened, is_open) = std::sync::mpsc::channel();
    let stop = CancellationToken::new();
    let (listener_own, listener_stop) = (own.clone(), stop.clone());
    let listener = w.namespaces.spawn("node", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listening = monitor::rules(listener_own, sender, listener_stop).expect("a socket");
            opened.send(()).expect("the test waits");
            listening.await;
        });
    });
    is_open.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut announced = |within: Duration| runtime.block_on(async { tokio::time::timeout(within, touched.recv()).await.is_ok() });

    let ours = own.clone();
    let wanted = kube_proxy::compile::compile(&w.services, &w.node);
    w.set_endpoints(&[POD_A, POD_B]);
    let then = kube_proxy::compile::compile(&w.services, &w.node);
    w.set_endpoints(&[POD_B, POD_A]);
    let _table = w.namespaces.enter("node", move || {
        let mut table = Table::open(&ours).expect("netfilter");
        table.sync(wanted).expect("the kernel takes it");
        table.sync(then).expect("the kernel takes it");
        table
    });
    assert!(!announced(Duration::from_millis(300)), "our own changes are announced");
    nft(&w, "add table ip somebody");
    assert!(!announced(Duration::from_millis(300)), "other people's tables are announced");
    nft(&w, "flush chain ip ferrite postrouting");
    assert!(announced(Duration::from_secs(5)), "not announced");
    stop.cancel();
    listener.join().unwrap();
}

#[test]
fn cleanup_removes_what_is_ours_and_only_that() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_A]);
    w.sync();
    nft(&w, "add table ip somebody");
    let listed = w.namespaces.enter("node", || {
        let mut netfilter = kube_proxy::netlink::Netfilter::open().expect("netfilter");
        kube_proxy::encode::remove(&mut netfilter).expect("it is there");
        kube_proxy::encode::remove(&mut netfilter).expect("and need not be");
        let output = std::process::Command::new("nft").args(["list", "tables"]).output().expect("nft");
        String::from_utf8(output.stdout).expect("text")
    });
    assert_eq!(listed.trim(), "table ip somebody");
}
