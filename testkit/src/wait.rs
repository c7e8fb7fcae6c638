//! Waiting for a condition with a deadline: the only way a test waits.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Tries `check` until it gives a value; panics with what it was waiting for after `within`.
///
/// # Panics
/// When the time is over.
pub async fn eventually<T, Fut>(what: &str, within: Duration, check: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    eventually_every(Duration::from_millis(20), what, within, check).await
}

/// As [`eventually`], looking this often: where a look costs something, or many wait at once.
///
/// # Panics
/// When the time is over.
pub async fn eventually_every<T, Fut>(poll: Duration, what: &str, within: Duration, mut check: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    let until = Instant::now() + within;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < until, "waited {within:?} in vain for {what}");
        tokio::time::sleep(poll).await;
    }
}
