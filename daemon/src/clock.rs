//! The wall clock, as an argument.
//!
//! Deciding functions take a [`jiff::Timestamp`]; loops get it from here. It advances with tokio's clock, so a
//! test that pauses time pauses this too.

use jiff::{SignedDuration, Timestamp};

/// Wall-clock time that follows tokio's (pausable) clock from the moment it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    started: tokio::time::Instant,
}

impl Clock {
    /// A clock that shows the system's time.
    #[must_use]
    pub fn system() -> Self {
        Self { wall: Timestamp::now(), started: tokio::time::Instant::now() }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        if cfg!(test) {
            return self.wall.saturating_add(elapsed).unwrap_or(Timestamp::MAX);
        }
        // A long-running process follows corrections of the system's clock.
        Timestamp::now()
    }
}
