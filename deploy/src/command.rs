//! Other programs: run to their end, with what they said in the error when they fail.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Runs a program and gives back what it printed.
///
/// # Errors
/// The program cannot be started, or ended with failure: the message holds its last lines.
pub fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    output(command)
}

/// As [`run`], for a command that needs more than arguments.
///
/// # Errors
/// As [`run`].
pub fn output(mut command: Command) -> anyhow::Result<String> {
    let line = line(&command);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("starting {line}"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{line}: {}: {}", out.status, tail(&said, 5));
    }
    String::from_utf8(out.stdout).with_context(|| format!("{line} printed something that is not text"))
}

/// As [`run`], without blocking the other steps.
///
/// # Errors
/// As [`run`].
pub async fn run_async<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    tokio::task::spawn_blocking(move || output(command)).await.context("a program's thread")?
}

/// `ip` with arguments in one string.
///
/// # Errors
/// As [`run`].
pub fn ip(args: &str) -> anyhow::Result<String> {
    run("ip", args.split_whitespace())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The last `lines` lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_run_and_what_it_said() {
        let error = run("sh", ["-c", "echo a >&2; echo why >&2; exit 3"]).expect_err("it fails").to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("a\nwhy"), "{error}");
        assert_eq!(run("echo", ["x"]).expect("it works"), "x\n");
    }

    #[test]
    fn tail_keeps_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
