//! Keeping a set of EndpointSlices as wanted with few writes.
//!
//! An endpoint stays in the slice it is in; new ones fill slices that are written anyway, then one with room; nothing is moved
//! only to tidy up. A Service without endpoints keeps one empty slice, so that clients can tell "none" from "not yet known".

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
        let mut written = 0;
        for group in groups.iter().filter(|g| !g.endpoints.is_empty()) {
            let fits = |s: &&Arc<EndpointSlice>| s.address_type == *address_type && s.ports.as_deref().unwrap_or_default() == group.ports;
            let (ours, others) = left.into_iter().partition(fits);
            left = others;
            written += 1;
            pack(&wanted, address_type, group, ours, plan);
        }
        if written == 0 && wanted.placeholder {
            let keep = left.iter().position(|s| s.address_type == *address_type);
            let empty = slice(&wanted, address_type, None, vec![]);
            match keep {
                Some(i) => write(left.remove(i), empty, plan),
                None => plan.push(Action::create(&empty)),
            }
        }
    }
    plan.actions.extend(left.into_iter().map(|s| Action::delete(s.as_ref(), Propagation::Default)));
}

fn pack(wanted: &Wanted, address_type: &str, group: &Group, existing: Vec<&Arc<EndpointSlice>>, plan: &mut Plan) {
    let id = |e: &Endpoint| (e.addresses.clone(), e.target_ref.as_ref().and_then(|t| t.uid.clone()));
    let mut missing: HashMap<_, &Endpoint> = group.endpoints.iter().map(|e| (id(e), e)).collect();
    let kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = existing
        .into_iter()
        .map(|s| (s, s.endpoints.iter().take(wanted.most).filter_map(|e| missing.remove(&id(e)).cloned()).collect()))
        .collect();
    // In the order wanted, so that the plan is the same each time.
    let mut rest: Vec<Endpoint> = group.endpoints.iter().filter(|e| missing.remove(&id(e)).is_some()).cloned().collect();
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
            plan.push(Action::delete(seen.as_ref(), Propagation::Default));
        } else {
            write(seen, slice(wanted, address_type, Some(group.ports.clone()), endpoints), plan);
        }
    }
    for chunk in rest.chunks(wanted.most) {
        plan.push(Action::create(&slice(wanted, address_type, Some(group.ports.clone()), chunk.to_vec())));
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
