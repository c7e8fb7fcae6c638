//! Errors in words for logs and messages: each cause once.
//!
//! `kube`'s errors print their causes themselves, so that a chain printed as `{:#}` says everything twice, and an answer of the
//! apiserver is printed with all its fields. Here each cause is said once, and an answer is its message.

use std::error::Error;

/// The error and its causes, each said once.
#[must_use]
pub fn describe(error: &(dyn Error + 'static)) -> String {
    if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
        return match status.message.is_empty() {
            true => format!("{} ({})", status.reason, status.code),
            false => status.message.clone(),
        };
    }
    let own = error.to_string();
    let Some(cause) = error.source() else { return own };
    let (said, words) = (cause.to_string(), describe(cause));
    // What prints its cause prints it last.
    match own.strip_suffix(&said) {
        Some(rest) => format!("{rest}{words}"),
        None if own.contains(&words) => own,
        None => format!("{own}: {words}"),
    }
}

/// As [`describe`], for the errors of `anyhow`.
#[must_use]
pub fn describe_any(error: &anyhow::Error) -> String {
    let error: &(dyn Error + Send + Sync + 'static) = error.as_ref();
    describe(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("watch stream failed: {0}")]
    struct Outer(#[source] kube::Error);

    #[track_caller]
    fn check(error: impl Into<anyhow::Error>, expected: &str) {
        assert_eq!(describe_any(&error.into()), expected);
    }

    fn refused() -> std::io::Error {
        std::io::Error::from_raw_os_error(111)
    }

    #[test]
    fn a_cause_is_said_once() {
        check(kube::Error::Service(Box::new(refused())), "ServiceError: Connection refused (os error 111)");
        check(Outer(kube::Error::Service(Box::new(refused()))), "watch stream failed: ServiceError: Connection refused (os error 111)");
        check(anyhow::Error::new(refused()).context("asking"), "asking: Connection refused (os error 111)");
        check(anyhow::anyhow!("alone"), "alone");
    }

    #[test]
    fn an_answer_is_its_message() {
        let status =
            kube::core::Status { code: 404, reason: "NotFound".into(), message: "pods \"a\" not found".into(), ..Default::default() };
        let api = |status: &kube::core::Status| kube::Error::Api(Box::new(status.clone()));
        check(Outer(api(&status)), "watch stream failed: pods \"a\" not found");
        check(anyhow::Error::new(api(&status)).context("asking"), "asking: pods \"a\" not found");
        check(api(&kube::core::Status { message: String::new(), ..status }), "NotFound (404)");
    }
}
