//! CrashLoopBackOff: how long a container that ended waits for its restart.
//!
//! The first restart is immediate, then 10 s, doubling to 5 min; a container that ran for 10 min starts over.

use jiff::{SignedDuration, Timestamp};

/// The first delay.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay.
pub const MOST: SignedDuration = SignedDuration::from_mins(5);
/// A container that ran this long is forgiven.
const FORGIVEN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The back-off of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay that counts from the container's end.
    pub delay: SignedDuration,
    /// When it was last restarted.
    pub restarted_at: Timestamp,
}

impl Backoff {
    /// When a container that ended at `finished` may start again; `None` for at once.
    #[must_use]
    pub fn until(entry: Option<&Self>, finished: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = entry.filter(|e| !e.forgiven(finished))?;
        let until = finished.saturating_add(entry.delay).unwrap_or(Timestamp::MAX);
        (until > now).then_some(until)
    }

    /// The back-off after a restart at `now` of a container that ended at `finished`.
    #[must_use]
    pub fn after(entry: Option<&Self>, finished: Timestamp, now: Timestamp) -> Self {
        let delay = match entry.filter(|e| !e.forgiven(finished)) {
            Some(entry) => entry.delay.saturating_mul(2).min(MOST),
            None => INITIAL,
        };
        Self { delay, restarted_at: now }
    }

    fn forgiven(&self, finished: Timestamp) -> bool {
        finished.duration_since(self.restarted_at) > FORGIVEN_AFTER
    }
}

/// A duration as Go prints it, for the messages people know: `10s`, `1m20s`, `5m0s`.
#[must_use]
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_five_minutes_and_is_forgiven_after_ten() {
        let (mut now, mut entry, mut delays) = (Timestamp::UNIX_EPOCH, None, vec![]);
        for _ in 0..8 {
            let finished = now; // it ends as soon as it starts
            delays.push(Backoff::until(entry.as_ref(), finished, now).map_or(0, |u| u.duration_since(now).as_secs()));
            now = Backoff::until(entry.as_ref(), finished, now).unwrap_or(now);
            entry = Some(Backoff::after(entry.as_ref(), finished, now));
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        let finished = now + SignedDuration::from_mins(11);
        assert_eq!(Backoff::until(entry.as_ref(), finished, finished), None);
        assert_eq!(Backoff::after(entry.as_ref(), finished, finished).delay, INITIAL);
    }

    #[test]
    fn prints_as_go_does() {
        let text = [10, 80, 300, 3600].map(|s| go_duration(SignedDuration::from_secs(s)));
        assert_eq!(text, ["10s", "1m20s", "5m0s", "1h0m0s"]);
    }
}
