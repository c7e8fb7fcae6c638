//! Keeping a set of EndpointSlices as wanted with few writes.
//!
//! An endpoint stays in the slice it is in; new ones fill slices that are written anyway, then one with room; nothing is moved
//! only to tidy up. A slice that would go is turned into one that is missing, so that there is no moment without. A Service without endpoints keeps one empty slice, so that clients can tell "none" from "not yet known".

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::kind::Object as _;
use crate::plan::{Action, Plan, Propagation};

/// Names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Names the controller of a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Endpoints that share ports and address type.
#[derive(Debug, Default)]
pub struct Group {
    /// Their ports.
    pub ports: Vec<EndpointPort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// The slices wanted for one Service.
pub struct Wanted {
    /// The object that owns them.
    pub owner: OwnerReference,
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// Their annotations.
    pub annotations: BTreeMap<String, String>,
    /// For each address type, the groups.
    pub groups: BTreeMap<String, Vec<Group>>,
    /// Most endpoints in a slice.
    pub most: usize,
    /// Whether an address type without endpoints keeps an empty slice.
    pub placeholder: bool,
}

/// Adds to `plan` what makes `existing` into `wanted`.
pub fn reconcile(wanted: Wanted, existing: &[Arc<EndpointSlice>], plan: &mut Plan) {
    let mut left: Vec<&Arc<EndpointSlice>> = existing.iter().filter(|s| !s.deleting()).collect();
    for (address_type, groups) in &wanted.groups {
        let (mut missing, mut surplus) = (Vec::new(), Vec::new());
        let mut any = false;
        for group in groups.iter().filter(|g| !g.endpoints.is_empty()) {
            let fits = |s: &&Arc<EndpointSlice>| s.address_type == *address_type && s.ports.as_deref().unwrap_or_default() == group.ports;
            let (ours, others) = left.into_iter().partition(fits);
            left = others;
            any = true;
            pack(&wanted, address_type, group, ours, &mut missing, &mut surplus, plan);
        }
        if !any && wanted.placeholder {
            missing.push(slice(&wanted, address_type, None, vec![]));
        }
        let (ours, others) = left.into_iter().partition::<Vec<_>, _>(|s| s.address_type == *address_type);
        left = others;
        surplus.extend(ours);
        let reused = missing.len().min(surplus.len());
        surplus.drain(..reused).zip(missing.drain(..reused)).for_each(|(seen, slice)| write(seen, slice, plan));
        plan.actions.extend(missing.iter().map(Action::create));
        left.extend(surplus);
    }
    plan.actions.extend(left.into_iter().map(|s| Action::delete(s.as_ref(), Propagation::Default)));
}

/// Writes what changes in the slices of one group; tells which slices are `missing` and which are empty and `surplus`.
fn pack<'a>(
    wanted: &Wanted,
    address_type: &str,
    group: &Group,
    existing: Vec<&'a Arc<EndpointSlice>>,
    missing: &mut Vec<EndpointSlice>,
    surplus: &mut Vec<&'a Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let id = |e: &Endpoint| (e.addresses.clone(), e.target_ref.as_ref().and_then(|t| t.uid.clone()));
    let mut unplaced: HashMap<_, &Endpoint> = group.endpoints.iter().map(|e| (id(e), e)).collect();
    let kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = existing
        .into_iter()
        .map(|s| (s, s.endpoints.iter().take(wanted.most).filter_map(|e| unplaced.remove(&id(e)).cloned()).collect()))
        .collect();
    // In the order wanted, so that the plan is the same each time.
    let mut rest: Vec<Endpoint> = group.endpoints.iter().filter(|e| unplaced.remove(&id(e)).is_some()).cloned().collect();
    let mut slices: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    let mut same: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for (seen, mut endpoints) in kept {
        if endpoints == seen.endpoints {
            same.push((seen, endpoints));
        } else {
            endpoints.extend(rest.drain(..rest.len().min(wanted.most - endpoints.len())));
            slices.push((seen, endpoints));
        }
    }
    // The fullest of the untouched slices that can take the rest.
    if !rest.is_empty()
        && let Some((_, endpoints)) = same.iter_mut().filter(|(_, e)| e.len() + rest.len() <= wanted.most).max_by_key(|(_, e)| e.len())
    {
        endpoints.append(&mut rest);
    }
    slices.append(&mut same);
    for (seen, endpoints) in slices {
        if endpoints.is_empty() {
            surplus.push(seen);
        } else {
            write(seen, slice(wanted, address_type, Some(group.ports.clone()), endpoints), plan);
        }
    }
    for chunk in rest.chunks(wanted.most) {
        missing.push(slice(wanted, address_type, Some(group.ports.clone()), chunk.to_vec()));
    }
}

fn slice(wanted: &Wanted, address_type: &str, ports: Option<Vec<EndpointPort>>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", wanted.owner.name)),
        namespace: Some(wanted.namespace.clone()),
        labels: Some(wanted.labels.clone()),
        annotations: Some(wanted.annotations.clone()).filter(|a| !a.is_empty()),
        owner_references: Some(vec![wanted.owner.clone()]),
        ..ObjectMeta::default()
    };
    EndpointSlice { metadata, address_type: address_type.to_owned(), endpoints, ports: ports.filter(|p| !p.is_empty()) }
}

fn write(seen: &EndpointSlice, mut slice: EndpointSlice, plan: &mut Plan) {
    slice.metadata = ObjectMeta {
        labels: slice.metadata.labels,
        annotations: slice.metadata.annotations.or(seen.metadata.annotations.clone()),
        owner_references: slice.metadata.owner_references,
        ..seen.metadata.clone()
    };
    // An empty list and none are the same.
    if slice.ports.is_none() && seen.ports.as_ref().is_some_and(Vec::is_empty) {
        slice.ports = Some(vec![]);
    }
    plan.update(seen, &slice);
}
