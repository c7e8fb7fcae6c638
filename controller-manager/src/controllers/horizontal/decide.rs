//! What an autoscaler does about what its metrics measured: [`decide`] says to how many to scale, [`settle`] writes the status once
//! it is known how that went.

use std::str::FromStr as _;
use std::sync::Arc;

use api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
    ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::behavior::{self, Bounds, Memory};
use super::metrics::{Measured, Reading};
use super::pods::{self, Answer, Question, Samples, Target, Tolerance, Youth, ceil};
use crate::plan::{Action, Plan};
use crate::pod_state;

/// The percentage of the CPU request that is aimed at where nothing is said, as the apiserver's default has it.
const USUAL_PERCENT: i32 = 80;

/// The flags' part in it.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Within which distance of the target nothing is done.
    pub tolerance: f64,
    /// How long scaling down waits, where the object does not say.
    pub window: SignedDuration,
    /// How young pods are looked at.
    pub youth: Youth,
}

/// What is scaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// `spec.replicas`
    pub replicas: i32,
    /// `status.replicas`
    pub running: i32,
    /// `status.selector`
    pub selector: String,
}

/// What is decided by.
pub struct Observed<'a> {
    /// The autoscaler.
    pub hpa: &'a HorizontalPodAutoscaler,
    /// What it scales, or why that is not known.
    pub scale: Result<Scale, String>,
    /// The pods.
    pub pods: Vec<Arc<Pod>>,
    /// Other autoscalers of the same pods, by name.
    pub rivals: Vec<String>,
    /// What each of its metrics measured.
    pub readings: Vec<Reading>,
    /// The time.
    pub now: Timestamp,
}

/// What is decided.
#[derive(Debug)]
pub struct Decision {
    /// The number there is.
    pub current: i32,
    /// The number there shall be.
    pub desired: i32,
    /// Why, when that is another number.
    pub reason: String,
    /// Whether it is known how many there shall be; else the status keeps what it says.
    known: bool,
    status: HorizontalPodAutoscalerStatus,
    events: Vec<Action>,
}

impl Decision {
    /// Whether the number changes.
    #[must_use]
    pub fn scales(&self) -> bool {
        self.desired != self.current
    }
}

/// A metric's answer.
struct Proposal {
    replicas: i32,
    name: String,
    status: MetricStatus,
}

/// A metric without an answer: reason of condition and event, the error, and the error as the whole computation tells it.
struct Invalid {
    reason: &'static str,
    why: String,
    whole: String,
}

fn spec(hpa: &HorizontalPodAutoscaler) -> Option<&HorizontalPodAutoscalerSpec> {
    hpa.spec.as_ref()
}

/// Sets a condition; its transition time moves when its status does.
fn set(status: &mut HorizontalPodAutoscalerStatus, said: (&str, &str, &str, &str), now: Timestamp) {
    let (type_, value, reason, message) = said;
    let conditions = status.conditions.get_or_insert_default();
    let at = conditions.iter().position(|c| c.type_ == type_);
    let since = at.filter(|i| conditions[*i].status == value).and_then(|i| conditions[i].last_transition_time.clone());
    let new = HorizontalPodAutoscalerCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or(Some(Time(now))),
    };
    match at {
        Some(i) => conditions[i] = new,
        None => conditions.push(new),
    }
}

