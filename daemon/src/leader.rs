//! Leader election by Lease: of several replicas one works, the others stand by.
//!
//! The rules are client-go's: a candidate takes the Lease when it is free or when the record has not changed for
//! `leaseDuration` *on the candidate's own clock*; the holder renews every `retry_period` and gives up when it could not renew
//! for `renew_deadline`. Losing the Lease ends the work and the process, so that nothing acts on a stale belief.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::process::Context;

/// The flags of leader election, with upstream's names and defaults.
#[derive(Debug, Clone, clap::Args)]
pub struct LeaderFlags {
    /// Stand for election and work only while holding the Lease.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// How long, in seconds, a Lease that is not renewed keeps others out.
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    pub leader_elect_lease_duration: u32,
    /// How long, in seconds, the leader tries to renew before it gives up.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub leader_elect_renew_deadline: u32,
    /// How long, in seconds, to wait between tries.
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    pub leader_elect_retry_period: u32,
    /// Namespace of the Lease.
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
}

/// What a candidate does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There is no Lease: create it.
    Create,
    /// It is free, expired or ours: write ourselves into it.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// Decides from the Lease as read and the time since when it has looked like that.
fn decide(lease: Option<&Lease>, unchanged_for: SignedDuration, me: &str) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let lasts = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(0)));
    if holder.is_empty() || holder == me || unchanged_for > lasts { Step::Take } else { Step::Wait }
}

/// The Lease's content after `me` takes or renews it.
fn taken(old: Option<&LeaseSpec>, me: &str, seconds: u32, now: Timestamp) -> LeaseSpec {
    let same = old.is_some_and(|o| o.holder_identity.as_deref() == Some(me));
    let transitions = old.and_then(|o| o.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(seconds).ok(),
        acquire_time: if same { old.and_then(|o| o.acquire_time.clone()) } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if same || old.is_none() { transitions } else { transitions + 1 }),
        ..LeaseSpec::default()
    }
}

struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    flags: LeaderFlags,
    seen: Option<(Lease, Timestamp)>,
}

impl Candidate {
    /// One try: `Ok(true)` when the Lease is ours afterwards.
    async fn attempt(&mut self, now: Timestamp) -> kube::Result<bool> {
        let lease = self.api.get_opt(&self.name).await?;
        let version = |l: &Lease| l.metadata.resource_version.clone();
        let since = match (&self.seen, &lease) {
            (Some((seen, at)), Some(lease)) if version(seen) == version(lease) => *at,
            _ => now,
        };
        self.seen = lease.clone().map(|l| (l, since));
        let spec = |old: Option<&LeaseSpec>| Some(taken(old, &self.me, self.flags.leader_elect_lease_duration, now));
        let written = match (decide(lease.as_ref(), now.duration_since(since), &self.me), lease) {
            (Step::Wait, _) => return Ok(false),
            (_, None) => {
                let mut lease = Lease { spec: spec(None), ..Lease::default() };
                lease.metadata.name = Some(self.name.clone());
                self.api.create(&PostParams::default(), &lease).await
            }
            (_, Some(mut lease)) => {
                lease.spec = spec(lease.spec.as_ref());
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease, now));
                Ok(true)
            }
            // Another candidate was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets the others in at once instead of after the Lease's duration.
    async fn release(&mut self, now: Timestamp) {
        let Some((mut lease, _)) = self.seen.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(now));
        }
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::warn!(error = crate::describe(&error), lease = self.name, "releasing the Lease");
        }
    }
}

/// Runs `work` while this process leads; without election, at once.
///
/// `work` gets a token that is cancelled when the process stops or the Lease is lost. `name` is the Lease's name.
///
/// # Errors
/// What `work` returns, or that the Lease was lost.
pub async fn lead<Fut>(
    client: Client,
    name: &str,
    flags: &LeaderFlags,
    context: &Context,
    work: impl FnOnce(CancellationToken) -> Fut,
) -> anyhow::Result<()>
where
    Fut: Future<Output = anyhow::Result<()>>,
{
    let token = context.shutdown.child_token();
    if !flags.leader_elect {
        return work(token).await;
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let me = format!("{}_{:016x}", host.trim(), rand::random::<u64>());
    let api = Api::namespaced(client, &flags.leader_elect_resource_namespace);
    let mut candidate = Candidate { api, name: name.to_owned(), me: me.clone(), flags: flags.clone(), seen: None };
    let retry = Duration::from_secs(u64::from(flags.leader_elect_retry_period));
    let deadline = Duration::from_secs(u64::from(flags.leader_elect_renew_deadline));
    loop {
        match tokio::time::timeout(deadline, candidate.attempt(context.clock.now())).await {
            Ok(Ok(true)) => break,
            Ok(Ok(false)) => tracing::debug!(lease = name, "another replica leads"),
            Ok(Err(error)) => tracing::warn!(error = crate::describe(&error), lease = name, "trying to acquire the Lease"),
            Err(_) => tracing::warn!(lease = name, "trying to acquire the Lease took too long"),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(retry.mul_f64(1.0 + 0.2 * rand::random::<f64>())) => {}
        }
    }
    tracing::info!(lease = name, identity = me, "became leader");
    let working = work(token.clone());
    tokio::pin!(working);
    let mut renewed = tokio::time::Instant::now();
    let result = loop {
        tokio::select! {
            result = &mut working => break result,
            () = tokio::time::sleep(retry) => {}
        }
        let left = deadline.saturating_sub(renewed.elapsed());
        tokio::select! {
            result = &mut working => break result,
            tried = tokio::time::timeout(left, candidate.attempt(context.clock.now())) => match tried {
                Ok(Ok(true)) => renewed = tokio::time::Instant::now(),
                Ok(Ok(false)) => { token.cancel(); bail!("leader election lost: another replica holds the Lease {name}") }
                Ok(Err(error)) if renewed.elapsed() < deadline => tracing::warn!(error = crate::describe(&error), lease = name, "renewing the Lease"),
                _ => { token.cancel(); bail!("leader election lost: could not renew the Lease {name} for {} s", deadline.as_secs()) }
            },
        }
    };
    candidate.release(context.clock.now()).await;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Lease {
        let spec = LeaseSpec { holder_identity: Some(holder.into()), lease_duration_seconds: Some(15), ..LeaseSpec::default() };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn takes_what_is_free_expired_or_its_own() {
        let secs = SignedDuration::from_secs;
        assert_eq!(decide(None, secs(0), "a"), Step::Create);
        assert_eq!(decide(Some(&lease("")), secs(0), "a"), Step::Take);
        assert_eq!(decide(Some(&lease("a")), secs(0), "a"), Step::Take);
        assert_eq!(decide(Some(&lease("b")), secs(15), "a"), Step::Wait);
        assert_eq!(decide(Some(&lease("b")), secs(16), "a"), Step::Take);
    }

    #[test]
    fn a_change_of_hands_is_counted_and_a_renewal_is_not() {
        let first = taken(None, "a", 15, Timestamp::UNIX_EPOCH);
        let renewed = taken(Some(&first), "a", 15, Timestamp::MAX);
        let moved = taken(Some(&renewed), "b", 15, Timestamp::MAX);
        assert_eq!((first.lease_transitions, renewed.lease_transitions, moved.lease_transitions), (Some(0), Some(0), Some(1)));
        assert_eq!(renewed.acquire_time, first.acquire_time);
    }
}
