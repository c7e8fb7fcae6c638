//! TCP probes: does something accept a connection.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Answer;

/// Connects and closes.
pub async fn probe(host: &str, port: u16, timeout: Duration) -> Answer {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Answer::Passed,
        Ok(Err(error)) => Answer::Failed(format!("dial tcp {address}: {}", refusal(&error))),
        Err(_) => Answer::Failed(format!("dial tcp {address}: i/o timeout")),
    }
}

/// A failed connect in Go's words: `connect: connection refused`.
#[must_use]
pub fn refusal(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    let text = rustix::io::Errno::from_raw_os_error(code).to_string();
    // "Connection refused (os error 111)" in Rust, "connection refused" in Go.
    format!("connect: {}", text.split(" (os error").next().unwrap_or_default().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_passes_and_a_closed_port_says_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe("127.0.0.1", port, Duration::from_secs(5)).await, Answer::Passed);
        drop(listener);
        let expected = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(probe("127.0.0.1", port, Duration::from_secs(5)).await, Answer::Failed(expected));
    }
}
