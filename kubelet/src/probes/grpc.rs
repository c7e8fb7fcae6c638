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
