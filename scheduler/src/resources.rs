//! Amounts of compute resources, and what a pod requests.
//!
//! The request of a pod is what the node sets aside for it: the larger of "all containers together" and "the most that is
//! needed at one time while init containers run", sidecars (restartable init containers, KEP-753) counted from where they
//! start, pod-level requests (KEP-2837) in place of the sum, and the runtime's overhead (KEP-688) on top. While a resize is
//! under way (KEP-1287) a container counts with the larger of what it has and what it wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// What a container that requests no CPU counts with in scores, in millicores.
const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container that requests no memory counts with in scores, in bytes.
const DEFAULT_MEMORY: i64 = 200 << 20;

/// Amounts by resource. CPU in millicores, everything else in whole units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// CPU in millicores.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local ephemeral storage in bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, sorted by name.
    pub scalar: Vec<(Arc<str>, i64)>,
}

impl Resources {
    /// The resources of a `resources.requests` or `status.allocatable`.
    ///
    /// # Errors
    /// A quantity that is none.
    pub fn parse(list: Option<&BTreeMap<String, Text>>) -> Result<Self, String> {
        Ok(Self::from_amounts(&amounts(list)?))
    }

    fn from_amounts(amounts: &Amounts) -> Self {
        let mut out = Self::default();
        for (name, &amount) in amounts {
            match name.as_str() {
                "cpu" => out.milli_cpu = amount,
                "memory" => out.memory = amount,
                "ephemeral-storage" => out.ephemeral_storage = amount,
                other if is_scalar(other) => out.scalar.push((other.into(), amount)),
                _ => {}
            }
        }
        out
    }

    /// The amount of the extended resource `name`.
    #[must_use]
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalar.binary_search_by(|(n, _)| (**n).cmp(name)).map_or(0, |at| self.scalar[at].1)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    fn combine(&mut self, other: &Self, f: fn(i64, i64) -> i64) {
        self.milli_cpu = f(self.milli_cpu, other.milli_cpu);
        self.memory = f(self.memory, other.memory);
        self.ephemeral_storage = f(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            match self.scalar.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(at) => self.scalar[at].1 = f(self.scalar[at].1, *amount),
                Err(at) => self.scalar.insert(at, (name.clone(), f(0, *amount))),
            }
        }
    }

    /// Whether nothing is requested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.milli_cpu == 0 && self.memory == 0 && self.ephemeral_storage == 0 && self.scalar.is_empty()
    }
}

/// Extended resources, huge pages and attachable volumes: what is compared by name alone.
fn is_scalar(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

/// What `pod` requests, and the same with defaults for containers that request no CPU or memory (for scores).
///
/// # Errors
/// A quantity that is none.
pub fn of_pod(pod: &Pod) -> Result<(Resources, Resources), String> {
    let none = Amounts::new();
    let defaults = Amounts::from([("cpu".to_owned(), DEFAULT_MILLI_CPU), ("memory".to_owned(), DEFAULT_MEMORY)]);
    Ok((Resources::from_amounts(&total(pod, &none)?), Resources::from_amounts(&total(pod, &defaults)?)))
}

type Amounts = BTreeMap<String, i64>;

fn amounts(list: Option<&BTreeMap<String, Text>>) -> Result<Amounts, String> {
    let Some(list) = list else { return Ok(Amounts::new()) };
    list.iter()
        .map(|(name, text)| {
            let quantity: Quantity = text.0.parse().map_err(|e| format!("quantity {:?} of {name}: {e}", text.0))?;
            let value = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            Ok((name.clone(), i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })))
        })
        .collect()
}

fn add(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let sum = into.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let most = into.entry(name.clone()).or_insert(*amount);
        *most = (*most).max(*amount);
    }
}

fn total(pod: &Pod, missing: &Amounts) -> Result<Amounts, String> {
    let Some(spec) = &pod.spec else { return Ok(Amounts::new()) };
    let mut sum = Amounts::new();
    for container in &spec.containers {
        add(&mut sum, &of_container(pod, container, missing)?);
    }
    // Init containers run one after another, beside the sidecars that started before them.
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut running = of_container(pod, container, missing)?;
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &running);
            add(&mut sidecars, &running);
            raise(&mut peak, &sidecars);
        } else {
            add(&mut running, &sidecars);
            raise(&mut peak, &running);
        }
    }
    raise(&mut sum, &peak);
    sum.extend(of_whole_pod(spec)?);
    add(&mut sum, &amounts(spec.overhead.as_ref())?);
    Ok(sum)
}

