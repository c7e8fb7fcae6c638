//! The one owner of the kernel's table: brings it to a wanted value, and says whether it still is what it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::diff::{Transaction, diff};
use crate::netlink::{IPV4, NFTABLES, Reader};
use crate::ruleset::{Key, Ruleset, TABLE, Type, Value};
use crate::sink::{Netlink, OwnSockets, RuleSink as _};
use crate::skeleton::AFFINITY;
use crate::{affinity, conntrack, elements};

/// `NFT_MSG_GETRULE`.
const GET_RULES: u8 = 7;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;

/// The table in the kernel.
#[derive(Debug)]
pub struct Table {
    kernel: Netlink,
    /// What the kernel's table is, as far as we know; unknown at the start and after somebody else touched it.
    applied: Option<Ruleset>,
}

/// What [`Table::sync`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Synced {
    /// Whether anything had to change.
    pub changed: bool,
    /// Whether the table was made anew.
    pub replaced: bool,
}

impl Table {
    /// The table in this thread's network namespace.
    ///
    /// # Errors
    /// No right to, or no netfilter.
    pub fn open(own: &OwnSockets) -> io::Result<Self> {
        Ok(Self { kernel: Netlink::open(own)?, applied: None })
    }

    /// What is applied, when that is known.
    #[must_use]
    pub fn applied(&self) -> Option<&Ruleset> {
        self.applied.as_ref()
    }

    /// Makes the kernel's table `wanted`, in one transaction.
    ///
    /// # Errors
    /// The kernel refused. The next call starts from scratch: it makes the table anew.
    pub fn sync(&mut self, wanted: Ruleset) -> anyhow::Result<Synced> {
        let Some(old) = self.applied.take() else { return self.replace(wanted) };
        let transaction = diff(&old, &wanted);
        if transaction.replace {
            return self.replace(wanted);
        }
        if !transaction.is_empty() {
            self.kernel.apply(&transaction)?;
            let mut known = BTreeSet::new();
            if conntrack::concerns(&transaction) {
                known = conntrack::udp_frontends(&old);
                known.extend(conntrack::udp_frontends(&wanted));
            }
            self.clean(&wanted, affinity::concerns(&transaction, &old), &known);
        }
        self.applied = Some(wanted);
        Ok(Synced { changed: !transaction.is_empty(), replaced: false })
    }

    /// Makes the table anew. Traffic sees the old table or the new one; clients keep the endpoints they are used to.
    fn replace(&mut self, wanted: Ruleset) -> anyhow::Result<Synced> {
        let remembered = match affinity::dump(self.kernel.netfilter(), &wanted) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
            Err(error) => {
                tracing::info!(%error, "client affinity is forgotten: it could not be read from the old table");
                vec![]
            }
        };
        self.kernel.apply_with(&Transaction::replace(&wanted), &affinity::still_true(remembered, &wanted))?;
        self.clean(&wanted, false, &conntrack::udp_frontends(&wanted));
        self.applied = Some(wanted);
        Ok(Synced { changed: true, replaced: true })
    }

    /// Takes back what still leads to endpoints that are gone. New connections are right already; this is for the others.
    fn clean(&mut self, table: &Ruleset, affinity: bool, udp: &BTreeSet<(std::net::IpAddr, u16)>) {
        let netfilter = self.kernel.netfilter();
        if affinity {
            let forgotten = affinity::dump(netfilter, table)
                .and_then(|held| netfilter.transact(|messages| elements::delete(messages, AFFINITY, &affinity::stale(&held, table))));
            match forgotten {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "forgetting clients of endpoints that are gone")
                }
                _ => {} // an entry that expired meanwhile is what was wanted
            }
        }
        if !udp.is_empty() {
            match conntrack::clean(netfilter, udp, table) {
                Ok(0) => {}
                Ok(deleted) => tracing::debug!(deleted, "deleted UDP conntrack entries of endpoints that are gone"),
                Err(error) => tracing::warn!(%error, "deleting UDP conntrack entries of endpoints that are gone"),
            }
        }
    }

    /// Compares the kernel's table with what was applied. When they differ, the next [`Table::sync`] makes it anew.
    ///
    /// Elements are compared one by one, rules by their number in each chain.
    pub fn audit(&mut self) -> bool {
        let Some(applied) = &self.applied else { return false };
        let whole = match held(&mut self.kernel, applied) {
            Ok(whole) => whole,
            Err(error) => {
                tracing::debug!(%error, "reading the table back");
                false
            }
        };
        if !whole {
            self.applied = None;
        }
        whole
    }
}

fn held(kernel: &mut Netlink, applied: &Ruleset) -> io::Result<bool> {
    let netfilter = kernel.netfilter();
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    netfilter.dump(
        NFTABLES,
        GET_RULES,
        IPV4,
        |a| a.text(RULE_TABLE, TABLE),
        |body| {
            let rule = Reader(body);
            if let (Some(TABLE), Some(chain)) = (rule.text(RULE_TABLE), rule.text(RULE_CHAIN)) {
                *rules.entry(chain.to_owned()).or_default() += 1;
            }
        },
    )?;
    let expected = applied.chains.iter().map(|(name, chain)| (name.clone(), chain.rules.len()));
    if rules != expected.filter(|(_, count)| *count > 0).collect() {
        return Ok(false);
    }
    for (name, set) in applied.sets.iter().filter(|(_, set)| set.learnt.is_none()) {
        let held = elements::dump(netfilter, name, set)?;
        let same = if set.key.contains(&Type::Net) {
            held.len() == set.elements.len()
        } else {
            let held: BTreeMap<Key, Value> = held.into_iter().map(|h| (h.key, h.value)).collect();
            held == set.elements
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
