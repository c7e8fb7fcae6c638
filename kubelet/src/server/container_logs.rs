//! `/containerLogs/{namespace}/{pod}/{container}`: what `kubectl logs` shows.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::log_lines::Wanted;
use super::query::Params;
use super::{Server, log_file};
use crate::cri;
use crate::runtime::Runtime;

/// Chunks that wait for a slow reader.
const WAITING: usize = 4;

const RUNNING: i32 = cri::ContainerState::ContainerRunning as i32;

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    wanted: Wanted,
    tail: Option<u64>,
    follow: bool,
    previous: bool,
}

impl Options {
    fn parse(params: &Params, now: Timestamp) -> Result<Self, String> {
        let since_seconds: Option<u64> = params.number("sinceSeconds")?;
        let since_time: Option<Timestamp> = params.number("sinceTime")?;
        let since = match (since_seconds, since_time) {
            (Some(_), Some(_)) => return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".into()),
            (Some(0), None) => return Err("invalid sinceSeconds: must be greater than 0".into()),
            (Some(s), None) => {
                let ago = SignedDuration::from_secs(i64::try_from(s).unwrap_or(i64::MAX));
                Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
            }
            (None, time) => time,
        };
        let limit_bytes = params.number("limitBytes")?;
        if limit_bytes == Some(0) {
            return Err("invalid limitBytes: must be greater than 0".into());
        }
        let stream = match params.get("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(other) => return Err(format!("invalid stream: {other:?}")),
        };
        Ok(Self {
            wanted: Wanted { since, timestamps: params.flag("timestamps"), limit_bytes, stream },
            tail: params.number("tailLines")?,
            follow: params.flag("follow"),
            previous: params.flag("previous"),
        })
    }
}

