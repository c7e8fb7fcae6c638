//! A pod's class of service, from what its containers ask for.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

type List = BTreeMap<String, Text>;

/// `Guaranteed`: every container limits CPU and memory and asks for as much. `BestEffort`: none asks for any. Else `Burstable`.
pub fn class(spec: &PodSpec) -> &'static str {
    let of_containers = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.resources.as_ref());
    // What is said for the pod as a whole counts alone.
    match spec.resources.as_ref().filter(|r| asks(r.requests.as_ref()) || asks(r.limits.as_ref())) {
        Some(whole) => class_of(&[Some(whole)]),
        None => class_of(&of_containers.collect::<Vec<_>>()),
    }
}

fn amount(list: Option<&List>, name: &str) -> Option<Quantity> {
    list?.get(name)?.0.parse().ok().filter(|q: &Quantity| !q.is_zero())
}

fn asks(list: Option<&List>) -> bool {
    ["cpu", "memory"].iter().any(|name| amount(list, name).is_some())
}

fn class_of(all: &[Option<&ResourceRequirements>]) -> &'static str {
    let some = |r: &Option<&ResourceRequirements>| r.is_some_and(|r| asks(r.requests.as_ref()) || asks(r.limits.as_ref()));
    if !all.iter().any(some) {
        return "BestEffort";
    }
    let full = |r: &Option<&ResourceRequirements>| {
        r.is_some_and(|r| {
            ["cpu", "memory"].iter().all(|name| {
                let limit = amount(r.limits.as_ref(), name);
                limit.is_some() && amount(r.requests.as_ref(), name).is_none_or(|request| Some(request) == limit)
            })
        })
    };
    if all.iter().all(full) { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let class_of = |resources: &str| {
            let spec = format!("{{containers: [{{name: a, resources: {resources}}}]}}");
            class(&serde_json::from_value(crate::resources::rows_in_tests::yaml(&spec)).unwrap())
        };
        assert_eq!(class_of("{}"), "BestEffort");
        assert_eq!(class_of("{limits: {cpu: 1, memory: 1Gi}}"), "Guaranteed");
        assert_eq!(class_of("{limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1000m, memory: 1024Mi}}"), "Guaranteed");
        assert_eq!(class_of("{limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}"), "Burstable");
        assert_eq!(class_of("{requests: {cpu: 500m}}"), "Burstable");
        assert_eq!(class_of("{limits: {example.com/gpu: 1}}"), "BestEffort");
    }
}
