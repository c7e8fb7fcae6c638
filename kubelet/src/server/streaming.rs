//! exec, attach and port-forward: the runtime is asked for a URL, and the client's upgraded connection is joined to it.
//!
//! Bytes are carried both ways untouched: header case, repeated headers and half-closed connections included. Nothing is
//! copied before the runtime has answered 101. What is said over the connection (SPDY, WebSocket up to v4) is not looked at: what the
//! runtime does not speak, the apiserver has translated. A client that goes takes its connection to the runtime with it, and so the
//! command's input and output.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;

use super::Server;
use super::query::Params;
use crate::cri;
use crate::pods::Known;
use crate::runtime;

/// How long the runtime may take to accept a connection and to answer its head.
const HEAD_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

type Refusal = (StatusCode, String);

/// The streams that are asked for, in either spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Streams {
    /// The kubelet's own names are `input`, `output` and `error`; the API's are accepted too.
    fn parse(params: &Params) -> Result<Self, Refusal> {
        let either = |a: &str, b: &str| params.flag(a) || params.flag(b);
        let (stdin, stdout, tty) = (either("input", "stdin"), either("output", "stdout"), params.flag("tty"));
        // A terminal has one output.
        let stderr = either("error", "stderr") && !tty;
        if !(stdin || stdout || stderr) {
            return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr".into()));
        }
        Ok(Self { stdin, stdout, stderr, tty })
    }
}

/// `/exec/{namespace}/{pod}[/{uid}]/{container}`.
pub async fn exec(State(server): State<Server>, Path(path): Path<Vec<(String, String)>>, params: Params, request: Request) -> Response {
    answer(async {
        let (known, container) = find(&server, &path)?;
        let streams = Streams::parse(&params)?;
        let id = running(&known, &container)?;
        let cmd: Vec<String> = params.all("command").map(str::to_owned).collect();
        let Streams { stdin, stdout, stderr, tty } = streams;
        let url = server.runtime.exec(cri::ExecRequest { container_id: id, cmd, tty, stdin, stdout, stderr }).await.map_err(failed)?;
        Ok((request, url))
    })
    .await
}

/// `/attach/{namespace}/{pod}[/{uid}]/{container}`.
pub async fn attach(State(server): State<Server>, Path(path): Path<Vec<(String, String)>>, params: Params, request: Request) -> Response {
    answer(async {
        let (known, container) = find(&server, &path)?;
        let Streams { stdin, stdout, stderr, .. } = Streams::parse(&params)?;
        let id = running(&known, &container)?;
        // Whether there is a terminal was decided when the container was made.
        let tty = has_terminal(&known.pod, &container);
        let attach = cri::AttachRequest { container_id: id, stdin, tty, stdout, stderr: stderr && !tty };
        let url = server.runtime.attach(attach).await.map_err(failed)?;
        Ok((request, url))
    })
    .await
}

/// `/portForward/{namespace}/{pod}[/{uid}]`.
pub async fn port_forward(
    State(server): State<Server>,
    Path(path): Path<Vec<(String, String)>>,
    params: Params,
    request: Request,
) -> Response {
    answer(async {
        let (known, _) = find(&server, &path)?;
        let ports: Result<Vec<i32>, _> = params.all("port").flat_map(|p| p.split(',')).map(str::parse).collect();
        let port = ports.map_err(|_| (StatusCode::BAD_REQUEST, "invalid port".to_owned()))?;
        let uid = known.pod.metadata.uid.clone().unwrap_or_default();
        let filter = cri::PodSandboxFilter {
            state: Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() }),
            label_selector: [("io.kubernetes.pod.uid".to_owned(), uid)].into(),
            ..cri::PodSandboxFilter::default()
        };
        let sandboxes = server.runtime.list_pod_sandboxes(Some(filter)).await.map_err(failed)?;
        let sandbox = sandboxes.into_iter().max_by_key(|s| s.created_at);
        let sandbox = sandbox.ok_or_else(|| (StatusCode::INTERNAL_SERVER_ERROR, "sandbox not found".to_owned()))?;
        let url = server.runtime.port_forward(cri::PortForwardRequest { pod_sandbox_id: sandbox.id, port }).await.map_err(failed)?;
        Ok((request, url))
    })
    .await
}

