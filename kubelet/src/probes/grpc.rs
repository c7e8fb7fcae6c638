//! gRPC probes: the health checking protocol, `grpc.health.v1.Health/Check`.

use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::Answer;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// The method.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Asks about `service`; the empty name stands for the whole server.
pub async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Answer {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let seconds = timeout.as_secs();
    let endpoint = match Endpoint::from_shared(format!("http://{address}")).and_then(|e| e.user_agent(super::AGENT)) {
        Ok(endpoint) => endpoint,
        Err(error) => return Answer::Errored(error.to_string()),
    };
    let deadline = tokio::time::Instant::now() + timeout;
    // Go's client tries again until the deadline, so a refused connection is told as a timeout.
    let Ok(Ok(channel)) = tokio::time::timeout_at(deadline, endpoint.connect()).await else {
        return Answer::Failed(format!("timeout: failed to connect service {address:?} within {seconds}s: context deadline exceeded"));
    };
    let check = async {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
        let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
        client.unary(request, PathAndQuery::from_static(CHECK), ProstCodec::<_, HealthCheckResponse>::default()).await
    };
    let answer = match tokio::time::timeout_at(deadline, check).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => {
            let what = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)";
            return Answer::Failed(format!("{what}: {}", status.message()));
        }
        Ok(Err(status)) if status.code() != tonic::Code::DeadlineExceeded => {
            let said = format!("rpc error: code = {:?} desc = {}", status.code(), status.message());
            return Answer::Failed(format!("error: health rpc probe failed: {said}"));
        }
        Ok(Err(_)) | Err(_) => return Answer::Failed(format!("timeout: health rpc did not complete within {seconds}s")),
    };
    match answer.status() {
        ServingStatus::Serving => Answer::Passed,
        ServingStatus::NotServing => Answer::Failed("service unhealthy (responded with \"NOT_SERVING\")".into()),
        ServingStatus::ServiceUnknown => Answer::Failed("service unhealthy (responded with \"SERVICE_UNKNOWN\")".into()),
        ServingStatus::Unknown => Answer::Failed("service unhealthy (responded with \"UNKNOWN\")".into()),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;
    use prost::Message as _;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// A health service that answers with the status whose number is the service's name.
    async fn server() -> (u16, tokio_util::sync::DropGuard) {
        let check = |body: Body| async move {
            let frame = body.collect().await.unwrap().to_bytes();
            let request = HealthCheckRequest::decode(&frame[5..]).unwrap();
            let (code, message) = match request.service.parse() {
                Ok(status) => ("0", HealthCheckResponse { status }.encode_to_vec()),
                Err(_) if request.service == "slow" => std::future::pending().await,
                Err(_) => ("5", vec![]),
            };
            let mut data = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            data.extend(message);
            let trailers = [("grpc-status", code), ("grpc-message", "unknown service")];
            let trailers = trailers.map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse::<http::HeaderValue>().unwrap()));
            let frames = [Frame::data(Bytes::from(data)), Frame::trailers(trailers.into_iter().collect())];
            let body = Body::new(StreamBody::new(futures::stream::iter(frames.map(Ok::<_, std::convert::Infallible>))));
            ([("content-type", "application/grpc")], body)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        tokio::spawn(daemon::http::serve(listener, None, Router::new().route(CHECK, post(check)), stop.clone()));
        (port, stop.drop_guard())
    }

    #[tokio::test]
    async fn answers_mean_what_they_mean_upstream() {
        let (port, _stop) = server().await;
        let ask = async |service: &str| match probe("127.0.0.1", port, service, Duration::from_secs(1)).await {
            Answer::Passed => "passed".to_owned(),
            Answer::Failed(text) => text,
            other => format!("{other:?}"),
        };
        assert_eq!(ask("1").await, "passed");
        assert_eq!(ask("2").await, "service unhealthy (responded with \"NOT_SERVING\")");
        assert_eq!(ask("no").await, "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service");
        assert_eq!(ask("slow").await, "timeout: health rpc did not complete within 1s");
        let closed = probe("127.0.0.1", 1, "", Duration::from_secs(1)).await;
        let expected = "timeout: failed to connect service \"127.0.0.1:1\" within 1s: context deadline exceeded";
        assert_eq!(closed, Answer::Failed(expected.into()));
    }
}
