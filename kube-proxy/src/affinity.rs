//! What packets taught the table about clients: cleaned when endpoints go, carried over when the table is made anew.

use std::io;
use std::time::Duration;

use crate::diff::{Change, Transaction};
use crate::elements::{self, Held};
use crate::netlink::Netfilter;
use crate::ruleset::{Atom, Key, Ruleset, TABLE, Type, Value};
use crate::skeleton::{AFFINITY, ENDPOINTS, STICKY};

/// What is remembered now.
///
/// # Errors
/// The table could not be read; `NotFound` when there is none.
pub fn dump(netfilter: &mut Netfilter, table: &Ruleset) -> io::Result<Vec<Held>> {
    table.sets.get(AFFINITY).map_or(Ok(vec![]), |set| elements::dump(netfilter, AFFINITY, set))
}

/// Whether clients may remember an endpoint that is gone after this transaction.
#[must_use]
pub fn concerns(transaction: &Transaction, old: &Ruleset) -> bool {
    let sticky = |key: &Key| old.sets.get(STICKY).is_some_and(|s| s.elements.contains_key(&key[..3]));
    transaction.changes.iter().any(|change| match change {
        Change::DeleteElements(set, keys) => set == ENDPOINTS && keys.iter().any(sticky),
        _ => false,
    })
}

/// Forgets clients whose endpoint is no longer one of their frontend's.
#[must_use]
pub fn forget(held: &[Held], table: &Ruleset) -> Transaction {
    let stale: Vec<Key> = held.iter().filter(|h| !lives(h, table)).map(|h| h.key.clone()).collect();
    let changes = if stale.is_empty() { vec![] } else { vec![Change::DeleteElements(AFFINITY.into(), stale)] };
    Transaction { replace: false, changes }
}

/// The text that puts what is still true back into a table made anew, with the time that it has left.
#[must_use]
pub fn restore(held: &[Held], table: &Ruleset) -> String {
    let mut text = String::new();
    for h in held.iter().filter(|h| lives(h, table)) {
        let (Value::Endpoint(addr, port), Some(ms)) = (&h.value, h.expires.filter(|ms| *ms > 0)) else { continue };
        let key: Vec<String> = h.key.iter().map(Atom::to_string).collect();
        let left = Duration::from_millis(ms).as_secs().max(1);
        text += &format!("add element ip {TABLE} {AFFINITY} {{ {} timeout {left}s : {addr} . {port} }}\n", key.join(" . "));
    }
    text
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
