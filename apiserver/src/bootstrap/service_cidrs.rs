//! ServiceCIDR objects: the cluster's own range as the object `kubernetes`, and what becomes of further ones (KEP-1880).
//!
//! A range that is there is Ready, and addresses are handed out of it. One that is being deleted hands out nothing more, and goes when every
//! address out of it is gone or lies in another range.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use api::object::Meta as _;
use api::status::Status;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{call, ensure, options};
use crate::allocate::cluster_ip;
use crate::server::Server;
use crate::verbs::metadata::timestamp;
use crate::verbs::projection::Part;
use crate::verbs::update::{self, Absent};
use crate::verbs::{Call, Reply};

/// The object of the range that the flags say.
const DEFAULT: &str = "kubernetes";
/// What holds a range until its addresses are gone.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const PREFIX: &str = "/registry/networking.k8s.io/servicecidrs/";
/// How often everything is looked at though nothing changed.
const EVERY: Duration = Duration::from_secs(60);
/// How often, while a range is being deleted: addresses go one by one.
const WHILE_DELETING: Duration = Duration::from_secs(2);

/// A step of the upkeep.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// The object is made.
    Create(Value),
    /// The object's finalizers become these; it goes when it is being deleted and nothing holds it.
    SetFinalizers(String, Vec<String>),
    /// The object's status becomes this one's.
    SetStatus(Value),
}

fn ranges(object: &Value) -> impl Iterator<Item = Ipv4Net> {
    let cidrs = object.pointer("/spec/cidrs").and_then(Value::as_array).into_iter().flatten();
    cidrs.filter_map(|c| c.as_str()?.parse().ok())
}

/// Out of which ranges addresses are handed out: the flags' first.
fn usable(have: &[Value], default: Ipv4Net) -> Vec<Ipv4Net> {
    let mut out = vec![default];
    for range in have.iter().filter(|o| !o.is_deleting()).flat_map(ranges) {
        if !out.contains(&range) {
            out.push(range);
        }
    }
    out
}

/// What is to be done about what there is; `addresses` are those in use. Pure.
fn plan(have: &[Value], default: Ipv4Net, addresses: &[Ipv4Addr], now: Timestamp) -> Vec<Step> {
    let mut steps = vec![];
    if !have.iter().any(|o| o.name() == DEFAULT) {
        steps.push(Step::Create(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": DEFAULT}, "spec": {"cidrs": [default.to_string()]},
        })));
    }
    let usable = usable(have, default);
    for object in have {
        let mut finalizers: Vec<&str> = object.finalizers();
        let within = |range: &Ipv4Net, a: &Ipv4Addr| range.contains(a);
        let orphans = addresses.iter().any(|a| ranges(object).any(|r| within(&r, a)) && !usable.iter().any(|r| within(r, a)));
        if object.is_deleting() && !orphans {
            finalizers.retain(|f| *f != FINALIZER);
        } else if !object.is_deleting() && !finalizers.contains(&FINALIZER) {
            finalizers.push(FINALIZER);
        }
        if finalizers != object.finalizers() {
            steps.push(Step::SetFinalizers(object.name().to_owned(), finalizers.into_iter().map(str::to_owned).collect()));
        }
        let (status, reason, message) = if object.is_deleting() {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            ("False", "Terminating", message)
        } else {
            ("True", "", "Kubernetes Service CIDR is ready")
        };
        let old = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_it = |c: &&Value| c["type"] == "Ready";
        if old.iter().find(is_it).is_none_or(|c| c["status"] != status) && (orphans || !object.is_deleting()) {
            let condition =
                json!({"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": timestamp(now)});
            let mut new = object.clone();
            new["status"]["conditions"] = old.iter().filter(|c| !is_it(c)).cloned().chain([condition]).collect();
            steps.push(Step::SetStatus(new));
        }
    }
    steps
}

/// Keeps the objects right, and the allocator's ranges what they say, until the server stops.
pub async fn keep(server: Arc<Server>) {
    let cache = server.hub.cache(PREFIX);
    loop {
        // What happens from here on is seen, also while steps are taken.
        let mut changes = cache.snapshot("", 0).2;
        let deleting = once(&server).await.unwrap_or_else(|status| {
            tracing::warn!(%status, "the ranges of cluster IPs");
            true
        });
        tokio::select! {
            () = changes.moved() => {}
            () = tokio::time::sleep(if deleting { WHILE_DELETING } else { EVERY }) => {}
        }
    }
}

