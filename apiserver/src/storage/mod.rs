//! Where the cluster's state lives: etcd is the truth, the watch cache is what reads are served from.
//!
//! An object is serialised once, when it is written. Read [`keys`] for names, [`codec`] for the form, [`watch_cache`] for how reads and
//! watches are served, [`hub`] for how the caches are fed. Nothing outside this folder speaks to etcd.

pub mod codec;
pub mod compaction;
pub mod encryption;
pub mod entry;
pub mod etcd;
pub mod facets;
pub mod hub;
pub mod keys;
pub mod parsed;
pub mod watch_cache;

pub use entry::Entry;
pub use etcd::{Commit, Etcd, EtcdConfig, Expect, Outcome, StorageError};
pub use hub::Hub;
pub use watch_cache::{Cache, Change, Cursor, Event};
