//! Asks the three metrics APIs. Each is served by somebody else, by aggregation; without them an answer says which is missing.

use std::str::FromStr as _;

use api::quantity::Quantity;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};
use kube::Client;
use serde::Deserialize;

use super::pods::{Sample, Samples};
use crate::apply::{code, message};
use crate::discovery::Resource;
use crate::ownership::selector;
use crate::watch::escape;

/// A metric's number or numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// One for each pod.
    Pods(Samples),
    /// One in all, in thousandths.
    Total(i64),
}

/// What a metric measured, or why not.
pub type Reading = Result<Measured, String>;

/// Which pods an autoscaler is about.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// Their selector.
    pub selector: &'a str,
}

/// Asks for what a metric measures. `kinds` says how the kind of a described object is called in paths.
pub async fn read(client: &Client, spec: &MetricSpec, scope: &Scope<'_>, kinds: &[Resource]) -> Reading {
    match spec.type_.as_str() {
        "Resource" => {
            let name = spec.resource.as_ref().map(|r| r.name.as_str()).unwrap_or_default();
            resource(client, scope, name, None).await
        }
        "ContainerResource" => {
            let source = spec.container_resource.as_ref();
            let name = source.map(|r| r.name.as_str()).unwrap_or_default();
            resource(client, scope, name, source.map(|r| r.container.as_str())).await
        }
        "Pods" => match &spec.pods {
            Some(source) => pods(client, scope, &source.metric).await,
            None => Err("the metric says not what is measured".to_owned()),
        },
        "Object" => match &spec.object {
            Some(source) => object(client, scope, &source.metric, &source.described_object, kinds).await,
            None => Err("the metric says not what is measured".to_owned()),
        },
        "External" => match &spec.external {
            Some(source) => external(client, scope, &source.metric).await,
            None => Err("the metric says not what is measured".to_owned()),
        },
        other => Err(format!("unknown metric source type {other:?}")),
    }
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> kube::Result<T> {
    client.request(Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?).await
}

/// The error in the words of upstream's clients, which do not repeat what a server says that knows nothing of an API.
fn words(error: &kube::Error, what: &str) -> String {
    match code(error) {
        Some(404) => format!("the server could not find the requested resource (get {what})"),
        Some(503) => format!("the server is currently unable to handle the request (get {what})"),
        _ => message(error),
    }
}

fn milli(text: &str) -> Option<i64> {
    Quantity::from_str(text).ok().map(|q| i64::try_from(q.milli_value()).unwrap_or(i64::MAX))
}

/// A duration as Go writes it: only what metrics servers send, such as `30s` or `1m0s`.
fn window(text: &str) -> SignedDuration {
    text.parse().unwrap_or(SignedDuration::from_mins(1))
}

#[derive(Deserialize)]
struct Items<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: std::collections::BTreeMap<String, String>,
}

impl PodMetrics {
    /// What the pod, or one container of it, uses; nothing when that is not known of all that count.
    fn sum(&self, resource: &str, container: Option<&str>) -> Option<i64> {
        let mut counted = self.containers.iter().filter(|c| container.is_none_or(|name| name == c.name)).peekable();
        counted.peek()?;
        counted.try_fold(0_i64, |sum, c| Some(sum.saturating_add(milli(c.usage.get(resource)?)?)))
    }
}

