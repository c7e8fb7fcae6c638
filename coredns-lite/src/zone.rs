//! What the names of the cluster stand for: an immutable snapshot, of which a changed copy is made.
//!
//! Records are not kept: [`crate::answer::answer`] makes them from what is here. A copy shares every Service and
//! EndpointSlice that did not change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;

/// A namespace and a name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// `namespace/name`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// A snapshot of the cluster's names.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The cluster domain, absolute and in lower case.
    pub domain: Name,
    /// What changes with every change; the SOA's serial.
    pub serial: u32,
    /// Whether all kinds have been listed. Before that, "no such name" would be a guess.
    pub complete: bool,
    services: HashMap<ObjectKey, Arc<Service>>,
    slices: HashMap<ObjectKey, BTreeMap<Arc<str>, Arc<Slice>>>,
    namespaces: HashSet<Arc<str>>,
    /// Which Services an address belongs to, as a cluster address or an endpoint.
    addresses: HashMap<IpAddr, Vec<ObjectKey>>,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What its name stands for.
    pub kind: Kind,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// What a Service's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Its cluster addresses.
    ClusterIp(Vec<IpAddr>),
    /// Its endpoints.
    Headless,
    /// Another name.
    External(Name),
}

/// A port of a Service or an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in lower case; empty when it has none.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Its number.
    pub port: u16,
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its endpoints that are ready.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host name in lower case, if it has one.
    pub hostname: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Endpoint {
    /// Its name under its Service's: the host name, or one made of `addr`.
    #[must_use]
    pub fn label(&self, addr: &IpAddr) -> String {
        self.hostname.clone().unwrap_or_else(|| dashed(addr))
    }
}

/// `10.0.0.1` as `10-0-0-1`.
#[must_use]
pub fn dashed(addr: &IpAddr) -> String {
    addr.to_string().replace(['.', ':'], "-")
}

impl Zone {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(domain: Name) -> Self {
        Self {
            domain: domain.to_lowercase(),
            serial: 1,
            complete: false,
            services: HashMap::new(),
            slices: HashMap::new(),
            namespaces: HashSet::new(),
            addresses: HashMap::new(),
        }
    }

    /// A Service.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.get(&ObjectKey::new(namespace, name)).map(|s| &**s)
    }

    /// The EndpointSlices of a Service.
    pub fn slices(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Slice> {
        self.slices.get(&ObjectKey::new(namespace, name)).into_iter().flat_map(|s| s.values()).map(|s| &**s)
    }

    /// Whether the namespace exists.
    #[must_use]
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// The Services that an address belongs to.
    pub fn owners(&self, addr: &IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.addresses.get(addr).into_iter().flatten()
    }

    /// A Service comes, changes or goes.
    pub fn set_service(&mut self, key: &ObjectKey, service: Option<Service>) {
        self.unindex(key);
        match service {
            Some(service) => drop(self.services.insert(key.clone(), Arc::new(service))),
            None => drop(self.services.remove(key)),
        }
        self.index(key);
    }

    /// An EndpointSlice of the Service `key` comes, changes or goes.
    pub fn set_slice(&mut self, key: &ObjectKey, name: &str, slice: Option<Slice>) {
        self.unindex(key);
        let slices = self.slices.entry(key.clone()).or_default();
        match slice {
            Some(slice) => drop(slices.insert(name.into(), Arc::new(slice))),
            None => drop(slices.remove(name)),
        }
        if slices.is_empty() {
            self.slices.remove(key);
        }
        self.index(key);
    }

    /// A namespace comes or goes.
    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        if exists {
            self.namespaces.insert(name.into());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// The Services that are known.
    pub fn service_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.services.keys()
    }

    /// The EndpointSlices that are known: Service and name.
    pub fn slice_keys(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<str>)> {
        self.slices.iter().flat_map(|(key, slices)| slices.keys().map(move |name| (key, name)))
    }

    /// The namespaces that are known.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.iter()
    }

    /// The addresses whose reverse name is that of this Service or of an endpoint of it.
    fn own_addresses(&self, key: &ObjectKey) -> Vec<IpAddr> {
        match self.services.get(key).map(|s| &s.kind) {
            Some(Kind::ClusterIp(ips)) => ips.clone(),
            Some(Kind::Headless) => {
                let slices = self.slices.get(key).into_iter().flat_map(|s| s.values());
                slices.flat_map(|s| &s.endpoints).flat_map(|e| &e.addresses).copied().collect()
            }
            _ => vec![],
        }
    }

    fn unindex(&mut self, key: &ObjectKey) {
        for addr in self.own_addresses(key) {
            if let Some(owners) = self.addresses.get_mut(&addr) {
                owners.retain(|owner| owner != key);
                if owners.is_empty() {
                    self.addresses.remove(&addr);
                }
            }
        }
    }

    fn index(&mut self, key: &ObjectKey) {
        for addr in self.own_addresses(key) {
            let owners = self.addresses.entry(addr).or_default();
            if let Err(place) = owners.binary_search(key) {
                owners.insert(place, key.clone());
            }
        }
    }
}