/// Looks at everything once; says whether a range is being deleted.
///
/// # Errors
/// A write that fails.
pub async fn once(server: &Arc<Server>) -> Result<bool, Status> {
    server.hub.fresh().await?;
    let entries = server.hub.cache(PREFIX).snapshot("", 0).0;
    let have = entries.iter().map(|e| e.tree().map_err(Status::internal)).collect::<Result<Vec<_>, _>>()?;
    server.config.service_ranges.store(Arc::new(usable(&have, server.config.service_range)));
    let addresses: Vec<Ipv4Addr> = server.hub.keys_under(cluster_ip::PREFIX).iter().filter_map(|a| a.parse().ok()).collect();
    for step in plan(&have, server.config.service_range, &addresses, server.clock.now()) {
        match step {
            Step::Create(object) => drop(ensure(server, object).await?),
            Step::SetFinalizers(name, finalizers) => {
                let call = of(server, &name)?;
                let set = |old: Option<&Value>| {
                    let mut new = old.cloned().unwrap_or_default();
                    new.set_meta("finalizers", if finalizers.is_empty() { Value::Null } else { json!(finalizers) });
                    Ok(new)
                };
                gone_is_fine(update::update(&call, Part::Whole, Absent::NotFound, &options(), vec![], &set).await)?;
            }
            Step::SetStatus(object) => {
                let set = |old: &Value| {
                    let mut new = old.clone();
                    new["status"] = object["status"].clone();
                    Ok(new)
                };
                gone_is_fine(update::rewrite(&of(server, object.name())?, &options(), &set).await)?;
            }
        }
    }
    Ok(have.iter().any(|o| o.is_deleting()))
}

fn of(server: &Arc<Server>, name: &str) -> Result<Call, Status> {
    let mut call = call(server, &json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"}))?;
    call.info.name = name.to_owned();
    Ok(call)
}

/// An object that went meanwhile needs nothing more.
fn gone_is_fine(done: Result<Reply, Status>) -> Result<(), Status> {
    match done {
        Err(status) if status.code == 404 => Ok(()),
        done => done.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(name: &str, range: &str) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name}, "spec": {"cidrs": [range]}})
    }

    fn steps(have: &[Value], addresses: &[&str]) -> Vec<Step> {
        let addresses: Vec<Ipv4Addr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        plan(have, "10.96.0.0/24".parse().unwrap(), &addresses, Timestamp::UNIX_EPOCH)
    }

    /// The object after every step is taken for it.
    fn settled(mut object: Value) -> Value {
        let own = cidr("kubernetes", "10.96.0.0/24");
        for _ in 0..2 {
            let have = if object.name() == "kubernetes" { vec![object.clone()] } else { vec![own.clone(), object.clone()] };
            for step in steps(&have, &[]) {
                match step {
                    Step::SetFinalizers(name, finalizers) if name == object.name() => object.set_meta("finalizers", json!(finalizers)),
                    Step::SetStatus(new) if new.name() == object.name() => object["status"] = new["status"].clone(),
                    _ => {}
                }
            }
        }
        object
    }

    #[test]
    fn the_clusters_own_range_is_an_object() {
        let made = steps(&[], &[]);
        let [Step::Create(object)] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!(object["spec"]["cidrs"], json!(["10.96.0.0/24"]));
        let own = settled(object.clone());
        assert_eq!((own["status"]["conditions"][0]["status"].as_str(), own.finalizers()), (Some("True"), vec![FINALIZER]));
        assert_eq!(steps(&[own], &["10.96.0.7"]), []);
    }

    #[test]
    fn a_range_goes_when_its_addresses_are_gone_or_elsewhere() {
        let own = settled(cidr("kubernetes", "10.96.0.0/24"));
        let mut other = settled(cidr("more", "10.97.0.0/24"));
        let default: Ipv4Net = "10.96.0.0/24".parse().unwrap();
        assert_eq!(usable(&[own.clone(), other.clone()], default).len(), 2);
        other["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(usable(&[own.clone(), other.clone()], default), [default]);
        let held = steps(&[own.clone(), other.clone()], &["10.97.0.7"]);
        let [Step::SetStatus(waiting)] = held.as_slice() else { panic!("{held:?}") };
        assert_eq!(waiting["status"]["conditions"][0]["reason"], "Terminating");
        assert_eq!(steps(&[own.clone(), waiting.clone()], &["10.97.0.7"]), []);
        let lets_go = [Step::SetFinalizers("more".into(), vec![])];
        assert_eq!(steps(&[own.clone(), waiting.clone()], &["10.96.0.7"]), lets_go);
        let wider = settled(cidr("wider", "10.97.0.0/16"));
        assert_eq!(steps(&[own, waiting.clone(), wider], &["10.97.0.7"]), lets_go);
    }
}
