//! Waiting where there is no runtime: commands that do one thing after the other on their only thread.

use std::time::{Duration, Instant};

/// A condition is looked at this often.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `done`, at most for `within`. Says whether it came to be.
#[expect(clippy::disallowed_methods, reason = "its callers have one thread and nothing else to do")]
pub fn until(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_again_and_gives_up() {
        let mut looks = 0;
        assert!(until(Duration::from_secs(5), || {
            looks += 1;
            looks == 3
        }));
        assert!(!until(Duration::ZERO, || false));
    }
}
