//! How the server's seats are shared out among priority levels (KEP-1040, borrowing). Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{Config, Level};

/// How many requests of a level run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Its share of all seats.
    pub nominal: usize,
    /// What nobody else may use.
    pub least: usize,
    /// What it may use at most, when others lend.
    pub most: usize,
}

/// The most shares of a level that count (the field has 32 bits), and the most percent.
const SHARES_MAX: u64 = i32::MAX as u64;

/// The limits of each level that has any, out of `total` seats. Each level has at least one.
#[must_use]
pub fn shared_out(config: &Config, total: usize) -> BTreeMap<Arc<str>, Limits> {
    let limited = || config.levels.iter().filter(|(_, l)| !l.exempt);
    // More shares than anybody means are no more than this: sums and products of them stay in bounds.
    let shares_of = |level: &Level| level.shares.min(SHARES_MAX);
    let shares: u64 = config.levels.values().map(shares_of).sum::<u64>().max(1);
    let total = total as u64;
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let percent = |of: u64, percent: u64| (of * percent + 50) / 100;
    limited()
        .map(|(name, level)| {
            let nominal = (total * shares_of(level)).div_ceil(shares).max(1);
            let most = level.borrowing.map_or(usize::MAX, |p| size(nominal + percent(nominal, p.min(SHARES_MAX))));
            (name.clone(), Limits { nominal: size(nominal), least: size(nominal - percent(nominal, level.lendable)), most })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::flowcontrol::{levels, schemas};

    #[test]
    fn seats_of_the_systems_own_levels() {
        let config = Config::compile(schemas().iter(), levels().iter());
        let limits = shared_out(&config, 600);
        let text: Vec<String> = limits.iter().map(|(name, l)| format!("{name} {}..{}", l.least, l.nominal)).collect();
        // Of upstream's default of 600 seats.
        assert_eq!(
            text,
            [
                "catch-all 13..13",
                "global-default 24..49",
                "leader-election 25..25",
                "node-high 73..98",
                "system 50..74",
                "workload-high 49..98",
                "workload-low 24..245"
            ]
        );
        assert!(limits.values().all(|l| l.most == usize::MAX));
    }
}