/// Says to how many to scale, and what is told about it. Remembers in `memory` what the metrics asked for.
#[must_use]
pub fn decide(seen: &Observed<'_>, settings: &Settings, memory: &mut Memory) -> Decision {
    let (hpa, now) = (seen.hpa, seen.now);
    let mut status = hpa.status.clone().unwrap_or_default();
    let mut events = Vec::new();
    status.observed_generation = hpa.metadata.generation;
    let scale = match &seen.scale {
        Ok(scale) => scale,
        Err(why) => {
            events.push(Action::warn(hpa, "FailedGetScale", why.clone()));
            let message = format!("the HPA controller was unable to get the target's current scale: {why}");
            set(&mut status, ("AbleToScale", "False", "FailedGetScale", &message), now);
            let current = status.current_replicas.unwrap_or(0);
            return Decision { current, desired: current, reason: String::new(), known: false, status, events };
        }
    };
    set(&mut status, ("AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale"), now);
    let current = scale.replicas;
    memory.begin(current, now);
    let (min, max) = (spec(hpa).and_then(|s| s.min_replicas).unwrap_or(1), spec(hpa).map_or(current, |s| s.max_replicas));
    let (mut desired, mut reason) = (current, String::new());
    if current == 0 && min != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        set(&mut status, ("ScalingActive", "False", "ScalingDisabled", message), now);
    } else if current > max {
        (desired, reason) = (max, "Current number of replicas above Spec.MaxReplicas".to_owned());
    } else if current < min {
        (desired, reason) = (min, "Current number of replicas below Spec.MinReplicas".to_owned());
    } else {
        let proposed = propose(seen, scale, settings, &mut status, &mut events);
        status.current_replicas = Some(current);
        if let Some((replicas, metric)) = proposed {
            let wanted = replicas;
            reason = match wanted.cmp(&current) {
                std::cmp::Ordering::Greater => format!("{metric} above target"),
                std::cmp::Ordering::Less => "All metrics below target".to_owned(),
                std::cmp::Ordering::Equal => String::new(),
            };
            let bounds = Bounds { min, max, current };
            let (followed, said) =
                behavior::follow(wanted, bounds, spec(hpa).and_then(|s| s.behavior.as_ref()), memory, settings.window, now);
            memory.recommend(wanted, now);
            said.into_iter().for_each(|s| set(&mut status, s, now));
            desired = followed;
        } else {
            return Decision { current, desired: current, reason, known: false, status, events };
        }
    }
    Decision { current, desired, reason, known: true, status, events }
}

/// The plan after the scaling was tried; `scaled` says how it went, if there was something to do.
#[must_use]
pub fn settle(hpa: &HorizontalPodAutoscaler, mut decision: Decision, scaled: Option<&Result<(), String>>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let size = decision.desired;
    match scaled {
        Some(Err(error)) => {
            let text = format!("New size: {size}; reason: {}; error: {error}", decision.reason);
            decision.events.push(Action::warn(hpa, "FailedRescale", text));
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            set(&mut decision.status, ("AbleToScale", "False", "FailedUpdateScale", &message), now);
        }
        Some(Ok(())) => {
            let text = format!("New size: {size}; reason: {}", decision.reason);
            decision.events.push(Action::tell(hpa, "SuccessfulRescale", text));
            let message = format!("the HPA controller was able to update the target scale to {size}");
            set(&mut decision.status, ("AbleToScale", "True", "SucceededRescale", &message), now);
            decision.status.last_scale_time = Some(Time(now));
        }
        None => {}
    }
    if decision.known {
        decision.status.current_replicas = Some(decision.current);
    }
    if decision.known && !scaled.is_some_and(Result::is_err) {
        decision.status.desired_replicas = size;
    }
    plan.actions.extend(decision.events);
    plan.update_status(hpa, &HorizontalPodAutoscaler { status: Some(decision.status), ..hpa.clone() });
    plan
}

/// The largest number that a metric asks for, and that metric's name; nothing when it is not known, and then the status says why.
fn propose(
    seen: &Observed<'_>,
    scale: &Scale,
    settings: &Settings,
    status: &mut HorizontalPodAutoscalerStatus,
    events: &mut Vec<Action>,
) -> Option<(i32, String)> {
    let (hpa, now) = (seen.hpa, seen.now);
    if scale.selector.is_empty() {
        // The event and the condition have different reasons upstream.
        events.push(Action::warn(hpa, "SelectorRequired", "selector is required".to_owned()));
        set(status, ("ScalingActive", "False", "InvalidSelector", "the HPA target's scale is missing a selector"), now);
        return None;
    }
    if !seen.rivals.is_empty() {
        let text = format!("pods by selector {} are controlled by multiple HPAs: {:?}", scale.selector, seen.rivals);
        set(status, ("ScalingActive", "False", "AmbiguousSelector", &text), now);
        events.push(Action::warn(hpa, "AmbiguousSelector", text));
        return None;
    }
    let specs = spec(hpa).and_then(|s| s.metrics.clone()).unwrap_or_default();
    let mut statuses = Vec::new();
    let (mut best, mut invalid): (Option<(i32, String)>, Vec<Invalid>) = (None, Vec::new());
    for (spec, reading) in specs.iter().zip(&seen.readings) {
        match judge(spec, reading, seen, scale, settings) {
            Ok(proposal) => {
                if best.as_ref().is_none_or(|(replicas, _)| proposal.replicas > *replicas) {
                    best = Some((proposal.replicas, proposal.name));
                }
                statuses.push(proposal.status);
            }
            Err(why) => {
                events.push(Action::warn(hpa, why.reason, why.why.clone()));
                statuses.push(MetricStatus::default());
                invalid.push(why);
            }
        }
    }
    status.current_metrics = Some(statuses).filter(|s| !s.is_empty());
    if let Some(first) = invalid.first() {
        let (bad, all) = (invalid.len(), specs.len());
        // What is known may make it more, but not less: the unknown ones may ask for more.
        if best.as_ref().is_none_or(|(replicas, _)| *replicas < scale.replicas) {
            let message = format!("the HPA was unable to compute the replica count: {}", first.why);
            set(status, ("ScalingActive", "False", first.reason, &message), now);
            let text = format!("invalid metrics ({bad} invalid out of {all}), first error is: {}", first.whole);
            events.push(Action::warn(hpa, "FailedComputeMetricsReplicas", text));
            return None;
        }
    }
    let name = best.as_ref().map(|(_, name)| name.as_str()).unwrap_or_default();
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    set(status, ("ScalingActive", "True", "ValidMetricFound", &message), now);
    best
}

