//! Exponential back-off with jitter, for retries against something that may be away.

use std::time::Duration;

/// A doubling delay between `first` and `most`. Call [`Backoff::next`] after a failure, [`Backoff::reset`] after success.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    current: Duration,
}

impl Backoff {
    /// Delays start at `first` and double up to `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, current: first }
    }

    /// The delay to wait now. `jitter` in 0..1 spreads callers over the upper half of the delay.
    #[must_use]
    pub fn next_with(&mut self, jitter: f64) -> Duration {
        let delay = self.current;
        self.current = (self.current * 2).min(self.most);
        delay.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// The delay to wait now, with random jitter.
    pub fn next_delay(&mut self) -> Duration {
        self.next_with(rand::random::<f64>())
    }

    /// Starts over at the first delay.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most_and_starts_over() {
        let mut b = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
        let delays: Vec<u64> = (0..4).map(|_| b.next_with(1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 3, 3]);
        b.reset();
        assert_eq!(b.next_with(0.0), Duration::from_millis(500));
    }
}
