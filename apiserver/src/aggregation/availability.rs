//! Whether an aggregated server is there: the `Available` condition, with upstream's reasons and words. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::resources::cells::{int, items, text};
use crate::verbs::metadata::timestamp;

/// What is known of an APIService's availability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Machine-readable.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Condition {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    /// Of what this server serves itself.
    #[must_use]
    pub fn local() -> Self {
        Self { status: "True", reason: "Local", message: "Local APIServices are always available".to_owned() }
    }

    /// Of a server that answers.
    #[must_use]
    pub fn passed() -> Self {
        Self { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// Of a server that does not answer as it should.
    #[must_use]
    pub fn failed(url: &str, why: &str) -> Self {
        Self::no("FailedDiscoveryCheck", format!("failing or missing response from {url}: {why}"))
    }
}

/// What is wrong with the Service that an APIService names, as far as can be seen without asking it. `service` is that Service, `slices` are
/// its EndpointSlices.
#[must_use]
pub fn obstacle<'a>(spec: &Value, service: Option<&Value>, slices: impl IntoIterator<Item = &'a Value>) -> Option<Condition> {
    let (name, namespace, port) = (text(spec, "/service/name"), text(spec, "/service/namespace"), int(spec, "/service/port"));
    let Some(service) = service else {
        return Some(Condition::no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    if !matches!(text(service, "/spec/type"), "" | "ClusterIP") {
        return None;
    }
    let Some(found) = items(service, "/spec/ports").iter().find(|p| int(p, "/port") == port) else {
        return Some(Condition::no("ServicePortError", format!("service/{name} in {namespace:?} is not listening on port {port}")));
    };
    let port_name = text(found, "/name");
    let mut slices = slices.into_iter().peekable();
    if slices.peek().is_none() {
        return Some(Condition::no("EndpointsNotFound", format!("cannot find endpointslices for service/{name} in {namespace:?}")));
    }
    let active = |slice: &Value| {
        let ready = |e: &Value| e.pointer("/conditions/ready") != Some(&Value::Bool(false)) && !items(e, "/addresses").is_empty();
        items(slice, "/ports").iter().any(|p| text(p, "/name") == port_name) && items(slice, "/endpoints").iter().any(ready)
    };
    if slices.any(active) {
        return None;
    }
    let message = format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
    Some(Condition::no("MissingEndpoints", message))
}

/// Whether an APIService says that it is available.
#[must_use]
pub fn is_available(service: &Value) -> bool {
    items(service, "/status/conditions").iter().any(|c| text(c, "/type") == "Available" && text(c, "/status") == "True")
}

/// The status of an APIService with its condition. The time of the last transition changes with the condition's status alone.
#[must_use]
pub fn status(service: &Value, condition: &Condition, now: Timestamp) -> Value {
    let mut status = service.get("status").filter(|s| s.is_object()).cloned().unwrap_or_else(|| json!({}));
    let mut list = items(&status, "/conditions").to_vec();
    let found = list.iter().position(|c| text(c, "/type") == "Available");
    let since = found.map(|i| &list[i]).filter(|c| text(c, "/status") == condition.status).map(|c| c["lastTransitionTime"].clone());
    let new = json!({"type": "Available", "status": condition.status, "reason": condition.reason, "message": condition.message,
        "lastTransitionTime": since.unwrap_or_else(|| timestamp(now).into())});
    match found {
        Some(i) => list[i] = new,
        None => list.push(new),
    }
    status["conditions"] = list.into();
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::yaml;

    #[track_caller]
    fn check(service: Option<&str>, slices: &[&str], expected: &str) {
        let spec = yaml("{service: {name: s, namespace: ns, port: 443}}");
        let (service, slices) = (service.map(yaml), slices.iter().map(|s| yaml(s)).collect::<Vec<_>>());
        let found = obstacle(&spec, service.as_ref(), &slices);
        assert_eq!(found.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default(), expected);
    }

    #[test]
    fn obstacles_in_upstreams_words() {
        let service = Some("{spec: {type: ClusterIP, ports: [{name: https, port: 443}]}}");
        check(None, &[], r#"False ServiceNotFound: service/s in "ns" is not present"#);
        check(Some("{spec: {ports: [{port: 80}]}}"), &[], r#"False ServicePortError: service/s in "ns" is not listening on port 443"#);
        check(service, &[], r#"False EndpointsNotFound: cannot find endpointslices for service/s in "ns""#);
        let missing = r#"False MissingEndpoints: endpointslices for service/s in "ns" have no addresses with port name "https""#;
        check(service, &["{ports: [{name: other, port: 1}], endpoints: [{addresses: [a]}]}"], missing);
        check(service, &["{ports: [{name: https, port: 1}], endpoints: [{addresses: [a], conditions: {ready: false}}]}"], missing);
        check(service, &["{ports: [{name: https, port: 1}], endpoints: [{addresses: [a]}]}"], "");
        check(Some("{spec: {type: ExternalName, externalName: x}}"), &[], "");
    }

    #[test]
    fn a_transition_has_its_time() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        let mut service = json!({});
        service["status"] = status(&service, &Condition::failed("u", "no"), at("2026-01-01T00:00:00Z"));
        service["status"] = status(&service, &Condition::failed("u", "still no"), at("2026-01-01T00:00:01Z"));
        let condition = &service["status"]["conditions"][0];
        assert_eq!(
            (&condition["lastTransitionTime"], &condition["message"]),
            (&json!("2026-01-01T00:00:00Z"), &json!("failing or missing response from u: still no"))
        );
        assert!(!is_available(&service));
        service["status"] = status(&service, &Condition::passed(), at("2026-01-01T00:00:02Z"));
        assert!(is_available(&service));
        assert_eq!(service["status"]["conditions"].as_array().map(Vec::len), Some(1));
        assert_eq!(service["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:02Z");
    }
}
