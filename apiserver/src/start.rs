//! What must be known before requests can be answered truly.
//!
//! A server that has just started knows no role yet and would refuse everybody, and it knows no definition yet and would deny that custom
//! resources exist. Clients take such answers at their word, so requests wait until both are known; when that takes long, the answer is
//! that the server is not available, never a wrong one. Health checks are not held up.

use std::time::Duration;

use api::status::Status;
use tokio::sync::watch;

/// A request waits at most this long for the server to be ready; clients give requests up after about as long.
const WAIT: Duration = Duration::from_secs(10);

/// A stage of the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The system's own namespaces, roles and bindings are there.
    SystemObjects,
    /// Every definition of custom resources was looked at.
    CustomResources,
}

#[derive(Debug, Clone, Copy, Default)]
struct Done {
    system_objects: bool,
    custom_resources: bool,
}

impl Done {
    fn all(self) -> bool {
        self.system_objects && self.custom_resources
    }
}

/// How far the start is.
#[derive(Debug, Default)]
pub struct Start(watch::Sender<Done>);

impl Start {
    /// Notes that a stage is done.
    pub fn done(&self, stage: Stage) {
        self.0.send_modify(|done| match stage {
            Stage::SystemObjects => done.system_objects = true,
            Stage::CustomResources => done.custom_resources = true,
        });
    }

    /// Whether a stage is done.
    #[must_use]
    pub fn is_done(&self, stage: Stage) -> bool {
        let done = *self.0.borrow();
        match stage {
            Stage::SystemObjects => done.system_objects,
            Stage::CustomResources => done.custom_resources,
        }
    }

    /// Returns once everything is done.
    ///
    /// # Errors
    /// 503 when that takes too long.
    pub async fn over(&self) -> Result<(), Status> {
        if self.0.borrow().all() {
            return Ok(());
        }
        let mut told = self.0.subscribe();
        match tokio::time::timeout(WAIT, told.wait_for(|done| done.all())).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::unavailable("the server is starting: it has not read what it serves yet")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_all_of_it_but_not_for_ever() {
        let start = Start::default();
        assert_eq!(start.over().await.expect_err("nothing is done").code, 503);
        start.done(Stage::SystemObjects);
        let waiting = start.over();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        start.done(Stage::CustomResources);
        assert!(waiting.await.is_ok() && start.over().await.is_ok());
        assert!(start.is_done(Stage::SystemObjects));
    }
}
