//! Names that are not the cluster's: upstream servers are asked, and what they say is kept for a while.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{Resolver, TokioResolver};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::cache::{Asked, Cache};
use crate::flags;
use crate::metrics::Metrics;

/// Questions that may wait for upstream servers at once; more are refused, so that slow servers do not fill the memory.
const WAITING: usize = 1_000;
/// How long one server may take, and how often each is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// The most upstream servers used; resolv.conf(5) has three.
const MAX_SERVERS: usize = 15;
/// The largest resolv.conf that is read, in bytes.
const MAX_RESOLV_CONF: u64 = 64 << 10;

/// What an upstream server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The response code.
    pub code: ResponseCode,
    /// The records.
    pub records: Vec<Record>,
    /// What says how long a denial holds.
    pub soa: Option<Record>,
}

impl Reply {
    fn failure() -> Self {
        Self { code: ResponseCode::ServFail, records: vec![], soa: None }
    }

    /// How long it holds: as long as all of it does. A failure does not hold at all.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        let denial = self.soa.as_ref().map(|record| match &record.data {
            RData::SOA(soa) => record.ttl.min(soa.minimum),
            _ => record.ttl,
        });
        let seconds = match self.code {
            ResponseCode::NoError if !self.records.is_empty() => self.records.iter().map(|r| r.ttl).min(),
            ResponseCode::NoError | ResponseCode::NXDomain => denial,
            _ => None,
        };
        Duration::from_secs(seconds.unwrap_or(0).into())
    }
}

/// Asks upstream servers.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a resolver has none")]
pub struct Forwarder(Arc<Inner>);

struct Inner {
    /// None when there is nobody to ask.
    resolver: ArcSwapOption<TokioResolver>,
    cache: Mutex<Cache>,
    waiting: Semaphore,
    metrics: Metrics,
}

impl Forwarder {
    /// Asks nobody yet; keeps so many answers.
    #[must_use]
    pub fn new(cache_entries: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            resolver: ArcSwapOption::empty(),
            cache: Mutex::new(Cache::new(cache_entries)),
            waiting: Semaphore::new(WAITING),
            metrics,
        }))
    }

    /// From now on these servers are asked.
    pub fn set_servers(&self, servers: &[SocketAddr]) {
        let resolver = if servers.is_empty() { None } else { resolver(servers) };
        self.0.resolver.store(resolver.map(Arc::new));
    }

    /// Asks for a name, or remembers what was said.
    pub async fn ask(&self, name: &Name, kind: RecordType) -> Reply {
        let inner = &self.0;
        let asked: Asked = (name.clone().into(), kind);
        // The guard must not live on in the `if`: it is taken again below.
        let kept = inner.cache.lock().get(&asked, Instant::now());
        if let Some(reply) = kept {
            inner.metrics.cache_hit(reply.code == ResponseCode::NoError);
            return reply;
        }
        inner.metrics.cache_misses.inc();
        let Ok(_slot) = inner.waiting.try_acquire() else { return Reply { code: ResponseCode::Refused, ..Reply::failure() } };
        let Some(resolver) = inner.resolver.load_full() else { return Reply::failure() };
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        let reply = match resolver.lookup(absolute, kind).await {
            Ok(found) => Reply { code: ResponseCode::NoError, records: found.answers().to_vec(), soa: None },
            Err(error) => denial(name, error),
        };
        let mut cache = inner.cache.lock();
        cache.put(asked, reply.clone(), Instant::now());
        inner.metrics.cache_entries.set(i64::try_from(cache.len()).unwrap_or(i64::MAX));
        reply
    }
}

fn denial(name: &Name, error: NetError) -> Reply {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let soa = none.soa.map(|soa| soa.into_record_of_rdata());
            Reply { code: none.response_code, records: vec![], soa }
        }
        NetError::Dns(DnsError::ResponseCode(code)) => Reply { code, ..Reply::failure() },
        error => {
            tracing::debug!(%name, %error, "asking upstream");
            Reply::failure()
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    let server = |addr: &SocketAddr| {
        let on = |mut connection: ConnectionConfig| {
            connection.port = addr.port();
            connection
        };
        NameServerConfig::new(addr.ip(), true, vec![on(ConnectionConfig::udp()), on(ConnectionConfig::tcp())])
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.cache_size = 0; // ours has the metrics and the bound
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = PATIENCE;
    options.attempts = ATTEMPTS;
    options.edns0 = true;
    options.preserve_intermediates = true;
    builder.build().map_err(|error| tracing::error!(%error, "building the resolver")).ok()
}

/// The servers that a resolv.conf names, without those that are us: asking ourselves would never end.
#[must_use]
pub fn servers(text: &str, ours: &[IpAddr]) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim);
    let all = named.filter_map(|server| flags::upstream(server.split(['%', ' ', '\t', '#']).next()?).ok());
    without_ourselves(all, ours)
}

/// Takes those out that are us.
#[must_use]
pub fn without_ourselves(servers: impl IntoIterator<Item = SocketAddr>, ours: &[IpAddr]) -> Vec<SocketAddr> {
    servers.into_iter().filter(|s| !ours.contains(&s.ip())).take(MAX_SERVERS).collect()
}

/// Reads the servers from a file; none when it cannot be read.
///
/// # Errors
/// The file cannot be read, or is too large.
pub fn read_servers(file: &Path, ours: &[IpAddr]) -> std::io::Result<Vec<SocketAddr>> {
    if std::fs::metadata(file)?.len() > MAX_RESOLV_CONF {
        return Err(std::io::Error::other("the file is too large"));
    }
    Ok(servers(&std::fs::read_to_string(file)?, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_system_does_and_never_ourselves() {
        let text = "# comment\nsearch a b\nnameserver 127.0.0.53\nnameserver\t192.168.1.1\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\n\
                    nameserver nonsense\noptions edns0\n";
        let ours: Vec<IpAddr> = vec!["10.96.0.10".parse().unwrap(), "192.168.1.7".parse().unwrap()];
        let got: Vec<String> = servers(text, &ours).iter().map(SocketAddr::to_string).collect();
        assert_eq!(got, ["127.0.0.53:53", "192.168.1.1:53", "[fe80::1]:53"]);
    }
}