/// Pod-level requests; only these resources may be set there.
fn of_whole_pod(spec: &PodSpec) -> Result<Amounts, String> {
    let mut set = amounts(spec.resources.as_ref().and_then(|r| r.requests.as_ref()))?;
    set.retain(|name, _| name == "cpu" || name == "memory" || name.starts_with("hugepages-"));
    Ok(set)
}

fn of_container(pod: &Pod, container: &Container, missing: &Amounts) -> Result<Amounts, String> {
    let wanted = amounts(container.resources.as_ref().and_then(|r| r.requests.as_ref()))?;
    let mut out = match running(pod, &container.name) {
        None => wanted,
        Some(status) => {
            let mut has = amounts(status.resources.as_ref().and_then(|r| r.requests.as_ref()))?;
            raise(&mut has, &amounts(status.allocated_resources.as_ref())?);
            if !resize_is_infeasible(pod) || has.is_empty() {
                raise(&mut has, &wanted);
            }
            has
        }
    };
    for (name, amount) in missing {
        out.entry(name.clone()).or_insert(*amount);
    }
    Ok(out)
}

fn running<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten()).find(|s| s.name == container)
}

fn resize_is_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(spec: Value, expect: Expect) {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        let (requests, scored) = of_pod(&pod).expect("quantities");
        let show = |r: &Resources| {
            let scalar: String = r.scalar.iter().map(|(n, a)| format!(" {n}={a}")).collect();
            format!("cpu={}m memory={}Mi storage={}{scalar}", r.milli_cpu, r.memory >> 20, r.ephemeral_storage)
        };
        expect.assert_eq(&format!("{} | {}", show(&requests), show(&scored)));
    }

    fn requests(cpu: &str, memory: &str) -> Value {
        json!({"requests": {"cpu": cpu, "memory": memory}})
    }

    #[test]
    fn containers_add_up() {
        let spec = json!({"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "250m", "memory": "64Mi", "ephemeral-storage": "1k", "example.com/x": "2"}}},
            {"name": "b", "resources": requests("1", "1Gi")}, {"name": "c"}]});
        check(spec, expect!["cpu=1250m memory=1088Mi storage=1000 example.com/x=2 | cpu=1350m memory=1288Mi storage=1000 example.com/x=2"]);
    }

    #[test]
    fn init_containers_run_one_at_a_time() {
        let spec = json!({
            "containers": [{"name": "a", "resources": requests("1", "100Mi")}],
            "initContainers": [{"name": "i", "resources": requests("2", "10Mi")}, {"name": "j", "resources": requests("500m", "300Mi")}]});
        check(spec, expect!["cpu=2000m memory=300Mi storage=0 | cpu=2000m memory=300Mi storage=0"]);
    }

    #[test]
    fn sidecars_count_from_where_they_start() {
        let spec = json!({
            "containers": [{"name": "a", "resources": requests("1", "1Mi")}],
            "initContainers": [
                {"name": "before", "resources": requests("3", "1Mi")},
                {"name": "sidecar", "restartPolicy": "Always", "resources": requests("1", "1Mi")},
                {"name": "after", "resources": requests("2500m", "1Mi")}]});
        check(spec, expect!["cpu=3500m memory=2Mi storage=0 | cpu=3500m memory=2Mi storage=0"]);
    }

    #[test]
    fn pod_level_requests_replace_the_sum_and_overhead_is_added() {
        let spec = json!({
            "containers": [{"name": "a", "resources": requests("1", "1Mi")}, {"name": "b"}],
            "resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "250m", "memory": "10Mi"}});
        check(spec, expect!["cpu=2250m memory=11Mi storage=0 | cpu=2250m memory=211Mi storage=0"]);
    }

    #[test]
    fn while_a_resize_is_under_way_the_larger_counts() {
        let pod = |infeasible: bool| -> Pod {
            serde_json::from_value(json!({
                "spec": {"containers": [{"name": "a", "resources": requests("3", "10Mi")}]},
                "status": {
                    "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                        "resources": requests("2", "20Mi"), "allocatedResources": {"cpu": "2", "memory": "20Mi"}}],
                    "conditions": [{"type": "PodResizePending", "status": "True", "reason": if infeasible { "Infeasible" } else { "Deferred" }}],
                }}))
            .expect("a pod")
        };
        let request = |infeasible| of_pod(&pod(infeasible)).map(|(r, _)| (r.milli_cpu, r.memory >> 20));
        assert_eq!(request(false), Ok((3000, 20)));
        assert_eq!(request(true), Ok((2000, 20)));
    }

    #[test]
    fn nonsense_is_an_error() {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "resources": requests("1x", "1")}]}})).expect("a pod");
        assert!(of_pod(&pod).is_err_and(|e| e.starts_with("quantity \"1x\" of cpu")));
    }
}