fn failed(error: runtime::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn find(server: &Server, path: &[(String, String)]) -> Result<(Known, String), Refusal> {
    let part = |name: &str| path.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let known = server.pods.by_name(part("namespace").unwrap_or_default(), part("pod").unwrap_or_default());
    let known = known.filter(|k| part("uid").is_none_or(|uid| k.pod.metadata.uid.as_deref() == Some(uid)));
    let known = known.ok_or_else(|| (StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    Ok((known, part("container").unwrap_or_default().to_owned()))
}

fn running(known: &Known, container: &str) -> Result<String, Refusal> {
    let status = &known.status;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let now = lists.into_iter().flatten().flatten().find(|s| s.name == container);
    let runs = now.and_then(|s| s.state.as_ref()).is_some_and(|s| s.running.is_some());
    let id = known.container_id(container).filter(|_| runs);
    id.map(str::to_owned).ok_or_else(|| (StatusCode::INTERNAL_SERVER_ERROR, format!("container not found ({container:?})")))
}

fn has_terminal(pod: &Pod, container: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| (&c.name, c.tty));
        let mut all = containers.chain(spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, c.tty)));
        all.any(|(name, tty)| name == container && tty == Some(true))
    })
}

/// Joins the client to the URL, or says why not.
async fn answer(prepared: impl Future<Output = Result<(Request, String), Refusal>>) -> Response {
    let joined = async {
        let (request, url) = prepared.await?;
        let url: Uri = url.parse().map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, format!("the runtime's URL {url:?}: {e}")))?;
        tunnel(request, &url).await
    };
    joined.await.unwrap_or_else(IntoResponse::into_response)
}

/// Sends `request` on to `url` and, when it is upgraded, carries bytes until either side goes.
async fn tunnel(mut request: Request, url: &Uri) -> Result<Response, Refusal> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Err((StatusCode::BAD_REQUEST, "Upgrade request required".into()));
    }
    let broken = |what: &str, error: String| (StatusCode::BAD_GATEWAY, format!("{what} the container runtime: {error}"));
    let authority = url.authority().ok_or_else(|| broken("finding", format!("no address in {url}")))?.clone();
    let client = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    parts.uri = url.path_and_query().map(|p| Uri::from(p.clone())).unwrap_or_default();
    // The runtime's server trusts whoever has the URL; who the client is concerns only us.
    parts.headers.remove(header::AUTHORIZATION);
    parts.headers.insert(header::HOST, authority.as_str().parse().map_err(|_| broken("finding", authority.to_string()))?);
    let request = Request::from_parts(parts, body);

    let head = async {
        let stream = TcpStream::connect((authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80))).await;
        let stream = stream.map_err(|e| broken("connecting to", e.to_string()))?;
        daemon::http::lively(&stream).map_err(|e| broken("connecting to", e.to_string()))?;
        let builder =
            hyper::client::conn::http1::Builder::new().preserve_header_case(true).handshake::<_, Body>(TokioIo::new(stream)).await;
        let (mut sender, connection) = builder.map_err(|e| broken("connecting to", e.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to the container runtime");
            }
        });
        sender.send_request(request).await.map_err(|e| broken("asking", e.to_string()))
    };
    let timed_out = |_| (StatusCode::GATEWAY_TIMEOUT, "the container runtime did not answer".to_owned());
    let mut response = tokio::time::timeout(HEAD_WITHIN, head).await.map_err(timed_out)??;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(Body::new));
    }
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let (client, server) = match tokio::try_join!(client, server) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrading a connection"),
        };
        daemon::join::join(TokioIo::new(client), TokioIo::new(server)).await;
    });
    let (parts, _) = response.into_parts();
    Ok(Response::from_parts(parts, Body::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_asked_for_in_either_spelling() {
        let parse = |query: &str| {
            let pairs = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
            let params = Params(pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
            Streams::parse(&params).map(|s| (s.stdin, s.stdout, s.stderr, s.tty)).map_err(|(status, _)| status.as_u16())
        };
        assert_eq!(parse("input=1&output=1&error=1"), Ok((true, true, true, false)));
        assert_eq!(parse("stdin=true&stdout=true&stderr=true&tty=true"), Ok((true, true, false, true)));
        assert_eq!(parse("stdout=true&stdin=false"), Ok((false, true, false, false)));
        assert_eq!(parse("tty=true&stderr=true"), Err(400));
    }
}
