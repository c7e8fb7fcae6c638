//! Values that objects take out of pools: cluster IPs and node ports.
//!
//! A reservation is decided purely, from what is known to be taken, and written in the *same* etcd transaction as the object that
//! takes it. So a value is never handed out twice, whatever number of apiservers there is, and never lost when one dies.

use std::collections::BTreeSet;

use api::status::Status;
use serde_json::Value;

/// A key that is written or removed together with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// Create the key; the transaction fails when it exists.
    Take {
        /// The key in etcd.
        key: String,
        /// What is stored there.
        value: Vec<u8>,
    },
    /// Remove the key.
    Release {
        /// The key in etcd.
        key: String,
    },
}

/// Knows which pool values an object takes.
pub trait Reserve: Send + Sync {
    /// The etcd prefixes under which taken values stand; each taken value is the rest of a key.
    fn pools(&self) -> Vec<String>;

    /// Fills in values for `new` (absent on delete) given those of `old` (absent on create), and says what to take and release.
    /// `taken` holds, per pool, the values in use; `random` spreads choices.
    ///
    /// # Errors
    /// 422 for a value that is out of range or taken, 500 for an exhausted pool, as upstream.
    fn reserve(&self, new: Option<&mut Value>, old: Option<&Value>, taken: &[BTreeSet<String>], random: u64) -> Result<Vec<Extra>, Status>;
}
