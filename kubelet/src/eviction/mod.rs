//! Node pressure: what runs short, and which pods go when it does.

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
