//! Histories of the scheduler, as text: what it is told, and what it does.

mod volumes;

use super::*;
use crate::plugins::PLUGINS;
use crate::pod::DEFAULT_SCHEDULER;
use crate::world::{self, at};
use expect_test::{Expect, expect};
use std::collections::HashSet;

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Bind { pod, node } => format!("bind {} to {node}", pod.name),
        Effect::AskForVolumes { pod, node, plan } => {
            let take = plan.take.iter().map(|(v, c)| format!(" {} for {}", v.name, c.key.1));
            let provision = plan.provision.iter().map(|c| format!(" one made for {}", c.key.1));
            format!("ask on {node} for {}:{}", pod.name, take.chain(provision).collect::<String>())
        }
        Effect::Scheduled { pod, node } => format!("say that {} is on {node}", pod.name),
        Effect::Explain { pod, reason, message, nominate } => {
            let nominate = match nominate {
                None => String::new(),
                Some(None) => " (not nominated any more)".to_owned(),
                Some(Some(node)) => format!(" (nominated to {node})"),
            };
            format!("{} {}: {message}{nominate}", pod.name, reason.as_str())
        }
        Effect::Withdraw(pod) => format!("{} is not nominated any more", pod.name),
        Effect::Evict { pod, plan } => {
            let victims: Vec<&str> = plan.victims.iter().map(|v| &*v.name).collect();
            format!("evict {} from {} for {}", victims.join(" "), plan.node, pod.name)
        }
    }
}

/// Plays a history, line by line: `node ..` and `pod ..` are seen, `gone pod p`, `gone node a`, `pods p q` (a complete list),
/// `step` (until nothing is ready), `volume ..`, `claim ..` and `class ..` are seen, `asked p ok|why`, `bound p done|gone|conflict|failed`, `evicted p ok|failed`, `after SECONDS`, `lengths`.
fn check(history: &str, expect: Expect) {
    let mut scheduler = Scheduler::new(DEFAULT_SCHEDULER, PLUGINS);
    let (mut now, mut out) = (at(0), String::new());
    for line in history.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut effects = Vec::new();
        let mut see = |scheduler: &mut Scheduler, o: Observation| effects.extend(scheduler.observe(o, now));
        match words[..] {
            ["node", name, ..] => see(&mut scheduler, Observation::Node(Change::Put(name.into(), world::node(line)))),
            ["pod", name, ..] => see(&mut scheduler, Observation::Pod(Change::Put(name.into(), world::pod(line)))),
            ["volume", name, ..] => see(&mut scheduler, Observation::Volume(Change::Put(name.to_owned(), world::volume(line)))),
            ["claim", ..] => {
                let claim = world::claim(line);
                see(&mut scheduler, Observation::Claim(Change::Put(claim.key.clone(), claim)));
            }
            ["class", ..] => {
                let (name, class) = world::class(line);
                see(&mut scheduler, Observation::Class(Change::Put(name, class)));
            }
            ["asked", name, how] => {
                let asked = if how == "ok" { Ok(()) } else { Err(how.to_owned()) };
                see(&mut scheduler, Observation::VolumesAsked(name.into(), asked));
            }
            ["gone", "claim", name] => {
                see(&mut scheduler, Observation::Claim(Change::Gone(("default".to_owned(), name.to_owned()))));
            }
            ["gone", "pod", name] => see(&mut scheduler, Observation::Pod(Change::Gone(name.into()))),
            ["gone", "node", name] => see(&mut scheduler, Observation::Node(Change::Gone(name.into()))),
            ["pods", ref names @ ..] => {
                let names: HashSet<Uid> = names.iter().map(|n| Uid::from(*n)).collect();
                see(&mut scheduler, Observation::Pod(Change::Listed(names)));
            }
            ["step"] => {
                while let Some((_, more)) = scheduler.step(0, now) {
                    effects.extend(more);
                }
            }
            ["bound", name, outcome] => {
                let outcome = match outcome {
                    "done" => Binding::Done,
                    "gone" => Binding::Gone,
                    "conflict" => Binding::Conflict,
                    why => Binding::Failed(why.to_owned()),
                };
                see(&mut scheduler, Observation::Bound(name.into(), outcome));
            }
            ["evicted", name, how] => see(&mut scheduler, Observation::Evicted { uid: name.into(), failed: how != "ok" }),
            ["after", seconds] => {
                now = at(now.as_second() + seconds.parse::<i64>().expect("seconds"));
                effects.extend(scheduler.advance(now));
            }
            ["lengths"] => {
                let l = scheduler.lengths();
                let (nodes, pods, assumed) = scheduler.sizes();
                out.push_str(&format!(
                    "active {} backoff {} unschedulable {} gated {}; {nodes} nodes, {pods} pods, {assumed} assumed\n",
                    l.active, l.backoff, l.unschedulable, l.gated
                ));
            }
            _ => panic!("what is {line:?}?"),
        }
        effects.iter().for_each(|e| out.push_str(&format!("{}\n", show(e))));
    }
    expect.assert_eq(&out);
}

