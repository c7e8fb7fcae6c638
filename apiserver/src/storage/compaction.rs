//! Forgetting old revisions, so that etcd does not grow without bound.
//!
//! As upstream: every five minutes, what is older than five minutes. Any number of apiservers may do this; a marker key written with
//! compare-and-swap lets one of them act in each round.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::etcd::{Commit, Etcd, Expect, Outcome, StorageError};

/// How long revisions are kept, and how often they are forgotten.
const EVERY: Duration = Duration::from_secs(300);
/// The key whose writer compacts.
const MARKER: &str = "/registry/ferrite/compaction";

/// Compacts until `shutdown`.
pub async fn run(etcd: Etcd, shutdown: CancellationToken) {
    let mut before = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match round(&etcd, before).await {
            Ok(revision) => before = Some(revision),
            Err(error) => tracing::warn!(%error, "compacting the storage"),
        }
    }
}

/// One round: whoever moves the marker compacts to where the revision was in the last round.
async fn round(etcd: &Etcd, before: Option<u64>) -> Result<u64, StorageError> {
    let now = etcd.revision().await?;
    let marker = etcd.get(MARKER).await?;
    let expect = marker.as_ref().map_or(Expect::Absent, |m| Expect::Revision(m.revision));
    // A marker that moved since our last round means that another apiserver compacts.
    if let (Some(marker), Some(before)) = (&marker, before)
        && marker.revision > before
    {
        return Ok(now);
    }
    let Some(before) = before else { return Ok(now) };
    let value = Some(before.to_string().into_bytes());
    if let Outcome::Done(revision) = etcd.commit(Commit { key: MARKER, expect, value, extras: &[], lease: 0 }).await? {
        etcd.compact(before).await?;
        tracing::debug!(before, "compacted the storage");
        return Ok(revision);
    }
    Ok(now)
}
