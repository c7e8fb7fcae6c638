//! When the leader goes, the next one takes over; what happened between is made good.

use testkit::FlakyDoor;

use super::*;

const QUICK: [&str; 4] =
    ["--leader-elect=true", "--leader-elect-lease-duration=3", "--leader-elect-renew-deadline=2", "--leader-elect-retry-period=1"];

#[tokio::test(flavor = "multi_thread")]
async fn a_second_controller_manager_takes_over() {
    let mut cluster = Cluster::start_with(&QUICK, Some("n1")).await;
    cluster.deployment(1).await;
    let second = cluster.stop.child_token();
    cluster.controllers(&QUICK, second);
    // The first, all at once: nobody tells the second anything.
    let first = cluster._tasks.len() - 2;
    cluster._tasks.remove(first).abort();
    cluster.image("v2").await;
    cluster.rolled_out(1).await;
    cluster.counts(2, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apiserver_may_be_restarted_in_the_middle_of_things() {
    let mut cluster = Cluster::start().await;
    cluster.deployment(2).await;
    for image in ["v2", "v3", "v4"] {
        // Every watch is cut, and every write under way may or may not have been done.
        cluster.image(image).await;
        cluster.server.restart().await.expect("the apiserver comes back");
    }
    cluster.rolled_out(2).await;
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.expect("ReplicaSets").items;
    let running: Vec<i32> = sets.iter().filter_map(|rs| rs.spec.as_ref()?.replicas).filter(|n| *n > 0).collect();
    assert_eq!(running, [2]);
    assert_eq!(cluster.count::<Pod>().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_cut_watches_only_cost_time() {
    let mut cluster = Cluster::without_controllers(Some("n1")).await;
    let door = FlakyDoor::open(&cluster.server, "system:kube-controller-manager", 4, Duration::from_millis(1500)).await.expect("a door");
    let stop = cluster.stop.child_token();
    cluster.controllers_by(&door.kubeconfig, &["--leader-elect=false"], stop);
    cluster.deployment(4).await;
    for image in ["v2", "v3"] {
        cluster.image(image).await;
        cluster.rolled_out(4).await;
    }
    cluster.counts(3, 4).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.expect("the deletion");
    cluster.counts(0, 0).await;
    assert!(door.faults() > 20, "only {} requests failed", door.faults());
}
