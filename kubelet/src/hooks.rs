//! Lifecycle hooks: postStart and preStop, by exec, HTTP or sleep.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::probes::http;
use crate::runtime::Runtime;

/// How the kubelet names itself to HTTP hooks.
const AGENT: &str = "kube-lifecycle/1.35";

/// Why a hook failed. The words go into the event `FailedPostStartHook` or `FailedPreStopHook`.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct HookError(pub String);

/// The container a hook runs for.
#[derive(Clone)]
pub struct Target {
    /// The runtime that holds it.
    pub runtime: Arc<dyn Runtime>,
    /// Its pod.
    pub pod: Arc<Pod>,
    /// Its spec.
    pub container: Container,
    /// Its id.
    pub container_id: String,
    /// The pod's address, for HTTP hooks.
    pub pod_ip: String,
}

/// Runs a hook to its end. The caller bounds the time.
///
/// # Errors
/// The command's exit code, the request's failure.
pub async fn run(hook: &LifecycleHandler, target: &Target) -> Result<(), HookError> {
    if let Some(action) = &hook.exec {
        command(action.command.as_deref().unwrap_or_default(), target).await
    } else if let Some(action) = &hook.http_get {
        request(action, target).await
    } else if let Some(action) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        Ok(())
    } else {
        Err(HookError("Cannot run handler: invalid handler".into())) // a tcpSocket hook never did anything upstream either
    }
}

async fn command(command: &[String], target: &Target) -> Result<(), HookError> {
    let answer = target.runtime.exec_sync(&target.container_id, command.to_vec(), Duration::ZERO).await;
    let answer = answer.map_err(|e| HookError(e.to_string()))?;
    if answer.exit_code == 0 {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
    Err(HookError(format!("command '{}' exited with {}: {output}", command.join(" "), answer.exit_code)))
}

/// A hook's request counts when it is answered, whatever the answer (upstream looks at no status).
async fn request(action: &HTTPGetAction, target: &Target) -> Result<(), HookError> {
    let port = match &action.port {
        IntOrString::String(name) if name.is_empty() => Ok(80),
        port => http::port_number(port, &target.container),
    };
    let mut at = port.and_then(|port| http::Target::new(action, port, &target.pod_ip, AGENT)).map_err(HookError)?;
    match http::get(&at).await {
        // Before 1.23 hooks spoke plain HTTP whatever the scheme said; such servers still work.
        Err(error) if at.scheme == "https" && error.ends_with(http::PLAIN_ANSWER) => {
            at.scheme = "http".into();
            http::get(&at).await.map(drop).map_err(HookError)
        }
        other => other.map(drop).map_err(HookError),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::probes::scripted::Scripted;

    fn target() -> Target {
        let says = |command: &[String]| Ok((i32::from(command[0] == "false"), command.join("+")));
        Target {
            runtime: Arc::new(Scripted { command: Some(Box::new(says)), ..Scripted::default() }),
            pod: Arc::default(),
            container: Container { name: "c".into(), ..Container::default() },
            container_id: "1".into(),
            pod_ip: "127.0.0.1".into(),
        }
    }

    async fn check(hook: serde_json::Value, expected: Result<(), &str>) {
        let hook: LifecycleHandler = serde_json::from_value(hook).unwrap();
        assert_eq!(run(&hook, &target()).await, expected.map_err(|e| HookError(e.to_owned())));
    }

    #[tokio::test]
    async fn a_command_must_succeed() {
        check(json!({"exec": {"command": ["true"]}}), Ok(())).await;
        check(json!({"exec": {"command": ["false", "x"]}}), Err("command 'false x' exited with 1: false+x")).await;
        check(json!({}), Err("Cannot run handler: invalid handler")).await;
    }

    #[tokio::test]
    async fn a_request_must_be_answered_and_https_falls_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4_096];
                let n = stream.read(&mut head).await.unwrap();
                stream.write_all(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
                if head.starts_with(b"GET") {
                    head.truncate(n);
                    return String::from_utf8(head).unwrap();
                }
            }
        });
        check(json!({"httpGet": {"port": port, "path": "/hook", "scheme": "HTTPS"}}), Ok(())).await;
        let head = server.await.unwrap();
        assert!(head.starts_with("GET /hook HTTP/1.1\r\n") && head.contains("user-agent: kube-lifecycle/1.35\r\n"), "{head}");
        let refused = format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        check(json!({"httpGet": {"port": port}}), Err(&refused)).await;
        check(json!({"httpGet": {"port": "web"}}), Err("couldn't find port: \"web\" in container \"c\"")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_takes_its_time() {
        let before = tokio::time::Instant::now();
        check(json!({"sleep": {"seconds": 7}}), Ok(())).await;
        assert_eq!(before.elapsed().as_secs(), 7);
    }
}