fn milli(text: Option<&Text>) -> Option<i64> {
    Quantity::from_str(&text?.0).ok().map(|q| i64::try_from(q.milli_value()).unwrap_or(i64::MAX))
}

fn quantity(milli: i64) -> Text {
    Text(Quantity::from_milli(milli).to_string())
}

fn tolerance(hpa: &HorizontalPodAutoscaler, settings: &Settings) -> Tolerance {
    let behavior = spec(hpa).and_then(|s| s.behavior.as_ref());
    #[allow(clippy::cast_precision_loss)] // a small number
    let of = |text: Option<&Text>| milli(text).map_or(settings.tolerance, |m| m as f64 / 1000.0);
    Tolerance {
        down: of(behavior.and_then(|b| b.scale_down.as_ref()?.tolerance.as_ref())),
        up: of(behavior.and_then(|b| b.scale_up.as_ref()?.tolerance.as_ref())),
    }
}

/// What one metric asks for.
fn judge(spec: &MetricSpec, reading: &Reading, seen: &Observed<'_>, scale: &Scale, settings: &Settings) -> Result<Proposal, Invalid> {
    let ask = |samples: &Samples, resource: &str, container: Option<&str>, target: Target| {
        pods::answer(&Question {
            replicas: scale.replicas,
            pods: &seen.pods,
            samples,
            resource,
            container,
            target,
            tolerance: tolerance(seen.hpa, settings),
            youth: settings.youth,
            now: seen.now,
        })
    };
    let of_pods = |resource: &str, container: Option<&str>, target: Target| match reading {
        Err(why) => Err(why.clone()),
        Ok(Measured::Total(_)) => Err("the metric is none of pods".to_owned()),
        Ok(Measured::Pods(samples)) => ask(samples, resource, container, target),
    };
    match spec.type_.as_str() {
        "Resource" | "ContainerResource" => resource(spec, &of_pods),
        "Pods" => {
            let source = spec.pods.clone().unwrap_or_default();
            let invalid = |e: String| invalid("FailedGetPodsMetric", format!("failed to get pods metric value: {e}"), "");
            let wanted = milli(source.target.average_value.as_ref()).ok_or_else(|| invalid("no averageValue is given".to_owned()))?;
            let answer = of_pods("", None, Target::Average(wanted)).map_err(invalid)?;
            let current = MetricValueStatus { average_value: Some(quantity(answer.average)), ..MetricValueStatus::default() };
            let name = format!("pods metric {}", source.metric.name);
            let status = PodsMetricStatus { current, metric: source.metric };
            Ok(Proposal {
                replicas: answer.replicas,
                name,
                status: MetricStatus { type_: spec.type_.clone(), pods: Some(status), ..MetricStatus::default() },
            })
        }
        "Object" => {
            let source = spec.object.clone().unwrap_or_default();
            let invalid = |e: String| invalid("FailedGetObjectMetric", format!("failed to get object metric value: {e}"), "");
            let (replicas, current) = total(reading, &source.target, seen, scale, settings).map_err(invalid)?;
            let name = format!("{} metric {}", source.described_object.kind, source.metric.name);
            let status = ObjectMetricStatus { current, described_object: source.described_object, metric: source.metric };
            Ok(Proposal {
                replicas,
                name,
                status: MetricStatus { type_: spec.type_.clone(), object: Some(status), ..MetricStatus::default() },
            })
        }
        "External" => {
            let source = spec.external.clone().unwrap_or_default();
            let metric = source.metric.name.clone();
            let invalid = |e: String| invalid("FailedGetExternalMetric", format!("failed to get {metric} external metric: {e}"), "");
            let (replicas, current) = total(reading, &source.target, seen, scale, settings).map_err(invalid)?;
            let selector = source.metric.selector.as_ref().map(|s| crate::ownership::selector(s).to_string()).unwrap_or_default();
            let name = format!("external metric {metric}({selector})");
            let status = ExternalMetricStatus { current, metric: source.metric };
            Ok(Proposal {
                replicas,
                name,
                status: MetricStatus { type_: spec.type_.clone(), external: Some(status), ..MetricStatus::default() },
            })
        }
        other => Err(invalid("InvalidMetricSourceType", format!("unknown metric source type {other:?}"), "")),
    }
}

