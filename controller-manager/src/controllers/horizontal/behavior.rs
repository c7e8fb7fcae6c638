//! How fast an answer is followed: stabilisation windows, and policies about the change in a time.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// The longest time that windows and policies look back, by the API's validation.
const LONGEST: SignedDuration = SignedDuration::from_secs(3600);
/// Without a behavior: at most this many times as many at once, or so many if that is more.
const UP_FACTOR: i32 = 2;
const UP_LEAST: i32 = 4;
/// With a behavior that leaves policies out: all at once going down; doubling, or four more, in 15 s going up.
const PERIOD: i32 = 15;

/// What is remembered of one autoscaler.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What the metrics asked for, and when.
    recommendations: VecDeque<(Timestamp, i32)>,
    /// By how many it grew, and when.
    ups: VecDeque<(Timestamp, i32)>,
    /// By how many it shrank, and when.
    downs: VecDeque<(Timestamp, i32)>,
}

impl Memory {
    /// Remembers a number as asked for, if nothing is remembered yet: a controller that has just started does not scale down on what
    /// it sees first.
    pub fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, replicas));
        }
    }

    /// Remembers what the metrics ask for.
    pub fn recommend(&mut self, replicas: i32, now: Timestamp) {
        self.recommendations.push_back((now, replicas));
        forget(&mut self.recommendations, now);
    }

    /// Remembers that it was scaled.
    pub fn scaled(&mut self, from: i32, to: i32, now: Timestamp) {
        let events = if to > from { &mut self.ups } else { &mut self.downs };
        events.push_back((now, (to - from).abs()));
        forget(&mut self.ups, now);
        forget(&mut self.downs, now);
    }

    fn asked_since(&self, since: Timestamp) -> impl Iterator<Item = i32> {
        self.recommendations.iter().filter(move |(at, _)| *at > since).map(|(_, replicas)| *replicas)
    }
}

/// Drops what no window reaches any more. With a look every 15 s, some 240 entries remain.
fn forget(events: &mut VecDeque<(Timestamp, i32)>, now: Timestamp) {
    while events.front().is_some_and(|(at, _)| now.duration_since(*at) > LONGEST) {
        events.pop_front();
    }
}

/// Type, status, reason and message of a condition.
pub type Said = (&'static str, &'static str, &'static str, &'static str);

/// Between which numbers.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// `minReplicas`
    pub min: i32,
    /// `maxReplicas`
    pub max: i32,
    /// How many there are.
    pub current: i32,
}