async fn resource(client: &Client, scope: &Scope<'_>, name: &str, container: Option<&str>) -> Reading {
    let selector = escape(scope.selector);
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods?labelSelector={selector}", scope.namespace);
    let failed = |why: String| format!("unable to get metrics for resource {name}: {why}");
    let list: Items<PodMetrics> = get(client, &path)
        .await
        .map_err(|e| failed(format!("unable to fetch metrics from resource metrics API: {}", words(&e, "pods.metrics.k8s.io"))))?;
    if list.items.is_empty() {
        return Err(failed("no metrics returned from resource metrics API".to_owned()));
    }
    let sample = |m: &PodMetrics| {
        let milli = m.sum(name, container)?;
        Some((m.metadata.name.clone(), Sample { at: m.timestamp, window: window(&m.window), milli }))
    };
    Ok(Measured::Pods(list.items.iter().filter_map(sample).collect()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    #[serde(default)]
    described_object: Option<Named>,
    timestamp: Timestamp,
    #[serde(default)]
    window_seconds: Option<i64>,
    value: String,
}

/// Asks the API of custom metrics, in the version that it serves.
async fn custom(client: &Client, rest: &str) -> kube::Result<Items<MetricValue>> {
    match get(client, &format!("/apis/custom.metrics.k8s.io/v1beta2/{rest}")).await {
        Err(error) if code(&error) == Some(404) => get(client, &format!("/apis/custom.metrics.k8s.io/v1beta1/{rest}")).await,
        other => other,
    }
}

/// The part of a query that selects among a metric's series.
fn series(metric: &MetricIdentifier, parameter: &str) -> String {
    metric.selector.as_ref().map(|s| format!("&{parameter}={}", escape(&selector(s).to_string()))).unwrap_or_default()
}

async fn pods(client: &Client, scope: &Scope<'_>, metric: &MetricIdentifier) -> Reading {
    let (name, chosen) = (escape(&metric.name), series(metric, "metricLabelSelector"));
    let rest = format!("namespaces/{}/pods/*/{name}?labelSelector={}{chosen}", scope.namespace, escape(scope.selector));
    let failed = |why: String| format!("unable to get metric {}: {why}", metric.name);
    let list = custom(client, &rest)
        .await
        .map_err(|e| failed(format!("unable to fetch metrics from custom metrics API: {}", words(&e, "pods.custom.metrics.k8s.io"))))?;
    if list.items.is_empty() {
        return Err(failed("no metrics returned from custom metrics API".to_owned()));
    }
    let sample = |m: &MetricValue| {
        let window = SignedDuration::from_secs(m.window_seconds.unwrap_or(60));
        Some((m.described_object.as_ref()?.name.clone(), Sample { at: m.timestamp, window, milli: milli(&m.value)? }))
    };
    Ok(Measured::Pods(list.items.iter().filter_map(sample).collect()))
}

async fn object(
    client: &Client,
    scope: &Scope<'_>,
    metric: &MetricIdentifier,
    of: &CrossVersionObjectReference,
    kinds: &[Resource],
) -> Reading {
    let group = crate::discovery::group(of.api_version.as_deref().unwrap_or_default());
    let Some(resource) = kinds.iter().find(|r| r.kind == of.kind && r.group() == group) else {
        return Err(format!("no matches for kind {:?} in group {group:?}", of.kind));
    };
    let plural = if group.is_empty() { resource.plural.clone() } else { resource.qualified() };
    let (name, chosen) = (escape(&metric.name), series(metric, "metricLabelSelector").replacen('&', "?", 1));
    let rest = match (of.kind.as_str(), resource.namespaced) {
        ("Namespace", _) => format!("namespaces/{}/metrics/{name}{chosen}", scope.namespace),
        (_, true) => format!("namespaces/{}/{plural}/{}/{name}{chosen}", scope.namespace, of.name),
        (_, false) => format!("{plural}/{}/{name}{chosen}", of.name),
    };
    let failed = |why: String| format!("unable to get metric {}: {} on {} {}/{why}", metric.name, of.kind, scope.namespace, of.name);
    let list = custom(client, &rest).await.map_err(|e| {
        failed(format!("unable to fetch metrics from custom metrics API: {}", words(&e, &format!("{plural}.custom.metrics.k8s.io"))))
    })?;
    let value = list.items.first().and_then(|m| milli(&m.value));
    value.map(Measured::Total).ok_or_else(|| failed("no metrics returned from custom metrics API".to_owned()))
}

async fn external(client: &Client, scope: &Scope<'_>, metric: &MetricIdentifier) -> Reading {
    let chosen = series(metric, "labelSelector").replacen('&', "?", 1);
    let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}{chosen}", scope.namespace, escape(&metric.name));
    let failed = |why: String| {
        let selector = metric.selector.as_ref().map(|s| selector(s).to_string()).unwrap_or_default();
        format!("unable to get external metric {}/{}/{selector}: {why}", scope.namespace, metric.name)
    };
    let list: Items<MetricValue> = get(client, &path).await.map_err(|e| {
        let what = format!("{}.external.metrics.k8s.io", metric.name);
        failed(format!("unable to fetch metrics from external metrics API: {}", words(&e, &what)))
    })?;
    if list.items.is_empty() {
        return Err(failed("no metrics returned from external metrics API".to_owned()));
    }
    Ok(Measured::Total(list.items.iter().filter_map(|m| milli(&m.value)).fold(0, i64::saturating_add)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_counts_when_all_its_containers_are_known() {
        let metrics = |text: &str| -> PodMetrics { serde_json::from_str(text).expect("metrics") };
        let both = metrics(
            r#"{"metadata": {"name": "p"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
                "containers": [{"name": "a", "usage": {"cpu": "100m"}}, {"name": "b", "usage": {"cpu": "1", "memory": "1Ki"}}]}"#,
        );
        assert_eq!((both.sum("cpu", None), both.sum("cpu", Some("a")), both.sum("cpu", Some("x"))), (Some(1100), Some(100), None));
        assert_eq!((both.sum("memory", None), both.sum("memory", Some("b"))), (None, Some(1_024_000)));
    }

    #[test]
    fn windows_are_go_s_durations() {
        assert_eq!(
            (window("30s"), window("1m30s"), window("")),
            (SignedDuration::from_secs(30), SignedDuration::from_secs(90), SignedDuration::from_mins(1))
        );
    }
}
