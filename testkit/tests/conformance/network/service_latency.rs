//! How soon a Service has endpoints.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-network] Service endpoints latency should not be very high", test!(endpoints_come_soon))];

const SERVICES: usize = 100;
const AT_ONCE: usize = 15;

async fn endpoints_come_soon(f: Framework) -> anyhow::Result<()> {
    let labels = json!({"name": "svc-latency-rc"});
    f.wire.post(&f.core("replicationcontrollers"), &Framework::replication_controller("svc-latency-rc", 1, &labels)).await.expect(201);
    let pods = f.until_pods("name=svc-latency-rc", 1).await;
    f.until_ready(pods[0]["metadata"]["name"].as_str().expect("a name")).await;

    let mut watch = f.watch_from_now(&f.core("endpoints")).await;
    let create = futures::stream::iter(0..SERVICES).map(|number| {
        let f = f.clone();
        async move {
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("latency-svc-{number}")},
                "spec": {"selector": {"name": "svc-latency-rc"}, "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]},
            });
            let began = Instant::now();
            f.wire.post(&f.core("services"), &service).await.expect(201);
            (service["metadata"]["name"].as_str().expect("a name").to_owned(), began)
        }
    });
    let create = create.buffer_unordered(AT_ONCE).collect::<BTreeMap<_, _>>();
    let seen = async {
        let mut seen = BTreeMap::new();
        while seen.len() < SERVICES {
            let event = watch.next().await.expect("another event");
            let object = &event["object"];
            if object["subsets"][0]["addresses"].as_array().is_some_and(|a| a.len() == 1) {
                seen.entry(object["metadata"]["name"].as_str().expect("a name").to_owned()).or_insert_with(Instant::now);
            }
        }
        seen
    };
    let (began, seen) = tokio::join!(create, seen);
    let mut took: Vec<Duration> = began.iter().map(|(name, began)| seen[name].duration_since(*began)).collect();
    took.sort();
    let percentile = |p: usize| took[took.len() * p / 100];
    assert!(percentile(50) < Duration::from_secs(20) && percentile(90) < Duration::from_secs(50), "{took:?}");
    Ok(())
}
