//! Node pressure: what runs short, and which pods go when it does.

pub mod watch;

use std::str::FromStr as _;

use anyhow::Context as _;
use api::quantity::Quantity;

/// What the node says it is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory that can still be had.
    MemoryAvailable,
    /// Free bytes of the kubelet's file system.
    NodefsAvailable,
    /// Free inodes there.
    NodefsInodesFree,
    /// Free bytes of the images' file system.
    ImagefsAvailable,
    /// Free inodes there.
    ImagefsInodesFree,
    /// Process ids left.
    PidAvailable,
}

impl Signal {
    /// All, with upstream's names.
    pub const ALL: [(Self, &str); 6] = [
        (Self::MemoryAvailable, "memory.available"),
        (Self::NodefsAvailable, "nodefs.available"),
        (Self::NodefsInodesFree, "nodefs.inodesFree"),
        (Self::ImagefsAvailable, "imagefs.available"),
        (Self::ImagefsInodesFree, "imagefs.inodesFree"),
        (Self::PidAvailable, "pid.available"),
    ];
}

/// How much is the least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Least {
    /// So many bytes, inodes or process ids.
    Amount(i64),
    /// A part of all there is, in thousandths.
    PerMille(i64),
}

/// Below this, pods are evicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// What is measured.
    pub signal: Signal,
    /// The least there must be.
    pub least: Least,
}

impl Threshold {
    /// The least there must be, given all there is.
    #[must_use]
    pub fn amount(&self, capacity: i64) -> i64 {
        match self.least {
            Least::Amount(amount) => amount,
            Least::PerMille(part) => capacity / 1000 * part,
        }
    }
}

/// Reads `memory.available<100Mi,nodefs.available<10%`.
///
/// # Errors
/// An unknown signal, a value that is neither quantity nor percentage.
pub fn thresholds(text: &str) -> anyhow::Result<Vec<Threshold>> {
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('<').with_context(|| format!("eviction threshold {part:?}: want signal<value"))?;
            let signal = Signal::ALL.iter().find(|(_, n)| *n == name).with_context(|| format!("unknown eviction signal {name:?}"))?.0;
            let least = match value.strip_suffix('%') {
                Some(percent) => {
                    let percent: f64 = percent.parse().with_context(|| format!("eviction threshold {part:?}"))?;
                    anyhow::ensure!((0.0..=100.0).contains(&percent), "eviction threshold {part:?}: a percentage is between 0 and 100");
                    #[allow(clippy::cast_possible_truncation)] // between 0 and 1000
                    Least::PerMille((percent * 10.0).round() as i64)
                }
                None => {
                    let quantity = Quantity::from_str(value).map_err(|_| anyhow::anyhow!("eviction threshold {part:?}: not a quantity"))?;
                    Least::Amount(i64::try_from(quantity.value()).unwrap_or(i64::MAX))
                }
            };
            Ok(Threshold { signal, least })
        })
        .collect()
}

/// How much there is of what is measured, and how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// What is measured.
    pub signal: Signal,
    /// What is left.
    pub available: i64,
    /// All there is.
    pub capacity: i64,
}

/// The thresholds that are passed, with what was measured.
#[must_use]
pub fn breached(thresholds: &[Threshold], measures: &[Measure]) -> Vec<(Threshold, Measure)> {
    let of = |signal| measures.iter().find(|m| m.signal == signal).copied();
    let pairs = thresholds.iter().filter_map(|t| of(t.signal).map(|m| (*t, m)));
    pairs.filter(|(t, m)| m.available < t.amount(m.capacity)).collect()
}

impl Pressure {
    /// The pressure that passed thresholds mean.
    #[must_use]
    pub fn of(breached: &[(Threshold, Measure)]) -> Self {
        let any = |signals: &[Signal]| breached.iter().any(|(t, _)| signals.contains(&t.signal));
        Self {
            memory: any(&[Signal::MemoryAvailable]),
            disk: any(&[Signal::NodefsAvailable, Signal::NodefsInodesFree, Signal::ImagefsAvailable, Signal::ImagefsInodesFree]),
            pids: any(&[Signal::PidAvailable]),
        }
    }
}

/// One pod, as eviction looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidate {
    /// Its uid.
    pub uid: String,
    /// Its priority.
    pub priority: i32,
    /// What it uses of the resource that runs short.
    pub usage: i64,
    /// What it asked for.
    pub request: i64,
    /// Critical to the node: static, or of a system priority class. Never evicted.
    pub critical: bool,
}

/// The pod to evict first: one that uses more than it asked for, of the lowest priority, the furthest over.
#[must_use]
pub fn victim(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates
        .iter()
        .filter(|c| !c.critical)
        .min_by_key(|c| (c.usage <= c.request, c.priority, std::cmp::Reverse(c.usage - c.request), c.uid.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_passed() {
        let read = thresholds("memory.available<100Mi,nodefs.available<10%").expect("thresholds");
        let measure = |signal, available| Measure { signal, available, capacity: 1 << 30 };
        let measures = [measure(Signal::MemoryAvailable, 99 << 20), measure(Signal::NodefsAvailable, 200 << 20)];
        let passed = breached(&read, &measures);
        assert_eq!(passed.len(), 1);
        assert_eq!(Pressure::of(&passed), Pressure { memory: true, disk: false, pids: false });
        assert!(
            thresholds("memory.free<1").is_err() && thresholds("memory.available<x").is_err() && thresholds("pid.available<101%").is_err()
        );
    }

    #[test]
    fn who_goes_first() {
        let pod = |uid: &str, priority, usage, request| Candidate { uid: uid.into(), priority, usage, request, critical: false };
        let modest = pod("modest", 0, 10, 20);
        let greedy = pod("greedy", 100, 30, 20);
        let greedier = pod("greedier", 100, 50, 20);
        let important = pod("important", 1000, 500, 20);
        let critical = Candidate { critical: true, ..pod("critical", 0, 900, 0) };
        let first = |list: &[&Candidate]| victim(&list.iter().map(|c| (*c).clone()).collect::<Vec<_>>()).map(|c| c.uid.clone());
        assert_eq!(first(&[&modest, &greedy, &greedier, &important, &critical]).as_deref(), Some("greedier"));
        assert_eq!(first(&[&modest, &important]).as_deref(), Some("important"));
        assert_eq!(first(&[&critical]), None);
    }
}
