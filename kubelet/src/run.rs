//! Puts the kubelet together and runs it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use daemon::delegated::Delegated;
use daemon::endpoints::{Health, health_router};
use daemon::tls::{Identity, Roots, server_config};
use k8s_openapi::api::core::v1::NodeStatus;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::agent::{self, Agent, Source};
use crate::allocations::Allocations;
use crate::cgroups::{Cgroups, Limits};
use crate::dns::ClusterDns;
use crate::env::NodeFacts;
use crate::events::Events;
use crate::flags::Flags;
use crate::images::Images;
use crate::kubelet::{Kubelet, SANDBOXES_AT_ONCE, Wakers};
use crate::node::machine::Machine;
use crate::objects::Objects;
use crate::pods::Pods;
use crate::probes::{Prober, Results};
use crate::runtime::Runtime;
use crate::runtime::containerd::Containerd;
use crate::runtime::exits;
use crate::security::Profiles;
use crate::server::{self, Server};
use crate::spec::NodeSettings;
use crate::statuses::Statuses;
use crate::volumes::watched::Watched;
use crate::volumes::{self, VolumeHost};
use crate::{dns, events, eviction, images, log_rotation, manifests, node, resources, source, statuses};

/// Runs a kubelet until `context.shutdown`. Containers are left running.
///
/// # Errors
/// What it needs to start is missing: kubeconfig, certificates, ports, cgroups.
pub async fn run(flags: Flags, context: daemon::Context) -> anyhow::Result<()> {
    let client = daemon::client::connect(&flags.kubeconfig, "kubelet").await?;
    let runtime: Arc<dyn Runtime> = Arc::new(Containerd::new(&flags.container_runtime_endpoint)?);
    let version = wait_for_runtime(&*runtime, &context).await?;
    let Some(version) = version else { return Ok(()) };
    std::fs::create_dir_all(&flags.root_dir).with_context(|| format!("making {}", flags.root_dir.display()))?;
    let machine = Machine::read(&flags, version)?;
    let watched = Watched::new(client.clone(), context.shutdown.clone());
    let (kubelet, reports) = assemble(flags, machine, client, runtime, Arc::new(watched.clone()), Path::new("/sys/fs/cgroup"), &context)?;
    kubelet.cgroups.prepare(allocatable(&kubelet.machine)).context("preparing the cgroups of pods")?;
    let words = "Updated Node Allocatable limit across pods";
    kubelet.events.node(&kubelet.node.load(), events::Kind::Normal, "NodeAllocatableEnforced", words);

    let shutdown = context.shutdown.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(events::publish(reports, kubelet.client.clone(), kubelet.node_name.clone(), shutdown.clone()));
    tasks.spawn(statuses::run(kubelet.statuses.clone(), kubelet.client.clone(), shutdown.clone()));
    tasks.spawn(volumes::refresh::keep_fresh(kubelet.volumes.clone(), kubelet.pods.clone(), watched, shutdown.clone()));
    tasks.spawn(node::run(kubelet.clone(), shutdown.clone()));
    tasks.spawn(node::lease::run(kubelet.clone(), shutdown.clone()));
    let (sender, receiver) = mpsc::channel(agent::QUEUE);
    let statuses = kubelet.statuses.clone();
    tasks.spawn(source::follow(kubelet.client.clone(), kubelet.node_name.clone(), statuses, sender.clone(), shutdown.clone()));
    let flags = &kubelet.flags;
    let mut sources = vec![Source::Api];
    if let Some(dir) = flags.pod_manifest_path.clone() {
        sources.push(Source::File);
        tasks.spawn(manifests::follow(dir, kubelet.node_name.clone(), flags.file_check_frequency, sender.clone(), shutdown.clone()));
    }
    let hears = kubelet.hears_exits.clone();
    tasks.spawn(exits::follow(flags.container_runtime_endpoint.clone(), sender.clone(), hears, shutdown.clone()));
    tasks.spawn(eviction::watch::run(kubelet.clone(), sender, shutdown.clone()));
    tasks.spawn(images::gc::run(kubelet.clone(), shutdown.clone()));
    tasks.spawn(log_rotation::run(kubelet.clone(), shutdown.clone()));
    tasks.spawn(Agent::new(kubelet.clone(), sources).run(receiver, shutdown.clone()));
    serve(&kubelet, &context, &mut tasks).await?;
    tracing::info!(node = kubelet.node_name, "kubelet started");
    while let Some(ended) = tasks.join_next().await {
        ended.context("a part of the kubelet failed")?;
    }
    Ok(())
}

