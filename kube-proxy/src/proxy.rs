//! The loop: what wakes it, what it does then. Everything that decides is elsewhere.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use daemon::Context;
use daemon::backoff::Backoff;
use jiff::SignedDuration;
use rtnetlink::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compile::compile;
use crate::flags::Flags;
use crate::health::{HealthPorts, ProxyHealth};
use crate::known::{Changed, Known};
use crate::metrics::Metrics;
use crate::sink::OwnSockets;
use crate::table::{Synced, Table};
use crate::watch::{Update, Watches, Whose};
use crate::{links, monitor, routes, sysctl};

/// News that may wait to be taken in. Watches wait when it is full.
const UPDATES: usize = 256;
/// The most news taken in before looking at anything else.
const UPDATES_AT_ONCE: usize = 1_024;
/// The whole table is compared with the kernel's after so many sync periods, in case an announcement was missed.
const AUDIT_EVERY: u32 = 10;

/// What wakes the loop.
enum Event {
    /// News of the cluster.
    Update(Update),
    /// Somebody may have changed our table.
    RulesTouched,
    /// An address of this node came or went.
    AddressesChanged,
    /// It is time to bring rules or routes to what they should be.
    Due,
    /// Nothing happened for a while.
    Period,
    /// The end.
    Stop,
}

/// Runs the proxy until it is told to stop. The rules stay when it does.
///
/// # Errors
/// It could not start: no right to the kernel's tables, no kubeconfig, an address taken.
pub async fn run(flags: Flags, context: Context) -> anyhow::Result<()> {
    if flags.cleanup {
        return crate::cleanup().await;
    }
    let name = crate::node_name(&flags)?;
    sysctl::set(Path::new("/proc/sys"), &flags);
    let client = daemon::client::connect(&flags.kubeconfig, "kube-proxy").await?;
    let tasks = TaskTracker::new();
    let stop = context.shutdown.clone();
    let metrics = Metrics::register(&context.metrics);
    let period = flags.nftables_sync_period.0;
    let timeout = SignedDuration::try_from(period * 2).context("--nftables-sync-period")?;
    let health = ProxyHealth::new(context.clock, timeout);
    serve(&flags, &context, &health, &tasks).await?;

    let own = OwnSockets::default();
    let (rules_touched, mut rules) = mpsc::channel(1);
    let (addresses_touched, mut addresses) = mpsc::channel(1);
    tasks.spawn(monitor::rules(own.clone(), rules_touched, stop.clone()).context("listening for changes of the rules")?);
    tasks.spawn(monitor::addresses(addresses_touched, stop.clone()).context("listening for changes of addresses")?);
    let (connection, handle, _) = rtnetlink::new_connection().context("opening a socket for routes")?;
    tasks.spawn(async move {
        tokio::select! {
            () = connection => {}
            () = stop.cancelled() => {}
        }
    });

    let (sender, mut updates) = mpsc::channel(UPDATES);
    let watches = Watches { client, updates: sender };
    let mut proxy = Proxy {
        table: Some(Table::open(&own).context("opening the kernel's tables")?),
        known: Known::new(&name),
        ports: HealthPorts::new(health.clone(), tasks.clone(), context.shutdown.clone()),
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
        pods: PodWatch { stop: context.shutdown.child_token(), whose: Whose::Ours },
        rules_due: None,
        routes_due: None,
        last_sync: None,
        periods: 0,
        flags,
        context: context.clone(),
        metrics,
        health,
        handle,
        watches,
        tasks: tasks.clone(),
    };
    proxy.read_addresses().await;
    proxy.start();
    let mut ticker = tokio::time::interval_at(Instant::now() + period, period);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = proxy.due();
        let event = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => Event::Stop,
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
            Some(update) = updates.recv() => Event::Update(update),
            Some(()) = rules.recv() => Event::RulesTouched,
            Some(()) = addresses.recv() => Event::AddressesChanged,
            _ = ticker.tick() => Event::Period,
        };
        match event {
            Event::Stop => break,
            Event::Update(update) => {
                proxy.take(update);
                for _ in 0..UPDATES_AT_ONCE {
                    let Ok(more) = updates.try_recv() else { break };
                    proxy.take(more);
                }
            }
            Event::RulesTouched => proxy.audit().await?,
            Event::AddressesChanged => proxy.read_addresses().await,
            Event::Due => proxy.sync().await?,
            Event::Period => proxy.period().await?,
        }
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn serve(flags: &Flags, context: &Context, health: &ProxyHealth, tasks: &TaskTracker) -> anyhow::Result<()> {
    let metrics = daemon::endpoints::metrics_router(context.metrics.clone());
    for (listen, app) in [(flags.healthz_bind_address, health.router()), (flags.metrics_bind_address, metrics)] {
        let Some(addr) = listen.0 else { continue };
        let listener = tokio::net::TcpListener::bind(addr).await.with_context(|| format!("listening on {addr}"))?;
        tasks.spawn(daemon::http::serve(listener, None, app, context.shutdown.clone()));
    }
    Ok(())
}

struct PodWatch {
    stop: CancellationToken,
    /// Policies speak of the pods of all nodes; without policies ours are enough.
    whose: Whose,
}

struct Proxy {
    flags: Flags,
    context: Context,
    metrics: Metrics,
    health: ProxyHealth,
    /// Away only while it is at work.
    table: Option<Table>,
    handle: Handle,
    known: Known,
    ports: HealthPorts,
    watches: Watches,
    pods: PodWatch,
    tasks: TaskTracker,
    backoff: Backoff,
    rules_due: Option<Instant>,
    routes_due: Option<Instant>,
    last_sync: Option<Instant>,
    periods: u32,
}

