//! What packets taught the table about clients: cleaned when endpoints go, carried over when the table is made anew.

use std::io;

use crate::diff::{Change, Transaction};
use crate::elements::{self, Held};
use crate::netlink::Netfilter;
use crate::ruleset::{Key, Ruleset, Type};
use crate::skeleton::{AFFINITY, ENDPOINTS, STICKY};

/// What is remembered now.
///
/// # Errors
/// The table could not be read; `NotFound` when there is none.
pub fn dump(netfilter: &mut Netfilter, table: &Ruleset) -> io::Result<Vec<Held>> {
    table.sets.get(AFFINITY).map_or(Ok(vec![]), |set| elements::dump(netfilter, AFFINITY, set))
}

/// Whether clients may remember an endpoint that is gone after this transaction, or a frontend that has no affinity any more: what nothing
/// cleans later must not come back when the frontend has affinity again, or another Service the same port.
#[must_use]
pub fn concerns(transaction: &Transaction, old: &Ruleset) -> bool {
    let sticky = |key: &Key| old.sets.get(STICKY).is_some_and(|s| s.elements.contains_key(&key[..3]));
    transaction.changes.iter().any(|change| match change {
        Change::DeleteElements(set, keys) => set == STICKY || (set == ENDPOINTS && keys.iter().any(sticky)),
        _ => false,
    })
}

/// The keys of clients whose endpoint is no longer one of their frontend's.
#[must_use]
pub fn stale(held: &[Held], table: &Ruleset) -> Vec<Key> {
    held.iter().filter(|h| !lives(h, table)).map(|h| h.key.clone()).collect()
}

/// What of it still holds, and has time left.
#[must_use]
pub fn still_true(held: Vec<Held>, table: &Ruleset) -> Vec<Held> {
    held.into_iter().filter(|h| lives(h, table) && h.expires.is_some_and(|ms| ms > 0)).collect()
}

fn lives(held: &Held, table: &Ruleset) -> bool {
    debug_assert_eq!(table.sets[AFFINITY].key[0], Type::Addr);
    let frontend = &held.key[1..];
    if !table.sets[STICKY].elements.contains_key(frontend) {
        return false;
    }
    let slots = table.sets[ENDPOINTS].elements.range(frontend.to_vec()..).take_while(|(key, _)| key.starts_with(frontend));
    slots.map(|(_, value)| value).any(|value| *value == held.value)
}
