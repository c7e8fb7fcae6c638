//! Histories of pods whose volumes have a say in where they go.

use expect_test::expect;

use super::check;

/// A pod that uses the claim `x`.
fn with_claim(line: &str) -> String {
    format!(r#"{line} spec:{{"volumes": [{{"name": "x", "persistentVolumeClaim": {{"claimName": "x"}}}}]}}"#)
}

#[test]
fn a_pod_is_bound_when_its_claims_are() {
    check(
        &format!(
            "
        node a
        node b
        class later waits
        claim x class=later
        volume v on=b class=later
        {}
        step
        asked p ok
        claim x class=later volume=v
        claim x class=later volume=v bound
        bound p done",
            with_claim("pod p")
        ),
        expect![[r#"
            ask on b for p: v for x
            bind p to b
            say that p is on b
        "#]],
    );
}

#[test]
fn what_was_chosen_for_one_pod_nobody_else_gets() {
    check(
        &format!(
            "
        node b
        class later waits
        claim x class=later
        claim y class=later
        volume v on=b class=later
        {}
        {}
        step
        asked p sorry
        after 20
        step",
            with_claim("pod p"),
            with_claim("pod q").replace("\"x\"", "\"y\"")
        ),
        expect![[r#"
            ask on b for p: v for x
            q Unschedulable: 0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            p SchedulerError: running PreBind plugin "VolumeBinding": sorry
            ask on b for p: v for x
        "#]],
    );
}

#[test]
fn a_provisioner_that_is_slow_or_gives_up_costs_the_pod_its_node() {
    let start = format!(
        "
        node b
        class made waits provisioner=example.com/p
        claim x class=made
        {}
        step
        asked p ok
        claim x class=made selected=b",
        with_claim("pod p")
    );
    check(
        &format!("{start}\nafter 599\nafter 2\nlengths"),
        expect![[r#"
            ask on b for p: one made for x
            p SchedulerError: running PreBind plugin "VolumeBinding": binding volumes: timed out waiting for the condition
            active 0 backoff 1 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
        "#]],
    );
    check(
        &format!("{start}\ngone claim x\nlengths"),
        expect![[r#"
            ask on b for p: one made for x
            p SchedulerError: running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "x"
            active 0 backoff 1 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
        "#]],
    );
    check(
        &format!("{start}\ngone pod p\nafter 700\nlengths"),
        expect![[r#"
            ask on b for p: one made for x
            active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
        "#]],
    );
}

#[test]
fn a_pod_that_waits_for_its_claim_is_woken_by_it() {
    check(
        &format!(
            "
        node a
        claim x
        {}
        step
        after 60
        volume v claim=x
        claim x volume=v bound
        step",
            with_claim("pod p")
        ),
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            bind p to a
        "#]],
    );
}
