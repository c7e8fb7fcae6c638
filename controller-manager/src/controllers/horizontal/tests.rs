use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::SignedDuration;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::behavior::Memory;
use super::decide::{Observed, Scale, Settings, decide, settle};
use super::metrics::{Measured, Reading};
use super::pods::{Sample, Youth};
use crate::kind::{Key, Object as _};
use crate::world::World;

const MISSING: &str = "unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find \
                       the requested resource (get pods.metrics.k8s.io)";

/// An autoscaler, what it scales, and what its pods use of their `1` CPU.
struct Case {
    world: World,
    memory: Memory,
    replicas: i32,
    readings: Vec<Reading>,
    scale: Result<(), String>,
    write: Result<(), String>,
}

impl Case {
    fn new(replicas: i32, metrics: Value, readings: Vec<Reading>) -> Self {
        let mut world = World::new();
        world.add::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "h", "namespace": "default"},
            "spec": {"minReplicas": 1, "maxReplicas": 10, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                     "metrics": metrics},
            "status": {"desiredReplicas": 0}
        }));
        for i in 0..replicas {
            world.add::<Pod>(json!({
                "metadata": {"name": format!("p{i}"), "namespace": "default"},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
                "status": {"phase": "Running", "startTime": "2025-01-01T00:00:00Z",
                           "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:01Z"}]}
            }));
        }
        Self { world, memory: Memory::default(), replicas, readings, scale: Ok(()), write: Ok(()) }
    }

    /// One look, and what was done and said.
    fn look(&mut self) -> String {
        let key = Key::new("default", "h");
        let hpa = self.world.get::<HorizontalPodAutoscaler>(&key).expect("it");
        let youth = Youth { initialization: SignedDuration::from_mins(5), readiness_delay: SignedDuration::from_secs(30) };
        let settings = Settings { tolerance: 0.1, window: SignedDuration::from_mins(5), youth };
        let scale = Scale { replicas: self.replicas, running: self.replicas, selector: "a=b".to_owned() };
        let seen = Observed {
            hpa: &hpa,
            scale: self.scale.clone().map(|()| scale),
            pods: self.world.list::<Pod>().into_iter().map(Arc::new).collect(),
            rivals: vec![],
            readings: self.readings.clone(),
            now: self.world.now,
        };
        let decision = decide(&seen, &settings, &mut self.memory);
        let desired = decision.desired;
        let scaled = decision.scales().then(|| self.write.clone());
        if scaled == Some(Ok(())) {
            self.memory.scaled(self.replicas, desired, self.world.now);
            self.replicas = desired;
        }
        self.world.apply(settle(&hpa, decision, scaled.as_ref(), self.world.now));
        let hpa = self.world.get::<HorizontalPodAutoscaler>(&key).expect("it");
        let status = hpa.status.clone().unwrap_or_default();
        let mut out = format!("{} -> {}\n", status.current_replicas.unwrap_or(0), status.desired_replicas);
        for c in status.conditions.iter().flatten() {
            out +=
                &format!("{}={} {}: {}\n", c.type_, c.status, c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default());
        }
        assert_eq!(hpa.name(), "h");
        out + &self.world.told().lines().filter(|l| l.starts_with("event")).map(|l| format!("{l}\n")).collect::<String>()
    }
}

fn cpu() -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}])
}

fn used(milli: &[i64]) -> Reading {
    let sample = |milli: &i64| {
        let at = "2026-01-01T00:00:00Z".parse().expect("a time");
        Sample { at, window: SignedDuration::from_secs(30), milli: *milli }
    };
    Ok(Measured::Pods(milli.iter().enumerate().map(|(i, m)| (format!("p{i}"), sample(m))).collect()))
}

#[track_caller]
fn check(case: &mut Case, expected: Expect) {
    expected.assert_eq(&case.look());
}

#[test]
fn without_a_metrics_server_the_conditions_say_so() {
    let mut case = Case::new(2, cpu(), vec![Err(MISSING.to_owned())]);
    check(
        &mut case,
        expect![[r#"
            2 -> 0
            AbleToScale=True SucceededGetScale: the HPA controller was able to get the target's current scale
            ScalingActive=False FailedGetResourceMetric: the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
            event Warning FailedGetResourceMetric failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
            event Warning FailedComputeMetricsReplicas invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
        "#]],
    );
}

#[test]
fn scales_up_at_once_and_down_after_the_window() {
    let mut case = Case::new(2, cpu(), vec![used(&[900, 700])]);
    check(
        &mut case,
        expect![[r#"
            2 -> 4
            AbleToScale=True SucceededRescale: the HPA controller was able to update the target scale to 4
            ScalingActive=True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
            ScalingLimited=False DesiredWithinRange: the desired count is within the acceptable range
            event Normal SuccessfulRescale New size: 4; reason: cpu resource utilization (percentage of request) above target
        "#]],
    );
    case.readings = vec![used(&[100, 100])];
    case.world.pass(15);
    check(
        &mut case,
        expect![[r#"
            4 -> 4
            AbleToScale=True ScaleDownStabilized: recent recommendations were higher than current one, applying the highest recent recommendation
            ScalingActive=True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
            ScalingLimited=False DesiredWithinRange: the desired count is within the acceptable range
        "#]],
    );
    case.world.pass(301);
    let said = case.look();
    assert!(said.starts_with("4 -> 1\n") && said.contains("New size: 1; reason: All metrics below target"), "{said}");
}

#[test]
fn bounds_count_before_any_metric() {
    let mut case = Case::new(12, cpu(), vec![Err(MISSING.to_owned())]);
    assert!(case.look().contains("event Normal SuccessfulRescale New size: 10; reason: Current number of replicas above Spec.MaxReplicas"));
    let mut case = Case::new(0, cpu(), vec![]);
    assert!(case.look().contains("ScalingActive=False ScalingDisabled: scaling is disabled since the replica count of the target is zero"));
}

#[test]
fn a_metric_that_is_missing_lets_the_others_make_it_more_but_not_less() {
    let two = json!([
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
        {"type": "External", "external": {"metric": {"name": "jobs"}, "target": {"type": "AverageValue", "averageValue": "10"}}}
    ]);
    let mut case = Case::new(2, two.clone(), vec![Err(MISSING.to_owned()), Ok(Measured::Total(45_000))]);
    assert!(
        case.look().contains("New size: 4; reason: external metric jobs() above target"),
        "5 are asked for, 4 is the limit of the rate"
    );
    let mut case = Case::new(2, two, vec![Err(MISSING.to_owned()), Ok(Measured::Total(5_000))]);
    assert!(case.look().contains("invalid metrics (1 invalid out of 2)"));
    assert_eq!(case.replicas, 2);
}

#[test]
fn what_cannot_be_read_or_written_is_told() {
    let mut case = Case::new(2, cpu(), vec![used(&[900, 700])]);
    case.scale = Err("deployments.apps \"web\" not found".to_owned());
    check(
        &mut case,
        expect![[r#"
            0 -> 0
            AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: deployments.apps "web" not found
            event Warning FailedGetScale deployments.apps "web" not found
        "#]],
    );
    case.scale = Ok(());
    case.write = Err("no".to_owned());
    let said = case.look();
    assert!(said.contains("AbleToScale=False FailedUpdateScale: the HPA controller was unable to update the target scale: no"), "{said}");
    assert!(said.contains(
        "event Warning FailedRescale New size: 4; reason: cpu resource utilization (percentage of request) above target; error: no"
    ));
}
