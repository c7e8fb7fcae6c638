//! The arithmetic of the strategies: how many pods of which ReplicaSet.
//!
//! Never more than `replicas + maxSurge` pods are asked for, and old pods go only while `replicas - maxUnavailable` are available.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::{DESIRED, MAX, by_creation, note_size, revision};
use super::{Wanted, size};
use crate::kind::Object as _;
use crate::pod_state;

/// A rollout in the making: the ReplicaSets, oldest first, whose wanted sizes the methods change.
pub struct Step<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) all: &'a mut Vec<Wanted>,
    /// Which of them has the Deployment's template.
    pub(super) new: Option<usize>,
}

/// Whether all old pods go before the first new one comes.
pub fn is_recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

/// A number, or a share of `total` in percent, rounded up or down. What is neither counts as none.
pub fn resolve(value: Option<&IntOrString>, default: &str, total: i32, up: bool) -> i32 {
    let percent = |text: &str| {
        let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
        let hundredths = i64::from(total) * percent;
        i32::try_from(if up { (hundredths + 99).div_euclid(100) } else { hundredths.div_euclid(100) }).ok()
    };
    match value {
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => percent(text).unwrap_or(0),
        None => percent(default).unwrap_or(0),
    }
}

impl Step<'_> {
    pub(super) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// `maxSurge` and `maxUnavailable` as numbers; they are never both zero (`ResolveFenceposts`).
    fn fenceposts(&self) -> (i32, i32) {
        if is_recreate(self.spec) {
            return (0, 0);
        }
        let rolling = self.spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), "25%", self.replicas(), true);
        let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), "25%", self.replicas(), false);
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    pub(super) fn max_surge(&self) -> i32 {
        self.fenceposts().0
    }

    pub(super) fn max_unavailable(&self) -> i32 {
        self.fenceposts().1.min(self.replicas())
    }

    pub(super) fn old(&self) -> impl Iterator<Item = &Wanted> {
        let new = self.new;
        self.all.iter().enumerate().filter(move |(i, _)| Some(*i) != new).map(|(_, rs)| rs)
    }

    pub(super) fn max_old_revision(&self) -> i64 {
        self.old().map(|rs| revision(rs.seen.as_ref())).max().unwrap_or(0)
    }

    fn asked_for(&self) -> i32 {
        self.all.iter().map(Wanted::size).sum()
    }

    /// Sizes a ReplicaSet, and notes for what size of the Deployment. Whether its size changes.
    pub(super) fn resize(&mut self, index: usize, to: i32) -> bool {
        let (desired, max) = (self.replicas(), self.replicas() + self.max_surge());
        let rs = &mut self.all[index];
        let changes = rs.size() != to;
        if let Some(spec) = &mut rs.want.spec {
            spec.replicas = Some(to);
        }
        note_size(&mut rs.want, desired, max);
        changes
    }

    /// Whether the Deployment was resized since its active ReplicaSets were sized.
    pub(super) fn was_resized(&self) -> bool {
        let sized_for = |rs: &Wanted| rs.seen.annotation(DESIRED).and_then(|d| d.parse::<i32>().ok());
        self.all.iter().filter(|rs| size(&rs.seen) > 0).filter_map(sized_for).any(|desired| desired != self.replicas())
    }

    /// The size the new ReplicaSet may have, when it has `now`.
    pub(super) fn size_of_new(&self, now: i32) -> i32 {
        if is_recreate(self.spec) {
            return self.replicas();
        }
        let room = self.replicas() + self.max_surge() - self.asked_for();
        if room <= 0 { now } else { now + room.min(self.replicas() - now) }
    }

    /// Brings the new ReplicaSet nearer to the number wanted. Whether anything changes.
    pub(super) fn scale_up_new(&mut self, new: usize) -> bool {
        let now = self.all[new].size();
        if now == self.replicas() {
            return false;
        }
        let to = if now > self.replicas() { self.replicas() } else { self.size_of_new(now) };
        to != now && self.resize(new, to)
    }

    /// Takes away old pods: first those that are not available anyway, then as many as availability allows.
    pub(super) fn scale_down_old(&mut self, new: usize) {
        if self.old().map(Wanted::size).sum::<i32>() == 0 {
            return;
        }
        let min_available = self.replicas() - self.max_unavailable();
        let new_unavailable = self.all[new].size() - self.all[new].available();
        let mut most = self.asked_for() - min_available - new_unavailable;
        if most <= 0 {
            return;
        }
        for index in (0..self.all.len()).filter(|i| *i != new) {
            let rs = &self.all[index];
            let unhealthy = (rs.size() - rs.available()).clamp(0, most.max(0));
            if rs.size() > 0 && unhealthy > 0 {
                let to = rs.size() - unhealthy;
                most -= unhealthy;
                self.resize(index, to);
            }
        }
        let available: i32 = self.all.iter().map(Wanted::available).sum();
        let mut spare = available - min_available;
        for index in (0..self.all.len()).filter(|i| *i != new) {
            let now = self.all[index].size();
            let fewer = now.min(spare);
            if fewer > 0 {
                spare -= fewer;
                self.resize(index, now - fewer);
            }
        }
    }

    /// Whether anything changes.
    pub(super) fn scale_old_to_zero(&mut self) -> bool {
        let old: Vec<usize> = (0..self.all.len()).filter(|i| Some(*i) != self.new && self.all[*i].size() > 0).collect();
        old.into_iter().fold(false, |any, index| self.resize(index, 0) | any)
    }

    /// Whether a pod of an old ReplicaSet still runs.
    pub(super) fn old_pods_run(&self, pods: &[Arc<Pod>]) -> bool {
        let new = self.new.map(|i| self.all[i].seen.uid());
        let owner = |pod: &Pod| crate::ownership::controller_of(&pod.metadata).map(|o| o.uid.clone());
        pods.iter().any(|p| !pod_state::is_terminal(p) && owner(p).is_some_and(|uid| Some(uid.as_str()) != new))
    }

    /// Follows a change of `replicas`: one active ReplicaSet takes all of it; a finished rollout leaves nothing old; in the
    /// middle of a rolling update every active ReplicaSet gets its share.
    pub(super) fn scale(&mut self) {
        let active: Vec<usize> = (0..self.all.len()).filter(|i| self.all[*i].size() > 0).collect();
        let only = match active.as_slice() {
            [] => self.new.or_else(|| self.all.len().checked_sub(1)),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(only) = only {
            if self.all[only].size() != self.replicas() {
                self.resize(only, self.replicas());
            }
        } else if self.new.is_some_and(|new| self.is_saturated(new)) {
            self.scale_old_to_zero();
        } else if !active.is_empty() && !is_recreate(self.spec) {
            self.scale_in_proportion(active);
        }
    }

    fn is_saturated(&self, new: usize) -> bool {
        let rs = &self.all[new];
        let desired = rs.seen.annotation(DESIRED).and_then(|d| d.parse::<i32>().ok());
        desired == Some(self.replicas()) && rs.size() == self.replicas() && rs.available() == self.replicas()
    }

    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        let allowed = if self.replicas() > 0 { self.replicas() + self.max_surge() } else { 0 };
        let to_add = allowed - active.iter().map(|i| self.all[*i].size()).sum::<i32>();
        // The largest first; of equal ones the newer when growing, the older when shrinking.
        active.sort_by(|a, b| {
            let (a, b) = (&self.all[*a], &self.all[*b]);
            let age = by_creation(&a.seen, &b.seen);
            Reverse(a.size()).cmp(&Reverse(b.size())).then(if to_add > 0 { age.reverse() } else { age })
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for index in &active {
            let share = self.share(&self.all[*index], to_add, added);
            added += share;
            sizes.push(self.all[*index].size() + share);
        }
        // What rounding left over goes to the largest.
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (index, to) in active.into_iter().zip(sizes) {
            self.resize(index, to);
        }
    }

    /// A ReplicaSet's share of `to_add`, of which `added` are given away already (`GetReplicaSetProportion`).
    fn share(&self, rs: &Wanted, to_add: i32, added: i32) -> i32 {
        if rs.size() == 0 || to_add == 0 || to_add == added {
            return 0;
        }
        let left = to_add - added;
        let fair = self.fair_change(rs);
        if to_add > 0 { fair.min(left) } else { fair.max(left) }
    }

    fn fair_change(&self, rs: &Wanted) -> i32 {
        if self.replicas() == 0 {
            return -rs.size();
        }
        let max_before = rs.seen.annotation(MAX).and_then(|m| m.parse::<i32>().ok()).filter(|m| *m > 0);
        let max_before = max_before.or(self.deployment.status.as_ref().and_then(|s| s.replicas)).unwrap_or(0);
        if max_before == 0 {
            return 0;
        }
        let now = f64::from(rs.size()) * f64::from(self.replicas() + self.max_surge()) / f64::from(max_before);
        #[allow(clippy::cast_possible_truncation)] // a number of pods
        let now = now.round() as i32;
        now - rs.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_up_for_surge_and_down_for_unavailable() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!((resolve(Some(&quarter), "", 10, true), resolve(Some(&quarter), "", 10, false)), (3, 2));
        assert_eq!(resolve(Some(&IntOrString::Int(4)), "", 10, true), 4);
        assert_eq!(resolve(Some(&IntOrString::String("x".into())), "", 10, true), 0);
    }
}