impl Proxy {
    fn start(&mut self) {
        let stop = || self.context.shutdown.clone();
        self.tasks.spawn(self.watches.clone().services(stop()));
        self.tasks.spawn(self.watches.clone().slices(stop()));
        self.tasks.spawn(self.watches.clone().nodes(stop()));
        self.tasks.spawn(self.watches.clone().policies(stop()));
        self.watch_pods(Whose::Ours);
        self.routes_due = Some(Instant::now());
    }

    /// Watches the pods of this node, or those of all nodes and the namespaces they are in.
    fn watch_pods(&mut self, whose: Whose) {
        self.pods.stop.cancel();
        self.pods = PodWatch { stop: self.context.shutdown.child_token(), whose };
        self.known.forget_pods();
        let stop = self.pods.stop.clone();
        self.tasks.spawn(self.watches.clone().pods(self.known.name().to_owned(), whose, stop.clone()));
        if whose == Whose::Everybody {
            self.tasks.spawn(self.watches.clone().namespaces(stop));
        }
    }

    fn take(&mut self, update: Update) {
        let changed = self.known.take(update);
        match changed {
            Changed::Nothing => return,
            Changed::Services => drop(self.metrics.service_changes.inc()),
            Changed::Endpoints => drop(self.metrics.endpoint_changes.inc()),
            Changed::Nodes => self.routes_due = Some(Instant::now()),
            Changed::Policies => {
                let whose = if self.known.has_policies() { Whose::Everybody } else { Whose::Ours };
                if whose != self.pods.whose {
                    self.watch_pods(whose);
                }
            }
        }
        self.health.set_leaving(self.known.is_leaving());
        self.want_rules();
    }

    fn want_rules(&mut self) {
        if !self.known.is_complete() {
            return;
        }
        self.health.queued();
        self.metrics.queued(self.context.clock.now());
        let earliest = self.last_sync.map_or_else(Instant::now, |last| last + self.flags.nftables_min_sync_period.0);
        self.rules_due.get_or_insert(earliest.max(Instant::now()));
    }

    fn due(&self) -> Option<Instant> {
        [self.rules_due, self.routes_due].into_iter().flatten().min()
    }

    async fn sync(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.routes_due.take_if(|due| *due <= now).is_some() {
            self.sync_routes().await;
        }
        if self.rules_due.take_if(|due| *due <= now).is_some() {
            self.sync_rules().await?;
        }
        Ok(())
    }

    /// An error here ends the process: the table's owner was lost. A refusal of the kernel is retried.
    async fn sync_rules(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let node = self.known.node(&self.flags);
        let wanted = compile(self.known.services(), &node);
        let elements = wanted.element_count();
        let outcome = self.with_table(move |table| table.sync(wanted)).await?;
        self.last_sync = Some(Instant::now());
        match outcome {
            Ok(Synced { changed, replaced }) => {
                self.backoff.reset();
                let took = started.elapsed();
                self.metrics.synced(took, replaced, self.context.clock.now(), &self.known.take_changes());
                self.metrics.elements.set(i64::try_from(elements).unwrap_or(i64::MAX));
                self.health.updated();
                if replaced {
                    tracing::info!(elements, ?took, "made the table anew");
                } else if changed {
                    tracing::debug!(elements, ?took, "changed the table");
                }
                self.ports.sync(&self.known.health_ports(&node)).await;
            }
            Err(error) => {
                self.metrics.failed();
                let retry = self.backoff.next_delay();
                tracing::error!(error = format!("{error:#}"), ?retry, "syncing the rules failed");
                self.rules_due = Some(Instant::now() + retry);
            }
        }
        Ok(())
    }

    async fn sync_routes(&mut self) {
        if !self.known.knows_nodes() {
            return;
        }
        let outcome = async {
            let near = links::on_link(&self.handle).await?;
            let plan = routes::plan(self.known.name(), &self.known.hosts, &near, self.flags.pod_routes);
            anyhow::Ok((links::apply(&self.handle, &plan).await?, plan.routes.len()))
        };
        match outcome.await {
            Ok((true, routes)) => tracing::info!(routes, "changed the routes to other nodes' pods"),
            Ok((false, _)) => {}
            Err(error) => {
                let retry = self.backoff.next_delay();
                tracing::error!(error = format!("{error:#}"), ?retry, "syncing the routes to other nodes' pods failed");
                self.routes_due = Some(Instant::now() + retry);
            }
        }
    }

    async fn read_addresses(&mut self) {
        match links::addresses(&self.handle).await {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.into_iter().collect();
                if addresses != self.known.addresses {
                    self.known.addresses = addresses;
                    self.routes_due = Some(Instant::now());
                    self.want_rules();
                }
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "reading this node's addresses"),
        }
    }

    /// Compares the kernel's table with what it should be, and makes it anew when it is not that.
    async fn audit(&mut self) -> anyhow::Result<()> {
        let (known, whole) = self.with_table(|table| (table.applied().is_some(), table.audit())).await?;
        if known && !whole {
            tracing::warn!("somebody else changed our rules: restoring them");
        }
        if !whole {
            self.want_rules();
        }
        Ok(())
    }

    async fn period(&mut self) -> anyhow::Result<()> {
        self.read_addresses().await;
        self.routes_due = Some(Instant::now());
        self.want_rules();
        self.periods = self.periods.wrapping_add(1);
        if self.periods.is_multiple_of(AUDIT_EVERY) { self.audit().await } else { Ok(()) }
    }

    /// Lends the table to a thread that may block.
    async fn with_table<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Table) -> T + Send + 'static) -> anyhow::Result<T> {
        let mut table = self.table.take().context("the table's owner is gone")?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut table);
            (table, result)
        });
        let (table, result) = done.await.context("working on the table")?;
        self.table = Some(table);
        Ok(result)
    }
}
