//! What goes wrong on the wire, in the words of Go's libraries: people and tests search for these. Pure.

use std::error::Error;
use std::io::ErrorKind;

use http::StatusCode;
use rustls::CertificateError;

/// The words for a deadline that passed.
pub const DEADLINE: &str = "context deadline exceeded";

/// An error whose text is already what people should read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Said(pub String);

/// The words for an error, found in its innermost cause.
#[must_use]
pub fn of(error: &(dyn Error + 'static)) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error;
    while let Some(at) = cause {
        if let Some(words) = known(at) {
            return words;
        }
        last = at;
        // An io::Error hides what it is made of from `source`.
        let inner = at.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref()).map(|e| e as &(dyn Error + 'static));
        cause = inner.or_else(|| at.source());
    }
    last.to_string()
}

fn known(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(Said(words)) = error.downcast_ref() {
        return Some(words.clone());
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>()
        && error.is_incomplete_message()
    {
        return Some("EOF".to_owned());
    }
    let error = error.downcast_ref::<std::io::Error>().filter(|e| e.get_ref().is_none())?;
    Some(io(error))
}

/// The words for an operating system's error.
#[must_use]
pub fn io(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => error.to_string(),
    }
}

fn tls(error: &rustls::Error) -> String {
    let why = match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => "x509: certificate signed by unknown authority".to_owned(),
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "x509: certificate has expired or is not yet valid".to_owned(),
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names: Vec<&str> = presented.iter().map(|p| plain(p)).collect();
                format!("x509: certificate is valid for {}, not {}", names.join(", "), expected.to_str())
            }
            CertificateError::NotValidForName => "x509: certificate is not valid for this name".to_owned(),
            other => format!("x509: {other}"),
        },
        other => return format!("remote error: tls: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}

/// `DnsName("a")` as `a`.
fn plain(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}

/// What client-go says of an answer that is no success and no Status (`NewGenericServerResponse`).
#[must_use]
pub fn answered(code: u16, body: &str) -> String {
    let known = match code {
        401 => "the server has asked for the client to provide credentials",
        403 => return body.trim().to_owned(),
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        406 => "the server was unable to respond with a content type that the client supports",
        409 => "the server reported a conflict",
        415 => return body.trim().to_owned(),
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request",
        500.. => return format!("an error on the server ({:?}) has prevented the request from succeeding", shown(code, body)),
        400 => "the server rejected our request for an unknown reason",
        _ => return format!("the server responded with the status code {code} but did not return more information"),
    };
    known.to_owned()
}

fn shown(code: u16, body: &str) -> String {
    /// How much of a body is worth showing, in characters.
    const MOST: usize = 2_048;
    let text: String = body.trim().chars().take(MOST).collect();
    if text.is_empty() { StatusCode::from_u16(code).ok().and_then(|c| c.canonical_reason()).unwrap_or("unknown").to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_speaks() {
        let refused = std::io::Error::from(ErrorKind::ConnectionRefused);
        assert_eq!(of(&refused), "connect: connection refused");
        let said = std::io::Error::other(Said("dial tcp 1.2.3.4:5: i/o timeout".to_owned()));
        assert_eq!(of(&said), "dial tcp 1.2.3.4:5: i/o timeout");
        let tls = std::io::Error::other(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(of(&tls), "tls: failed to verify certificate: x509: certificate signed by unknown authority");
        assert_eq!(of(&std::io::Error::other("something")), "something");
    }

    #[test]
    fn answers_without_a_status() {
        assert_eq!(answered(404, "x"), "the server could not find the requested resource");
        assert_eq!(answered(500, "boom\n"), r#"an error on the server ("boom") has prevented the request from succeeding"#);
        assert_eq!(answered(502, ""), r#"an error on the server ("Bad Gateway") has prevented the request from succeeding"#);
        assert_eq!(answered(302, ""), "the server responded with the status code 302 but did not return more information");
    }
}
