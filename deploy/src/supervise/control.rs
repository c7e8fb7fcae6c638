//! The supervisor's socket: one question, one answer, each a line of JSON.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::policy::Changes;
use crate::process::Usage;

/// Where the supervisor of a node listens, as the node sees it.
pub const SOCKET: &str = "/run/ferrite/supervisor.sock";
/// No question is longer.
pub const MOST_QUESTION: u64 = 1024;
/// No answer is longer: a line for each of a few dozen daemons.
const MOST_ANSWER: u64 = 1 << 20;
/// It answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// How are the daemons?
    Status,
    /// Read the list of daemons again, please.
    Reload,
    /// End everything, please.
    Stop,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The daemons.
    Status(Vec<DaemonStatus>),
    /// What the new list changes.
    Changes(Changes),
    /// It is ending.
    Stopping,
    /// It could not do that.
    Failed(String),
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its name.
    pub name: String,
    /// Its process in the supervisor's process namespace.
    pub pid: Option<i32>,
    /// In a word: `running`, `starting`, `waiting`, `stopping`.
    pub state: String,
    /// How often it was started again after it died.
    pub restarts: u32,
    /// How it ended last.
    pub last_exit: Option<String>,
    /// For how long it has been running.
    pub uptime: Option<Duration>,
    /// What it uses.
    pub usage: Option<Usage>,
}

/// Asks the supervisor that listens at `socket`.
///
/// # Errors
/// Nobody listens there, or it does not answer.
pub fn ask(socket: &Path, question: Question) -> anyhow::Result<Answer> {
    let attempted = || format!("asking the supervisor at {}", socket.display());
    let answer = (|| -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        let mut line = serde_json::to_vec(&question)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream.take(MOST_ANSWER)).read_line(&mut answer)?;
        Ok(answer)
    })()
    .with_context(attempted)?;
    match serde_json::from_str(&answer).with_context(attempted)? {
        Answer::Failed(why) => bail!("{}: {why}", attempted()),
        answer => Ok(answer),
    }
}
