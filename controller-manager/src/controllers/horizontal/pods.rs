//! How many replicas the pods' own numbers ask for (upstream's `ReplicaCalculator`).
//!
//! A pod that is not ready yet, or of which nothing is known, must not make the scaling go further than the known ones say: it
//! counts as idle when the answer would be more, and as fully used when it would be less.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;
use std::sync::Arc;

use api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::kind::Object as _;
use crate::pod_state;

/// What a pod's number was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: Timestamp,
    /// Over which time.
    pub window: SignedDuration,
    /// The number, in thousandths.
    pub milli: i64,
}

/// Numbers by pod.
pub type Samples = BTreeMap<String, Sample>;

/// Within which distance of the target nothing is done, to either side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// When there is too much.
    pub down: f64,
    /// When there is too little.
    pub up: f64,
}

impl Tolerance {
    /// Whether so many times the target is near enough.
    #[must_use]
    pub fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// How young pods are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Youth {
    /// Until this age, what a pod that is not ready uses of the CPU does not count.
    pub initialization: SignedDuration,
    /// A pod that became unready within this time after its start never was ready.
    pub readiness_delay: SignedDuration,
}

/// What is wanted of the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// So many percent of what they request.
    Utilization(i32),
    /// So much each, in thousandths.
    Average(i64),
}

/// What the calculation takes.
pub struct Question<'a> {
    /// How many there are now.
    pub replicas: i32,
    /// The pods.
    pub pods: &'a [Arc<Pod>],
    /// What is known of them.
    pub samples: &'a Samples,
    /// `cpu`, `memory`, or nothing for a metric of another kind.
    pub resource: &'a str,
    /// The only container that counts.
    pub container: Option<&'a str>,
    /// What is wanted.
    pub target: Target,
    /// How near is near enough.
    pub tolerance: Tolerance,
    /// How young pods are looked at.
    pub youth: Youth,
    /// The time.
    pub now: Timestamp,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How many there should be.
    pub replicas: i32,
    /// The percentage now, where that is what is wanted.
    pub utilization: Option<i32>,
    /// The average now, in thousandths.
    pub average: i64,
}

/// Pods by how far their numbers can be trusted.
#[derive(Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

/// Answers.
///
/// # Errors
/// Why there is no answer, in upstream's words.
pub fn answer(asked: &Question<'_>) -> Result<Answer, String> {
    if asked.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(asked);
    let mut known: BTreeMap<&str, i64> = asked.samples.iter().map(|(name, s)| (name.as_str(), s.milli)).collect();
    known.retain(|name, _| !groups.ignored.contains(*name) && !groups.unready.contains(*name));
    if known.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let requests = match asked.target {
        Target::Utilization(_) => requests(asked)?,
        Target::Average(_) => BTreeMap::new(),
    };
    let (ratio, utilization, average) = usage(asked, &known, &requests)?;
    let answer = |replicas| Ok(Answer { replicas, utilization, average });
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        return answer(if asked.tolerance.covers(ratio) { asked.replicas } else { ceil(ratio * count(groups.ready)) });
    }
    for name in &groups.missing {
        let guess = match asked.target {
            _ if ratio > 1.0 => 0,
            Target::Utilization(percent) => requests.get(name.as_str()).copied().unwrap_or(0) * i64::from(percent.max(100)) / 100,
            Target::Average(milli) => milli,
        };
        if ratio != 1.0 {
            known.insert(name, guess);
        }
    }
    if up_with_unready {
        known.extend(groups.unready.iter().map(|name| (name.as_str(), 0)));
    }
    let (corrected, ..) = usage(asked, &known, &requests)?;
    let turned = (ratio < 1.0 && corrected > 1.0) || (ratio > 1.0 && corrected < 1.0);
    if turned || asked.tolerance.covers(corrected) {
        return answer(asked.replicas);
    }
    let replicas = ceil(corrected * count(known.len()));
    let wrong_way = (corrected < 1.0 && replicas > asked.replicas) || (corrected > 1.0 && replicas < asked.replicas);
    answer(if wrong_way { asked.replicas } else { replicas })
}