/// Waits until the runtime answers; gives its name and version, or nothing when told to stop first.
async fn wait_for_runtime(runtime: &dyn Runtime, context: &daemon::Context) -> anyhow::Result<Option<String>> {
    loop {
        match runtime.version().await {
            Ok(version) => return Ok(Some(format!("{}://{}", version.runtime_name, version.runtime_version))),
            Err(error) => tracing::warn!(%error, "the container runtime does not answer yet"),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

fn allocatable(machine: &Machine) -> Limits {
    let milli = resources::milli(Some(&machine.allocatable), "cpu").unwrap_or(0);
    let memory = resources::whole(Some(&machine.allocatable), "memory").unwrap_or(0);
    Limits { shares: resources::shares(milli), memory, ..Limits::default() }
}

/// The kubelet's handles, and the events it will report. Nothing runs yet. `cgroups` is where the cgroup hierarchies are mounted.
///
/// # Errors
/// A flag that cannot be read, no resolver configuration.
pub fn assemble(
    flags: Flags,
    machine: Machine,
    client: kube::Client,
    runtime: Arc<dyn Runtime>,
    objects: Arc<dyn Objects>,
    cgroups: &Path,
    context: &daemon::Context,
) -> anyhow::Result<(Arc<Kubelet>, mpsc::Receiver<events::Report>)> {
    let (events, reports) = Events::channel();
    let facts = NodeFacts { name: machine.name.clone(), host_ips: machine.ips.clone(), allocatable: machine.allocatable.clone() };
    let wakers = Arc::new(Wakers::default());
    let wake = {
        let wakers = wakers.clone();
        Arc::new(move |uid: &str| wakers.wake(uid))
    };
    let resolver = std::fs::read_to_string(&flags.resolv_conf).with_context(|| format!("reading {}", flags.resolv_conf.display()))?;
    let settings = NodeSettings {
        dns: ClusterDns { servers: flags.cluster_dns.clone(), domain: flags.cluster_domain.clone() },
        resolver: dns::parse(&resolver),
        profiles: Profiles { root_dir: flags.root_dir.clone(), seccomp_default: flags.seccomp_default },
    };
    let parallel = if flags.serialize_image_pulls { 1 } else { flags.max_parallel_image_pulls };
    // Until the apiserver says otherwise: static pods start without it.
    let mut node = node::register::node(&machine, &flags)?;
    node.status = Some(NodeStatus {
        capacity: Some(machine.capacity.clone()),
        allocatable: Some(machine.allocatable.clone()),
        ..NodeStatus::default()
    });
    let kubelet = Kubelet {
        node_name: machine.name.clone(),
        clock: context.clock,
        images: Images::new(runtime.clone(), events.clone(), parallel),
        pods: Arc::new(Pods::default()),
        prober: Prober::new(runtime.clone(), Arc::new(Results::default()), events.clone(), wake),
        volumes: VolumeHost {
            root_dir: flags.root_dir.clone(),
            objects: objects.clone(),
            node_name: machine.name.clone(),
            node: facts.clone(),
        },
        cgroups: Cgroups::new(cgroups, &flags.cgroup_root, flags.cgroups_per_qos, flags.pod_max_pids),
        settings,
        facts,
        memory: machine.memory,
        machine,
        node: ArcSwap::from_pointee(node),
        node_bell: Notify::new(),
        pressure: ArcSwap::default(),
        running_pods: context.metrics.register("kubelet_running_pods", "Number of pods that have a running pod sandbox", Gauge::default()),
        running_containers: context.metrics.register(
            "kubelet_running_containers",
            "Number of containers currently running",
            Gauge::default(),
        ),
        hears_exits: Arc::default(),
        shutdown: context.shutdown.clone(),
        statuses: Arc::new(Statuses::default()),
        sandbox_slots: Semaphore::new(SANDBOXES_AT_ONCE),
        network: ArcSwap::from_pointee(Some("container runtime network not ready: not asked yet".to_owned())),
        wakers,
        allocations: Allocations::new(&flags.root_dir),
        room: Notify::new(),
        services: parking_lot::Mutex::default(),
        objects,
        events,
        runtime,
        client,
        flags,
    };
    Ok((Arc::new(kubelet), reports))
}

/// The settings in use that people ask `/configz` for, by the names of `KubeletConfiguration`.
fn settings(flags: &Flags) -> serde_json::Value {
    serde_json::json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": flags.address,
        "port": flags.port,
        "healthzPort": flags.healthz_port,
        "clusterDomain": flags.cluster_domain,
        "clusterDNS": flags.cluster_dns,
        "maxPods": flags.max_pods,
        "podPidsLimit": flags.pod_max_pids,
        "cgroupDriver": flags.cgroup_driver,
        "cgroupRoot": flags.cgroup_root,
        "cgroupsPerQOS": flags.cgroups_per_qos,
        "cpuCFSQuota": flags.cpu_cfs_quota,
        "nodeLeaseDurationSeconds": flags.node_lease_duration_seconds,
        "containerRuntimeEndpoint": flags.container_runtime_endpoint,
        "containerLogMaxSize": flags.container_log_max_size,
        "containerLogMaxFiles": flags.container_log_max_files,
        "imageGCHighThresholdPercent": flags.image_gc_high_threshold,
        "imageGCLowThresholdPercent": flags.image_gc_low_threshold,
        "serializeImagePulls": flags.serialize_image_pulls,
        "seccompDefault": flags.seccomp_default,
    })
}

/// Opens the server's port and the health port.
async fn serve(kubelet: &Arc<Kubelet>, context: &daemon::Context, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let flags = &kubelet.flags;
    let identity = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(cert), Some(key)) => Identity::load(cert, key)?,
        _ => anyhow::bail!("--tls-cert-file and --tls-private-key-file are needed"),
    };
    let clients = flags.client_ca_file.as_deref().map(Roots::load).transpose()?;
    let health = Health::new();
    let app = server::router(Server {
        runtime: kubelet.runtime.clone(),
        pods: kubelet.pods.clone(),
        probes: kubelet.prober.results().clone(),
        delegated: Delegated::new(kubelet.client.clone()),
        metrics: context.metrics.clone(),
        health: health.clone(),
        node_name: kubelet.node_name.clone(),
        root_dir: flags.root_dir.clone(),
        pod_logs_dir: flags.pod_logs_dir.clone(),
        settings: settings(flags),
    });
    let address = SocketAddr::new(flags.address, flags.port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let serving = daemon::http::serve(listener, Some(server_config(identity, clients)), app, context.shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(error = format!("{error:#}"), "the server ended");
        }
    });
    if flags.healthz_port != 0 {
        let address = SocketAddr::new(flags.healthz_bind_address, flags.healthz_port);
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
        let serving = daemon::http::serve(listener, None, health_router(health), context.shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(error = format!("{error:#}"), "the health server ended");
            }
        });
    }
    Ok(())
}