#[test]
fn a_pod_is_bound_and_confirmed() {
    check(
        "
        node a cpu=1
        pod p cpu=1
        step
        lengths
        bound p done
        pod p on=a cpu=1
        lengths",
        expect![[r#"
            bind p to a
            active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 1 assumed
            say that p is on a
            active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
        "#]],
    );
}

#[test]
fn room_is_taken_from_the_moment_of_the_decision() {
    check(
        "
        node a cpu=1
        pod p cpu=1
        pod q cpu=1
        step",
        expect![[r#"
            bind p to a
            q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
        "#]],
    );
}

#[test]
fn the_important_go_first_then_who_waits_longer() {
    check(
        "
        pod p priority=1
        pod q priority=5
        pod r priority=1
        pod s priority=5
        node a
        step",
        expect![[r#"
            bind q to a
            bind s to a
            bind p to a
            bind r to a
        "#]],
    );
}

#[test]
fn without_nodes_pods_wait_for_one() {
    check(
        "
        pod p
        step
        after 1
        node a
        step",
        expect![[r#"
            p Unschedulable: no nodes available to schedule pods
            bind p to a
        "#]],
    );
}

#[test]
fn a_failed_binding_frees_the_room_and_is_tried_again_after_a_while() {
    check(
        "
        node a cpu=1
        pod p cpu=1
        step
        bound p denied
        lengths
        step
        after 1
        step",
        expect![[r#"
            bind p to a
            p SchedulerError: binding rejected: denied
            active 0 backoff 1 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
            bind p to a
        "#]],
    );
}

#[test]
fn a_pod_bound_or_deleted_meanwhile_is_no_error() {
    check(
        "
        node a
        pod p
        pod q
        pod r
        step
        bound p gone
        bound q conflict
        pod q on=a
        gone pod r
        bound r gone
        after 10
        step
        lengths",
        expect![[r#"
            bind p to a
            bind q to a
            bind r to a
            active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
        "#]],
    );
}

#[test]
fn the_watch_may_be_faster_than_the_answer() {
    check(
        "
        node a
        pod p
        step
        pod p on=a
        bound p done
        lengths",
        expect![[r#"
            bind p to a
            say that p is on a
            active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
        "#]],
    );
}

#[test]
fn only_what_could_cure_a_refusal_wakes_the_pod() {
    check(
        r#"
        node a cpu=1 label:x=1
        pod x on=a cpu=1
        pod p cpu=1
        pod q cpu=1 spec:{"nodeSelector": {"x": "2"}}
        step
        after 20
        node a cpu=1 label:x=1 label:y=1
        lengths
        node a cpu=1 label:x=2 label:y=1
        lengths
        step
        gone pod x
        lengths
        step"#,
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            q Unschedulable: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            active 0 backoff 0 unschedulable 2 gated 0; 1 nodes, 1 pods, 0 assumed
            active 1 backoff 0 unschedulable 1 gated 0; 1 nodes, 1 pods, 0 assumed
            q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            active 1 backoff 1 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
            bind p to a
            q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
        "#]],
    );
}

#[test]
fn a_resize_that_gives_room_back_wakes_the_pod_that_needs_it() {
    check(
        "
        node a cpu=2
        pod q on=a cpu=2
        pod p cpu=1
        step
        after 2
        pod q on=a cpu=3
        lengths
        pod q on=a cpu=1
        lengths
        step",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            active 0 backoff 0 unschedulable 1 gated 0; 1 nodes, 1 pods, 0 assumed
            active 1 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
            bind p to a
        "#]],
    );
}

#[test]
fn a_waiting_pod_that_is_resized_is_tried_again() {
    check(
        "
        node a cpu=2
        pod p cpu=3
        step
        after 2
        pod p cpu=1
        step",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            bind p to a
        "#]],
    );
}

#[test]
fn what_nothing_wakes_is_tried_again_after_five_minutes() {
    check(
        "
        node a cpu=1
        pod p cpu=2
        step
        after 299
        lengths
        after 1
        lengths",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            active 0 backoff 0 unschedulable 1 gated 0; 1 nodes, 0 pods, 0 assumed
            active 1 backoff 0 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
        "#]],
    );
}

#[test]
fn gated_pods_wait_for_their_gates() {
    check(
        "
        node a
        pod p gate=example.com/wait
        step
        lengths
        pod p
        step",
        expect![[r#"
            p SchedulingGated: Scheduling is blocked due to non-empty scheduling gates
            active 0 backoff 0 unschedulable 0 gated 1; 1 nodes, 0 pods, 0 assumed
            bind p to a
        "#]],
    );
}

#[test]
fn room_is_made_and_kept() {
    check(
        "
        node a cpu=1
        pod low on=a cpu=1
        pod p cpu=1 priority=5
        step
        pod p cpu=1 priority=5 nominated=a
        pod low on=a cpu=1 deleting preempted
        evicted p ok
        pod q cpu=1 priority=1
        gone pod low
        after 1
        step
        bound p done",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
            evict low from a for p
            bind p to a
            q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            say that p is on a
        "#]],
    );
}

#[test]
fn while_evictions_are_under_way_the_pod_is_not_tried() {
    check(
        "
        node a cpu=1
        pod low on=a cpu=1
        pod p cpu=1 priority=5
        step
        gone pod low
        after 5
        step
        lengths
        evicted p ok
        step",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
            evict low from a for p
            active 0 backoff 0 unschedulable 1 gated 0; 1 nodes, 0 pods, 0 assumed
            bind p to a
        "#]],
    );
}

#[test]
fn evictions_that_failed_are_tried_again() {
    check(
        "
        node a cpu=1
        pod low on=a cpu=1
        pod p cpu=1 priority=5
        step
        evicted p failed
        after 1
        step",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
            evict low from a for p
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
            evict low from a for p
        "#]],
    );
}

#[test]
fn a_more_important_pod_takes_over_the_room_that_is_made() {
    check(
        "
        node a cpu=1
        pod low on=a cpu=1
        pod p cpu=1 priority=5
        step
        evicted p ok
        pod low on=a cpu=1 deleting preempted
        pod vip cpu=1 priority=9
        step",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
            evict low from a for p
            p is not nominated any more
            vip Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
            evict low from a for vip
        "#]],
    );
}

#[test]
fn a_nomination_is_withdrawn_when_it_became_useless() {
    check(
        "
        node a cpu=1
        pod p cpu=2 priority=5 nominated=a
        step",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling. (not nominated any more)
        "#]],
    );
}

#[test]
fn pods_of_other_schedulers_and_finished_or_deleted_ones_are_left_alone() {
    check(
        "
        node a cpu=1
        pod p scheduler=mine
        pod q deleting
        pod r on=a cpu=1 phase=Succeeded
        pod s on=a cpu=1 phase=Running
        pod s on=a cpu=1 phase=Failed
        step
        lengths",
        expect![[r#"
            active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
        "#]],
    );
}

#[test]
fn after_a_new_list_what_is_missing_is_gone() {
    check(
        "
        node a
        pod p on=a
        pod q
        pod r on=a
        pods r
        step
        lengths",
        expect![[r#"
            active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
        "#]],
    );
}

#[test]
fn a_binding_that_is_never_confirmed_frees_the_room_in_the_end() {
    check(
        "
        node a cpu=1
        pod p cpu=1
        step
        bound p done
        pod q cpu=1
        step
        after 900
        lengths
        step",
        expect![[r#"
            bind p to a
            say that p is on a
            q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            active 1 backoff 0 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
            bind q to a
        "#]],
    );
}

#[test]
fn pods_of_a_node_that_left_count_again_when_it_returns() {
    check(
        "
        node a cpu=1
        pod x on=a cpu=1
        gone node a
        node a cpu=1
        pod p cpu=1
        step",
        expect![[r#"
            p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
        "#]],
    );
}

#[test]
fn a_spec_that_makes_no_sense_is_explained() {
    check(
        r#"
        node a
        pod p cpu=lots
        step"#,
        expect![[r#"
            p SchedulerError: quantity "lots" of cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
        "#]],
    );
}