/// An error of a metric; `around` is what the whole computation says before it.
fn invalid(reason: &'static str, why: String, around: &str) -> Invalid {
    Invalid { reason, whole: format!("{around}{why}"), why }
}

type OfPods<'a> = dyn Fn(&str, Option<&str>, Target) -> Result<Answer, String> + 'a;

fn resource(spec: &MetricSpec, of_pods: &OfPods<'_>) -> Result<Proposal, Invalid> {
    let (name, container, target) = match (&spec.resource, &spec.container_resource) {
        (Some(source), _) => (source.name.as_str(), None, &source.target),
        (None, Some(source)) => (source.name.as_str(), Some(source.container.as_str()), &source.target),
        (None, None) => return Err(invalid("InvalidMetricSourceType", "the metric names no resource".to_owned(), "")),
    };
    let (reason, kind, around) = match container {
        None => ("FailedGetResourceMetric", "resource", format!("failed to get {name} resource metric value: ")),
        Some(_) => ("FailedGetContainerResourceMetric", "container resource", format!("failed to get {name} container metric value: ")),
    };
    let (wanted, what) = match milli(target.average_value.as_ref()) {
        Some(average) => (Target::Average(average), "usage"),
        None => (Target::Utilization(target.average_utilization.unwrap_or(USUAL_PERCENT)), "utilization"),
    };
    let answer = of_pods(name, container, wanted).map_err(|e| invalid(reason, format!("failed to get {name} {what}: {e}"), &around))?;
    let current = MetricValueStatus {
        average_utilization: answer.utilization,
        average_value: Some(quantity(answer.average)),
        ..MetricValueStatus::default()
    };
    let shown = match wanted {
        Target::Average(_) => format!("{name} {kind}"),
        Target::Utilization(_) => format!("{name} {kind} utilization (percentage of request)"),
    };
    let (mut status, name) = (MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() }, name.to_owned());
    match container {
        None => status.resource = Some(ResourceMetricStatus { current, name }),
        Some(container) => {
            status.container_resource = Some(ContainerResourceMetricStatus { container: container.to_owned(), current, name });
        }
    }
    Ok(Proposal { replicas: answer.replicas, name: shown, status })
}

/// What a number that is not the pods' own asks for: against a value, or against an average over the pods.
#[allow(clippy::cast_precision_loss)] // as upstream calculates
fn total(
    reading: &Reading,
    target: &MetricTarget,
    seen: &Observed<'_>,
    scale: &Scale,
    settings: &Settings,
) -> Result<(i32, MetricValueStatus), String> {
    let used = match reading {
        Err(why) => return Err(why.clone()),
        Ok(Measured::Pods(_)) => return Err("the metric is one of pods".to_owned()),
        Ok(Measured::Total(milli)) => *milli,
    };
    let tolerance = tolerance(seen.hpa, settings);
    if let Some(wanted) = milli(target.value.as_ref()) {
        let ratio = used as f64 / wanted as f64;
        let ready = seen.pods.iter().filter(|p| pod_state::phase(p) == "Running" && pod_state::is_ready(p)).count();
        let replicas = match scale.replicas {
            0 => ceil(ratio),
            current if tolerance.covers(ratio) => current,
            _ => ceil(ratio * ready as f64),
        };
        return Ok((replicas, MetricValueStatus { value: Some(quantity(used)), ..MetricValueStatus::default() }));
    }
    let wanted =
        milli(target.average_value.as_ref()).ok_or("invalid metric source: neither a value target nor an average value target was set")?;
    let running = scale.running;
    let ratio = used as f64 / (wanted as f64 * f64::from(running));
    let replicas = if running != 0 && tolerance.covers(ratio) { running } else { ceil(used as f64 / wanted as f64) };
    let average = if running == 0 { 0 } else { (used + i64::from(running) - 1) / i64::from(running) };
    Ok((replicas, MetricValueStatus { average_value: Some(quantity(average)), ..MetricValueStatus::default() }))
}