#[allow(clippy::cast_precision_loss)] // a number of pods
fn count(pods: usize) -> f64 {
    pods as f64
}

/// Rounded up to a number of replicas; absurdly many are as many as there can be.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // saturates
pub fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

fn group(asked: &Question<'_>) -> Groups {
    let mut groups = Groups::default();
    for pod in asked.pods {
        let name = pod.name().to_owned();
        if pod.deleting() || pod_state::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pod_state::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else {
            match asked.samples.get(pod.name()) {
                None => drop(groups.missing.insert(name)),
                Some(sample) if asked.resource == "cpu" && !cpu_counts(pod, sample, asked) => drop(groups.unready.insert(name)),
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

/// Whether what the pod uses of the CPU says something about its load, and not about its start.
fn cpu_counts(pod: &Pod, sample: &Sample, asked: &Question<'_>) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let (Some(ready), Some(started)) = (pod_state::condition(pod, "Ready"), started) else { return false };
    let since = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |t| t.0);
    let after = |at: Timestamp, by: SignedDuration| at.saturating_add(by).unwrap_or(Timestamp::MAX);
    if after(started, asked.youth.initialization) > asked.now {
        ready.status != "False" && sample.at >= after(since, sample.window)
    } else {
        !(ready.status == "False" && after(started, asked.youth.readiness_delay) > since)
    }
}

/// What each pod requests, in thousandths.
fn requests(asked: &Question<'_>) -> Result<BTreeMap<String, i64>, String> {
    let mut all = BTreeMap::new();
    for pod in asked.pods {
        let Some(spec) = &pod.spec else { continue };
        let of = |list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
            let text = list?.get(asked.resource)?;
            Quantity::from_str(&text.0).ok().map(|q| i64::try_from(q.milli_value()).unwrap_or(i64::MAX))
        };
        let whole = of(spec.resources.as_ref().and_then(|r| r.requests.as_ref()));
        if let Some(whole) = whole.filter(|_| asked.container.is_none()) {
            all.insert(pod.name().to_owned(), whole);
            continue;
        }
        let lasting = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(lasting));
        let mut sum = 0_i64;
        for container in containers.filter(|c| asked.container.is_none_or(|name| name == c.name)) {
            let Some(request) = of(container.resources.as_ref().and_then(|r| r.requests.as_ref())) else {
                return Err(format!("missing request for {} in container {} of Pod {}", asked.resource, container.name, pod.name()));
            };
            sum = sum.saturating_add(request);
        }
        all.insert(pod.name().to_owned(), sum);
    }
    Ok(all)
}

/// How many times the target is used, the percentage, and the average.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // as upstream calculates
fn usage(asked: &Question<'_>, known: &BTreeMap<&str, i64>, requests: &BTreeMap<String, i64>) -> Result<(f64, Option<i32>, i64), String> {
    match asked.target {
        Target::Average(wanted) => {
            let average = known.values().map(|v| i128::from(*v)).sum::<i128>() / i128::try_from(known.len()).unwrap_or(1);
            let average = i64::try_from(average).unwrap_or(i64::MAX);
            Ok((average as f64 / wanted as f64, None, average))
        }
        Target::Utilization(wanted) => {
            let both: Vec<(i128, i128)> =
                known.iter().filter_map(|(name, used)| Some((i128::from(*used), i128::from(*requests.get(*name)?)))).collect();
            let (used, requested) = both.iter().fold((0, 0), |(a, b), (used, requested)| (a + used, b + requested));
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
            let average = i64::try_from(used / i128::try_from(both.len()).unwrap_or(1)).unwrap_or(i64::MAX);
            Ok((f64::from(percent) / f64::from(wanted), Some(percent), average))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A pod from `100m/1000m`: what it uses (or `?`), of what it requests; then words about its state.
    fn pod(index: usize, text: &str) -> (Arc<Pod>, Option<Sample>) {
        let mut words = text.split(' ');
        let (used, request) = words.next().and_then(|w| w.split_once('/')).expect("used/requested");
        let state: Vec<&str> = words.collect();
        let has = |word: &str| state.contains(&word);
        let ready =
            json!({"type": "Ready", "status": if has("unready") { "False" } else { "True" }, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let started = if has("young") { "2026-01-01T00:59:00Z" } else { "2026-01-01T00:00:00Z" };
        let requests = if request == "-" { Value::Null } else { json!({"cpu": request}) };
        let pod = json!({
            "metadata": {"name": format!("p{index}"), "deletionTimestamp": has("deleting").then_some("2026-01-01T00:00:00Z")},
            "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]},
            "status": {"phase": if has("pending") { "Pending" } else { "Running" }, "startTime": started, "conditions": [ready]}
        });
        let milli = (used != "?").then(|| i64::try_from(Quantity::from_str(used).expect("a quantity").milli_value()).expect("small"));
        let at = "2026-01-01T01:00:00Z".parse().expect("a time");
        let sample = milli.map(|milli| Sample { at, window: SignedDuration::from_secs(60), milli });
        (Arc::new(serde_json::from_value(pod).expect("a pod")), sample)
    }

    fn check(replicas: i32, target: Target, pods: &[&str]) -> String {
        let all: Vec<_> = pods.iter().enumerate().map(|(i, text)| pod(i, text)).collect();
        let samples = all.iter().filter_map(|(pod, sample)| Some((pod.name().to_owned(), (*sample)?))).collect();
        let pods: Vec<Arc<Pod>> = all.into_iter().map(|(pod, _)| pod).collect();
        let tolerance = Tolerance { down: 0.1, up: 0.1 };
        let youth = Youth { initialization: SignedDuration::from_mins(5), readiness_delay: SignedDuration::from_secs(30) };
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        let asked = Question { replicas, pods: &pods, samples: &samples, resource: "cpu", container: None, target, tolerance, youth, now };
        match answer(&asked) {
            Ok(a) => format!("{} at {}", a.replicas, a.utilization.map_or_else(|| format!("{}m", a.average), |u| format!("{u}%"))),
            Err(why) => why,
        }
    }

    #[test]
    fn as_many_as_the_load_asks_for() {
        let half = Target::Utilization(50);
        assert_eq!(check(2, half, &["500m/1", "500m/1"]), "2 at 50%");
        assert_eq!(check(2, half, &["540m/1", "540m/1"]), "2 at 54%", "within the tolerance");
        assert_eq!(check(2, half, &["900m/1", "700m/1"]), "4 at 80%");
        assert_eq!(check(4, half, &["100m/1", "100m/1", "100m/1", "100m/1"]), "1 at 10%");
        assert_eq!(check(2, Target::Average(200), &["300m/-", "500m/-"]), "4 at 400m");
    }

    #[test]
    fn unready_and_unknown_pods_slow_it_down() {
        let half = Target::Utilization(50);
        assert_eq!(check(2, half, &["900m/1", "?/1"]), "2 at 90%", "up, but the unknown one counts as idle");
        assert_eq!(check(3, half, &["100m/1", "100m/1", "?/1"]), "3 at 10%", "down, but the unknown one counts as busy");
        assert_eq!(check(4, half, &["1/1", "1/1", "1/1", "900m/1 pending"]), "6 at 100%");
        assert_eq!(check(2, half, &["900m/1", "900m/1 young unready"]), "2 at 90%");
        assert_eq!(check(2, half, &["500m/1", "900m/1 deleting"]), "2 at 50%");
    }

    #[test]
    fn says_why_not() {
        let half = Target::Utilization(50);
        assert_eq!(check(1, half, &[]), "no pods returned by selector while calculating replica count");
        assert_eq!(check(1, half, &["?/1"]), "did not receive metrics for targeted pods (pods might be unready)");
        assert_eq!(check(1, half, &["1/-"]), "missing request for cpu in container c of Pod p0");
        assert_eq!(check(1, half, &["1/0"]), "no metrics returned matched known pods");
    }
}