const READY: Said = ("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Said = (
    "AbleToScale",
    "True",
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Said = (
    "AbleToScale",
    "True",
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const WITHIN: Said = ("ScalingLimited", "False", "DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Said = ("ScalingLimited", "True", "TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Said = ("ScalingLimited", "True", "TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Said =
    ("ScalingLimited", "True", "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Said =
    ("ScalingLimited", "True", "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

/// What of `desired` is done now, and what is said about it. `window` is how long a scaling down waits where the behavior does
/// not say.
#[must_use]
pub fn follow(
    desired: i32,
    bounds: Bounds,
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    memory: &Memory,
    window: SignedDuration,
    now: Timestamp,
) -> (i32, [Said; 2]) {
    let since = |window: SignedDuration| now.saturating_sub(window).unwrap_or(Timestamp::MIN);
    let Some(behavior) = behavior else {
        let stable = memory.asked_since(since(window)).chain([desired]).max().unwrap_or(desired);
        let able = if stable == desired { READY } else { DOWN_STABILIZED };
        let (limited, said) = within(stable, bounds);
        return (limited, [able, said]);
    };
    let own = |rules: Option<&HPAScalingRules>, other: SignedDuration| {
        let seconds = rules.and_then(|r| r.stabilization_window_seconds);
        seconds.map_or(other, |s| SignedDuration::from_secs(s.into()))
    };
    let (up, down) = (behavior.scale_up.as_ref(), behavior.scale_down.as_ref());
    let lowest = memory.asked_since(since(own(up, SignedDuration::ZERO))).chain([desired]).min().unwrap_or(desired);
    let highest = memory.asked_since(since(own(down, window))).chain([desired]).max().unwrap_or(desired);
    // As near to the present number as recent wishes allow.
    let stable = bounds.current.max(lowest).min(highest);
    let able = match stable {
        same if same == desired => READY,
        _ if desired >= bounds.current => UP_STABILIZED,
        _ => DOWN_STABILIZED,
    };
    let (limited, said) = at_rate(stable, bounds, up, down, memory, now);
    (limited, [able, said])
}

fn within(desired: i32, bounds: Bounds) -> (i32, Said) {
    let fastest = (bounds.current.saturating_mul(UP_FACTOR)).max(UP_LEAST);
    if desired < bounds.min {
        (bounds.min, TOO_FEW)
    } else if desired > bounds.max.min(fastest) {
        (bounds.max.min(fastest), if bounds.max > fastest { UP_LIMIT } else { TOO_MANY })
    } else {
        (desired, WITHIN)
    }
}

fn at_rate(
    desired: i32,
    bounds: Bounds,
    up: Option<&HPAScalingRules>,
    down: Option<&HPAScalingRules>,
    memory: &Memory,
    now: Timestamp,
) -> (i32, Said) {
    if desired > bounds.current {
        let fastest = up_limit(bounds.current, up, memory, now).max(bounds.current);
        let (most, said) = if bounds.max > fastest { (fastest, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
        if desired > most {
            return (most, said);
        }
    } else if desired < bounds.current {
        let fastest = down_limit(bounds.current, down, memory, now).min(bounds.current);
        let (least, said) = if bounds.min < fastest { (fastest, DOWN_LIMIT) } else { (bounds.min, TOO_FEW) };
        if desired < least {
            return (least, said);
        }
    }
    (desired, WITHIN)
}

fn policies(rules: Option<&HPAScalingRules>, usual: &[(&str, i32)]) -> Vec<HPAScalingPolicy> {
    let own = rules.and_then(|r| r.policies.clone()).filter(|p| !p.is_empty());
    let usual = usual.iter().map(|(type_, value)| HPAScalingPolicy { type_: (*type_).to_owned(), value: *value, period_seconds: PERIOD });
    own.unwrap_or_else(|| usual.collect())
}

fn selects(rules: Option<&HPAScalingRules>) -> &str {
    rules.and_then(|r| r.select_policy.as_deref()).unwrap_or("Max")
}

/// How many there were at the beginning of a policy's period.
fn at_start(current: i32, period: i32, memory: &Memory, now: Timestamp) -> i32 {
    let since = now.saturating_sub(SignedDuration::from_secs(period.into())).unwrap_or(Timestamp::MIN);
    let sum =
        |events: &VecDeque<(Timestamp, i32)>| events.iter().filter(|(at, _)| *at > since).map(|(_, n)| *n).fold(0, i32::saturating_add);
    current.saturating_sub(sum(&memory.ups)).saturating_add(sum(&memory.downs))
}

fn up_limit(current: i32, rules: Option<&HPAScalingRules>, memory: &Memory, now: Timestamp) -> i32 {
    let proposed = |policy: &HPAScalingPolicy| {
        let start = at_start(current, policy.period_seconds, memory, now);
        match policy.type_.as_str() {
            "Pods" => start.saturating_add(policy.value),
            _ => super::pods::ceil(f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)),
        }
    };
    let all = policies(rules, &[("Pods", 4), ("Percent", 100)]);
    let limit = match selects(rules) {
        "Disabled" => None,
        "Min" => all.iter().map(proposed).min(),
        _ => all.iter().map(proposed).max(),
    };
    limit.unwrap_or(current)
}

fn down_limit(current: i32, rules: Option<&HPAScalingRules>, memory: &Memory, now: Timestamp) -> i32 {
    #[allow(clippy::cast_possible_truncation)] // saturates; towards zero, as upstream rounds
    let proposed = |policy: &HPAScalingPolicy| {
        let start = at_start(current, policy.period_seconds, memory, now);
        match policy.type_.as_str() {
            "Pods" => start.saturating_sub(policy.value),
            _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    };
    let all = policies(rules, &[("Percent", 100)]);
    let limit = match selects(rules) {
        "Disabled" => None,
        "Min" => all.iter().map(proposed).max(),
        _ => all.iter().map(proposed).min(),
    };
    limit.unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + minute * 60).expect("a time")
    }

    const BOUNDS: Bounds = Bounds { min: 1, max: 100, current: 10 };

    fn check(desired: i32, bounds: Bounds, behavior: Value, memory: &Memory) -> String {
        let behavior: Option<HorizontalPodAutoscalerBehavior> = serde_json::from_value(behavior).expect("a behavior");
        let (replicas, said) = follow(desired, bounds, behavior.as_ref(), memory, SignedDuration::from_mins(5), at(60));
        format!("{replicas} {} {}", said[0].2, said[1].2)
    }

    #[test]
    fn without_a_behavior() {
        let mut memory = Memory::default();
        let plain = |desired, memory: &Memory| check(desired, BOUNDS, Value::Null, memory);
        assert_eq!(plain(12, &memory), "12 ReadyForNewScale DesiredWithinRange");
        assert_eq!(plain(50, &memory), "20 ReadyForNewScale ScaleUpLimit");
        assert_eq!(plain(0, &memory), "1 ReadyForNewScale TooFewReplicas");
        assert_eq!(check(50, Bounds { max: 15, ..BOUNDS }, Value::Null, &memory), "15 ReadyForNewScale TooManyReplicas");
        memory.recommend(9, at(50));
        memory.recommend(7, at(58));
        assert_eq!(plain(3, &memory), "7 ScaleDownStabilized DesiredWithinRange");
    }

    #[test]
    fn windows_of_a_behavior() {
        let mut memory = Memory::default();
        memory.recommend(5, at(57));
        memory.recommend(11, at(58));
        let behavior = json!({"scaleUp": {"stabilizationWindowSeconds": 600}, "scaleDown": {"stabilizationWindowSeconds": 0}});
        assert_eq!(check(20, BOUNDS, behavior.clone(), &memory), "10 ScaleUpStabilized DesiredWithinRange");
        assert_eq!(check(3, BOUNDS, behavior, &memory), "3 ReadyForNewScale DesiredWithinRange");
        assert_eq!(check(3, BOUNDS, json!({}), &memory), "10 ScaleDownStabilized DesiredWithinRange");
    }

    #[test]
    fn policies_of_a_behavior() {
        let mut memory = Memory::default();
        let up = |more: Value| json!({"scaleUp": more, "scaleDown": {"stabilizationWindowSeconds": 0}});
        let pods = |n: i32| json!({"type": "Pods", "value": n, "periodSeconds": 120});
        let percent = |n: i32| json!({"type": "Percent", "value": n, "periodSeconds": 120});
        assert_eq!(check(50, BOUNDS, up(json!({"policies": [pods(3), percent(50)]})), &memory), "15 ReadyForNewScale ScaleUpLimit");
        let least = json!({"policies": [pods(3), percent(50)], "selectPolicy": "Min"});
        assert_eq!(check(50, BOUNDS, up(least), &memory), "13 ReadyForNewScale ScaleUpLimit");
        assert_eq!(check(50, BOUNDS, up(json!({"selectPolicy": "Disabled"})), &memory), "10 ReadyForNewScale ScaleUpLimit");
        assert_eq!(check(50, BOUNDS, up(json!({})), &memory), "20 ReadyForNewScale ScaleUpLimit");
        // Two came in the last two minutes already.
        memory.scaled(8, 10, at(59));
        assert_eq!(check(50, BOUNDS, up(json!({"policies": [pods(3)]})), &memory), "11 ReadyForNewScale ScaleUpLimit");
        let down = |more: Value| json!({"scaleDown": more});
        let slow = json!({"stabilizationWindowSeconds": 0, "policies": [percent(10)]});
        assert_eq!(check(1, BOUNDS, down(slow), &Memory::default()), "9 ReadyForNewScale ScaleDownLimit");
    }

    #[test]
    fn memory_is_bounded_by_the_longest_window() {
        let mut memory = Memory::default();
        (0..10_000).for_each(|minute| memory.recommend(1, at(minute)));
        assert_eq!(memory.recommendations.len(), 61);
    }
}
