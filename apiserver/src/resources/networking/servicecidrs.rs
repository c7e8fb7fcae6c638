//! networking.k8s.io/v1 ServiceCIDR

use api::field::{Errors, Path};
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRStatus};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::cells::items;
use crate::resources::network::validate_cidr;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "ServiceCIDR", "servicecidrs")
        .status()
        .columns(vec![Column::name(), Column::compute("CIDRs", |o, _| cidrs(o).into()), Column::age()])
        .rules::<ServiceCIDR>(CidrRules)
}

fn cidrs(o: &Value) -> String {
    items(o, "/spec/cidrs").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

struct CidrRules;

impl Rules<ServiceCIDR> for CidrRules {
    fn prepare_create(&self, cidr: &mut ServiceCIDR, _: Cx<'_>) {
        cidr.status = Some(ServiceCIDRStatus::default());
    }
    fn prepare_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut ServiceCIDR, old: &ServiceCIDR, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, cidr: &ServiceCIDR, errors: &mut Errors) {
        let path = Path::new("spec").child("cidrs");
        let all = cidr.spec.as_ref().and_then(|s| s.cidrs.as_deref()).unwrap_or_default();
        match all.len() {
            0 => errors.required(&path, "at least one CIDR required"),
            n if n > 2 => errors.invalid(&path, &serde_json::json!(all), "may only hold up to 2 values"),
            _ => {}
        }
        if let [a, b] = all
            && a.contains(':') == b.contains(':')
        {
            errors.invalid(
                &path,
                &serde_json::json!(all),
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            );
        }
        for (i, one) in all.iter().enumerate() {
            validate_cidr(one, &path.index(i), errors);
        }
    }
    fn validate_update(&self, new: &ServiceCIDR, old: &ServiceCIDR, errors: &mut Errors) {
        let all = |c: &ServiceCIDR| c.spec.as_ref().and_then(|s| s.cidrs.clone());
        errors.immutable(&Path::new("spec").child("cidrs"), &all(new), &all(old));
    }
}
