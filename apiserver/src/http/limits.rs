//! How many requests run at once, and which wait: two levels, so that a flood of ordinary requests never starves what keeps the
//! cluster alive. What does not get a seat in time is told to come again (429 with Retry-After).
//!
//! Watches and connections to kubelets hold no seat: they are bounded where they are made, and last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::status::Status;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::request_info::RequestInfo;
use crate::auth::User;

/// How long a request may wait for a seat. Upstream's requests wait a quarter of their timeout of a minute.
const WAIT: Duration = Duration::from_secs(15);
/// Requests that may wait, for each seat of their level. More would wait in vain: what runs takes milliseconds.
const WAITING_PER_SEAT: usize = 4;
/// What part of all seats is for the system alone: one in this many.
const SYSTEM_SHARE: usize = 4;

/// Who a request competes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// With nobody: administrators (as upstream), health, and whatever lasts.
    Exempt,
    /// Nodes, the control plane, and everybody's leader election.
    System,
    /// Everybody else.
    Workload,
}

/// The level of a request. Pure.
#[must_use]
pub fn level(user: &User, info: &RequestInfo) -> Level {
    let member = |group: &str| user.groups.iter().any(|g| g == group);
    let exempt = member("system:masters")
        || info.verb == "watch"
        || matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "log" | "proxy")
        || !info.is_resource && (info.path.starts_with("/healthz") || info.path.starts_with("/livez") || info.path.starts_with("/readyz"));
    let daemon = user.name.starts_with("system:kube-") || user.name.starts_with("system:serviceaccount:kube-system:");
    if exempt {
        Level::Exempt
    } else if member("system:nodes") || daemon || info.resource == "leases" {
        Level::System
    } else {
        Level::Workload
    }
}

#[derive(Debug)]
struct Seats {
    free: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Seats {
    fn new(seats: usize) -> Self {
        Self { free: Semaphore::new(seats), waiting: AtomicUsize::new(0), most_waiting: seats * WAITING_PER_SEAT }
    }

    async fn take(&self, wait: Duration) -> Option<SemaphorePermit<'_>> {
        if let Ok(seat) = self.free.try_acquire() {
            return Some(seat);
        }
        let _place = Place::take(self)?;
        tokio::time::timeout(wait, self.free.acquire()).await.ok()?.ok()
    }
}

/// A place in the queue; left when dropped, which is also what happens when the client goes away.
struct Place<'a>(&'a Seats);

impl<'a> Place<'a> {
    fn take(seats: &'a Seats) -> Option<Self> {
        let place = Self(seats);
        (seats.waiting.fetch_add(1, Ordering::AcqRel) < seats.most_waiting).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The seats of each level.
#[derive(Debug)]
pub struct Limits {
    system: Seats,
    workload: Seats,
}

impl Limits {
    /// Limits for this many requests at once in all.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let system = (total / SYSTEM_SHARE).max(1);
        Self { system: Seats::new(system), workload: Seats::new(total.saturating_sub(system).max(1)) }
    }

    /// A seat for a request of this level, waited for where needed. `None` for one that needs none.
    ///
    /// # Errors
    /// 429 when too many wait already, or the wait was too long.
    pub async fn seat(&self, level: Level) -> Result<Option<SemaphorePermit<'_>>, Status> {
        let seats = match level {
            Level::Exempt => return Ok(None),
            Level::System => &self.system,
            Level::Workload => &self.workload,
        };
        match seats.take(WAIT).await {
            Some(seat) => Ok(Some(seat)),
            None => Err(Status::too_many_requests("too many requests, please try again later", 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_leases_are_the_systems() {
        let of = |name: &str, groups: &[&str], verb: &str, resource: &str| {
            let user = User { name: name.into(), groups: groups.iter().map(|g| (*g).into()).collect(), ..User::default() };
            level(&user, &RequestInfo { is_resource: true, verb: verb.into(), resource: resource.into(), ..RequestInfo::default() })
        };
        assert_eq!(of("system:node:a", &["system:nodes"], "get", "secrets"), Level::System);
        assert_eq!(of("system:kube-scheduler", &[], "create", "pods"), Level::System);
        assert_eq!(of("bob", &[], "update", "leases"), Level::System);
        assert_eq!(of("bob", &[], "list", "pods"), Level::Workload);
        assert_eq!(of("bob", &[], "watch", "pods"), Level::Exempt);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_level_does_not_hold_up_the_other() {
        let limits = Limits::new(2);
        let held = limits.seat(Level::Workload).await.unwrap();
        assert!(limits.seat(Level::System).await.is_ok());
        let refused = limits.seat(Level::Workload).await.unwrap_err();
        assert_eq!((refused.code, refused.details.map(|d| d.retry_after_seconds)), (429, Some(1)));
        drop(held);
        assert!(limits.seat(Level::Workload).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let limits = Limits::new(2);
        let _held = limits.seat(Level::Workload).await.unwrap();
        let began = tokio::time::Instant::now();
        let waiting = futures::future::join_all((0..6).map(|_| async {
            assert!(limits.seat(Level::Workload).await.is_err());
            began.elapsed()
        }));
        let mut waited = waiting.await;
        waited.sort();
        assert_eq!(waited.iter().filter(|w| w.is_zero()).count(), 6 - WAITING_PER_SEAT);
    }
}
