//! Threads that each have a runtime of their own, for work that comes in many independent parts, such as connections.
//!
//! What is put on a lane stays there with all that it spawns: no other thread has to be woken for it, which costs more than most requests.
//! A lane that is busy does not give to one that is not; parts are dealt out in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// What blocks when a lane ends may go on for this long.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// The threads. They end when this is dropped, and what runs on them with them.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<(Handle, thread::JoinHandle<()>)>,
    next: AtomicUsize,
    stop: CancellationToken,
}

impl Lanes {
    /// Starts `count` threads, at least one, with this name.
    ///
    /// # Errors
    /// The kernel gives no more threads or descriptors.
    pub fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let mut started = Self { lanes: Vec::new(), next: AtomicUsize::new(0), stop: CancellationToken::new() };
        for _ in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stop) = (runtime.handle().clone(), started.stop.clone());
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
                runtime.block_on(stop.cancelled());
                runtime.shutdown_timeout(ENDS_WITHIN);
            })?;
            started.lanes.push((handle, thread));
        }
        Ok(started)
    }

    /// The lane whose turn it is.
    #[must_use]
    pub fn next(&self) -> &Handle {
        &self.lanes[self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len()].0
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.stop.cancel();
        for (_, thread) in self.lanes.drain(..) {
            // A panic of a task stays with the task; there is nothing to learn from a thread's end.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stays_on_its_lane_and_ends_with_it() {
        let lanes = Lanes::start("lane", 2).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        for _ in 0..4 {
            let tell = tell.clone();
            lanes.next().spawn(async move {
                let here = thread::current().id();
                let spawned = tokio::spawn(async { thread::current().id() }).await.unwrap();
                tell.send((here, spawned)).unwrap();
                std::future::pending::<()>().await;
            });
        }
        drop(tell);
        let all: Vec<_> = told.iter().take(4).collect();
        assert!(all.iter().all(|(here, spawned)| here == spawned));
        assert_eq!(all.iter().map(|(here, _)| *here).collect::<std::collections::HashSet<_>>().len(), 2);
        drop(lanes);
        assert!(told.recv().is_err(), "what still waited is gone");
    }
}
