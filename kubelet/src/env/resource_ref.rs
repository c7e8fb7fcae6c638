//! `resourceFieldRef`: a container's requests and limits, in units of a divisor, rounded up.
//!
//! A container without a limit may use what the node has, so its limit reads as the node's allocatable amount.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::EnvError;

/// The pod's container or init container of that name.
///
/// # Errors
/// There is none.
pub fn container_named<'a>(pod: &'a Pod, name: &str) -> Result<&'a Container, EnvError> {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
        .find(|c| c.name == name)
        .ok_or_else(|| EnvError(format!("container {name} not found")))
}

/// The amount that `resource`, such as `limits.memory`, names.
///
/// # Errors
/// A resource that cannot be shown, or an amount that is no quantity.
pub fn resource_value(
    container: &Container,
    resource: &str,
    divisor: Option<&Text>,
    allocatable: &BTreeMap<String, Text>,
) -> Result<String, EnvError> {
    let unsupported = || EnvError(format!("unsupported container resource : {resource}"));
    let (kind, name) = resource.split_once('.').ok_or_else(unsupported)?;
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let own = match kind {
        "limits" => resources.and_then(|r| r.limits.as_ref()).and_then(|m| m.get(name)).or_else(|| allocatable.get(name)),
        "requests" => resources.and_then(|r| r.requests.as_ref()).and_then(|m| m.get(name)),
        _ => return Err(unsupported()),
    };
    let parse =
        |text: &Text| text.0.parse::<Quantity>().map_err(|_| EnvError(format!("quantity {:?} of {resource} cannot be read", text.0)));
    let in_units = |quantity: &Quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() };
    let one: i128 = if name == "cpu" { 1000 } else { 1 };
    let amount = own.map(parse).transpose()?.map_or(0, |q| in_units(&q));
    let divisor = divisor.map(parse).transpose()?.map_or(one, |q| in_units(&q));
    let divisor = if divisor <= 0 { one } else { divisor };
    Ok((amount.max(0) / divisor + i128::from(amount.max(0) % divisor != 0)).to_string())
}