/// Answers with the log, as it is written when the request follows.
pub async fn serve(
    State(server): State<Server>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    params: Params,
) -> Response {
    let options = match Options::parse(&params, Timestamp::now()) {
        Ok(options) => options,
        Err(error) => return (StatusCode::UNPROCESSABLE_ENTITY, error).into_response(),
    };
    let Some(known) = server.pods.by_name(&namespace, &pod) else {
        return (StatusCode::NOT_FOUND, format!("pod {pod:?} does not exist\n")).into_response();
    };
    let Some(spec) = known.pod.spec.as_ref() else { return StatusCode::NOT_FOUND.into_response() };
    let named = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| &c.name);
    if !named.chain(spec.ephemeral_containers.iter().flatten().map(|c| &c.name)).any(|name| *name == container) {
        return (StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {pod:?}\n")).into_response();
    }
    let id = match logged_container(&known.status, &pod, &container, options.previous) {
        Ok(id) => id,
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    let content = [(header::CONTENT_TYPE, "text/plain")];
    match server.runtime.container_status(&id).await {
        Ok(status) => (content, stream(server.runtime.clone(), id, status.log_path.into(), options)).into_response(),
        Err(error) if error.is_not_found() => {
            (content, format!("unable to retrieve container logs for containerd://{id}")).into_response() // upstream's words, and 200
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Whether more of a container's log may come. A runtime that is away for a moment does not end it; one that knows the container no more does.
fn may_run(said: &Result<crate::cri::ContainerStatus, crate::runtime::Error>) -> bool {
    match said {
        Ok(status) => status.state == RUNNING,
        Err(error) => !error.is_not_found(),
    }
}

fn stream(runtime: Arc<dyn Runtime>, id: String, path: PathBuf, options: Options) -> Body {
    let (sender, chunks) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let runs: log_file::Runs = Box::new(move || {
            let (runtime, id) = (runtime.clone(), id.clone());
            Box::pin(async move { may_run(&runtime.container_status(&id).await) })
        });
        let follow = options.follow.then_some(runs);
        if let Err(error) = log_file::read(&path, options.wanted, options.tail, follow, &sender).await {
            let text = format!("failed to read the log {}: {error}\n", path.display());
            tracing::warn!(path = %path.display(), %error, "reading a container's log");
            let _ = sender.send(text.into()).await; // nobody listens: nobody to tell
        }
    });
    Body::from_stream(ReceiverStream::new(chunks).map(Ok::<_, std::convert::Infallible>))
}

/// The id of the container whose log is meant, in upstream's order and words.
fn logged_container(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let Some(now) = lists.into_iter().flatten().flatten().find(|s| s.name == container) else {
        return Err(format!("container {container:?} in pod {pod:?} is not available"));
    };
    let (state, last) = (now.state.clone().unwrap_or_default(), now.last_state.clone().unwrap_or_default());
    let id_of = |text: &Option<String>| text.as_deref().and_then(|t| t.split_once("://")).map(|(_, id)| id.to_owned());
    let last_id = last.terminated.as_ref().and_then(|t| id_of(&t.container_id));
    if previous {
        return last_id.ok_or_else(|| format!("previous terminated container {container:?} in pod {pod:?} not found"));
    }
    let terminated = || format!("container {container:?} in pod {pod:?} is terminated");
    if state.running.is_some() {
        id_of(&now.container_id).ok_or_else(|| format!("container {container:?} in pod {pod:?} is not available"))
    } else if let Some(ended) = &state.terminated {
        id_of(&ended.container_id).or(last_id).ok_or_else(terminated)
    } else if last.terminated.is_some() {
        last_id.ok_or_else(terminated)
    } else {
        Err(format!("container {container:?} in pod {pod:?} is waiting to start{}", why_waiting(now)))
    }
}

fn why_waiting(status: &ContainerStatus) -> String {
    match status.state.as_ref().and_then(|s| s.waiting.as_ref()).map(|w| w.reason.as_deref().unwrap_or_default()) {
        None => " - no logs yet".to_owned(),
        Some("ErrImagePull") => ": image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => ": trying and failing to pull image".to_owned(),
        Some(reason) => format!(": {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(status: serde_json::Value, previous: bool, expected: &str) {
        let mut status = status;
        status["name"] = json!("c");
        let status: PodStatus = serde_json::from_value(json!({"containerStatuses": [status]})).unwrap();
        assert_eq!(logged_container(&status, "p", "c", previous).unwrap_or_else(|e| e), expected);
    }

    #[test]
    fn a_log_ends_with_its_container() {
        let status = |state| Ok(crate::cri::ContainerStatus { state, ..crate::cri::ContainerStatus::default() });
        let refused = |code| Err(crate::runtime::Error { operation: "ContainerStatus", code, message: String::new() });
        assert!(may_run(&status(RUNNING)) && !may_run(&status(RUNNING + 1)));
        assert!(may_run(&refused(tonic::Code::Unavailable)), "the runtime is away");
        assert!(!may_run(&refused(tonic::Code::NotFound)), "the container was removed");
    }

    #[test]
    fn the_newest_container_that_ran_is_meant() {
        let running = json!({"state": {"running": {}}, "containerID": "containerd://2",
            "lastState": {"terminated": {"containerID": "containerd://1", "exitCode": 1}}});
        check(running.clone(), false, "2");
        check(running, true, "1");
        check(json!({"state": {"terminated": {"containerID": "containerd://3", "exitCode": 0}}}), false, "3");
        let waiting = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"containerID": "containerd://1", "exitCode": 1}}});
        check(waiting, false, "1");
    }

    #[test]
    fn without_one_the_words_are_upstreams() {
        let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
        check(waiting("ContainerCreating"), false, "container \"c\" in pod \"p\" is waiting to start: ContainerCreating");
        check(waiting("ImagePullBackOff"), false, "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image");
        check(json!({"state": {}}), false, "container \"c\" in pod \"p\" is waiting to start - no logs yet");
        check(json!({"state": {"running": {}}}), true, "previous terminated container \"c\" in pod \"p\" not found");
        assert_eq!(
            logged_container(&PodStatus::default(), "p", "c", false),
            Err("container \"c\" in pod \"p\" is not available".to_owned())
        );
    }

    #[test]
    fn options_are_checked() {
        let parse = |query: &[(&str, &str)]| {
            let params = Params(query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
            Options::parse(&params, Timestamp::from_second(1_000).unwrap())
        };
        let options = parse(&[("follow", "true"), ("tailLines", "5"), ("sinceSeconds", "10"), ("timestamps", "false")]).unwrap();
        assert_eq!((options.follow, options.tail, options.wanted.timestamps), (true, Some(5), false));
        assert_eq!(options.wanted.since, Some(Timestamp::from_second(990).unwrap()));
        for bad in [&[("tailLines", "-1")][..], &[("limitBytes", "0")], &[("sinceTime", "x")], &[("stream", "x")]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&[("sinceSeconds", "1"), ("sinceTime", "2026-01-01T00:00:00Z")]).is_err());
    }
}
