//! The example: nginx behind a Service, fetched in the three ways a Service is reached, by people and by pods.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Outcome, access};
use crate::cluster::DOMAIN;
use crate::up::Up;

/// The example as a person would apply it.
const NGINX: &str = include_str!("../../examples/nginx.yaml");
/// Images are there already; three containers start in seconds.
const ROLLED_OUT_WITHIN: Duration = Duration::from_secs(120);
/// Rules follow endpoints within a second or two.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// One request, at most.
const REQUEST: Duration = Duration::from_secs(3);
/// nginx's page has 600 bytes; more than this is not read.
const MOST_ANSWER: u64 = 64 << 10;
/// The pod that asks from inside.
const CLIENT: &str = "nginx-client";

/// # Errors
/// Something that the example promises does not work.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    if !up.example {
        return Ok(Outcome::Unchanged("not wanted".into()));
    }
    let client = access::client().await?;
    let (deployment, service) = objects()?;
    let name = deployment.metadata.name.clone().context("the example's Deployment has no name")?;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let mut created = access::ensure(&deployments, &deployment).await?;
    created |= access::ensure(&services, &service).await?;
    if created {
        up.say("example", "rolling out nginx");
    }
    let failure = up
        .wait("the rollout of nginx", ROLLED_OUT_WITHIN, || async {
            let deployment = deployments.get(&name).await?;
            match not_rolled_out(&deployment) {
                None => Ok(Some(None)),
                Some(why) if gave_up(&deployment, up.began) => Ok(Some(Some(why))),
                Some(why) => Err(anyhow::anyhow!(why)),
            }
        })
        .await?;
    if let Some(why) = failure {
        bail!("nginx does not roll out: {why}");
    }

    let spec = services.get(&name).await?.spec.context("the Service has no spec")?;
    let cluster_ip: Ipv4Addr = spec.cluster_ip.as_deref().unwrap_or_default().parse().context("the ClusterIP of the Service")?;
    let port = spec.ports.iter().flatten().next().context("the Service has no port")?;
    let node_port = port.node_port.and_then(|p| u16::try_from(p).ok()).context("the Service has no NodePort")?;
    let node = up.cluster.host().address;
    let outside = [(format!("http://{cluster_ip}/"), cluster_ip, 80), (format!("http://{node}:{node_port}/"), node, node_port)];
    for (url, address, port) in outside {
        let answer = up.wait(&format!("an answer from {url}"), ANSWERS_WITHIN, || async { fetch(address, port).await.map(Some) }).await?;
        println!("{url:<44} {}", summary(&answer)?);
    }
    let url = format!("http://{name}.default.svc.{DOMAIN}/");
    let answer = fetch_inside(up, &Api::default_namespaced(client), &url).await?;
    println!("{url:<44} {}", summary(&answer)?);
    Ok(Outcome::of(created, "nginx answers by ClusterIP, by NodePort, and by name from a pod"))
}

fn objects() -> anyhow::Result<(Deployment, Service)> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(NGINX).context("deploy/examples/nginx.yaml")?;
    let of = |kind: &str| documents.iter().find(|d| d["kind"] == kind).cloned().with_context(|| format!("the example has no {kind}"));
    Ok((serde_json::from_value(of("Deployment")?)?, serde_json::from_value(of("Service")?)?))
}

fn not_rolled_out(deployment: &Deployment) -> Option<String> {
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return Some("the controller-manager has not seen it".into()) };
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    if status.observed_generation < deployment.metadata.generation {
        return Some("the controller-manager has not seen its last change".into());
    }
    (updated < wanted || available < wanted)
        .then(|| format!("of {wanted} pods {updated} are up to date and {available} available; `kubectl describe pods -l app=nginx` says why the others are not"))
}

/// Whether the controller has said, after `began`, that it does not get any further. What it said before may have been mended since.
fn gave_up(deployment: &Deployment, began: SystemTime) -> bool {
    let mut conditions = deployment.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.any(|c| {
        let said_at = c.last_transition_time.as_ref().map_or(SystemTime::UNIX_EPOCH, |t| t.0.into());
        c.type_ == "Progressing" && c.status == "False" && said_at >= began
    })
}

/// nginx's answer in a line: what it says it is, and what its page is called.
fn summary(page: &str) -> anyhow::Result<String> {
    let between = |from: &str, to: &str| page.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(found, _)| found.trim());
    match between("<title>", "</title>") {
        Some(title) if title.contains("nginx") => Ok(match between("Server: ", "\n") {
            Some(server) => format!("{title} ({server})"),
            None => title.to_owned(),
        }),
        _ => bail!("that is not nginx's page: {:?}", page.chars().take(200).collect::<String>()),
    }
}

async fn fetch(address: Ipv4Addr, port: u16) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect((address, port)).await?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.take(MOST_ANSWER).read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(REQUEST, exchange).await.context("no answer")??;
    if !answer.starts_with("HTTP/1.1 200 ") {
        bail!("the answer was {:?}", answer.lines().next().unwrap_or_default());
    }
    Ok(answer)
}

/// Fetches from a pod that lives for this alone.
async fn fetch_inside(up: &Up, pods: &Api<Pod>, url: &str) -> anyhow::Result<String> {
    remove_client(up, pods).await?;
    // Not `wget -T`: with it, the busybox of Debian 12 crashes. `timeout` would keep the container until its time is over.
    let ask = format!("for try in $(seq 30); do wget -q -O - {url} && exit 0; sleep 1; done; exit 1");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": CLIENT },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "busybox", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", ask] }],
        },
    }))?;
    up.wait("the pod that asks nginx", ANSWERS_WITHIN, || async { access::ensure(pods, &pod).await.map(Some) }).await?;
    let phase = up
        .wait(&format!("an answer from {url} inside a pod"), ROLLED_OUT_WITHIN, || async {
            let phase = pods.get(CLIENT).await?.status.and_then(|s| s.phase).unwrap_or_default();
            if phase == "Succeeded" || phase == "Failed" { Ok(Some(phase)) } else { bail!("the pod {CLIENT} is {phase}") }
        })
        .await?;
    let answer = pods.logs(CLIENT, &Default::default()).await.with_context(|| format!("the log of the pod {CLIENT}"))?;
    if phase != "Succeeded" {
        bail!("from inside the pod {CLIENT}, {url} gave no answer: {}", crate::command::tail(&answer, 3));
    }
    remove_client(up, pods).await?;
    Ok(answer)
}

async fn remove_client(up: &Up, pods: &Api<Pod>) -> anyhow::Result<()> {
    up.wait(&format!("the end of the pod {CLIENT}"), ANSWERS_WITHIN, || async {
        match pods.delete(CLIENT, &DeleteParams::default()).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(())),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_whole() {
        let (deployment, service) = objects().expect("the example");
        assert_eq!(deployment.spec.expect("a spec").replicas, Some(3));
        assert_eq!(service.spec.expect("a spec").type_.as_deref(), Some("NodePort"));
        assert_eq!(deployment.metadata.name, service.metadata.name);
    }

    #[test]
    fn only_nginx_is_nginx() {
        let page = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n\r\n<html><title>Welcome to nginx!</title>";
        assert_eq!(summary(page).expect("nginx"), "Welcome to nginx! (nginx/1.22.1)");
        assert!(summary("<title>Login</title>").is_err());
    }
}
