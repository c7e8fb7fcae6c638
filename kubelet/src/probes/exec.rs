//! Exec probes: a command in the container, whose exit code is the answer.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::Answer;
use crate::env::expand;
use crate::runtime::Runtime;

/// The most of a command's output that is told, in bytes (upstream's bound).
const MAX_OUTPUT: usize = 10 << 10;
/// The runtime ends the command at the timeout; if it does not answer soon after, it is not waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Runs `command` in the container, its `$(VAR)`s replaced by variables that the spec gives outright.
pub async fn probe(runtime: &dyn Runtime, id: &str, command: &[String], container: &Container, timeout: Duration) -> Answer {
    let value = |name: &str| container.env.iter().flatten().find(|e| e.name == name).and_then(|e| e.value.as_deref());
    let command: Vec<String> = command.iter().map(|word| expand(word, value)).collect();
    let timed_out = || Answer::Failed(format!("command timed out: {:?} timed out after {}s", command.join(" "), timeout.as_secs()));
    match tokio::time::timeout(timeout + ANSWER_WITHIN, runtime.exec_sync(id, command.clone(), timeout)).await {
        Ok(Ok(answer)) if answer.exit_code == 0 => Answer::Passed,
        Ok(Ok(answer)) => {
            let output = [answer.stdout, answer.stderr].concat();
            Answer::Failed(String::from_utf8_lossy(&output[..output.len().min(MAX_OUTPUT)]).into_owned())
        }
        Ok(Err(error)) if error.code == tonic::Code::DeadlineExceeded => timed_out(),
        Ok(Err(error)) => Answer::Errored(error.to_string()),
        Err(_) => timed_out(),
    }
}
