//! What this machine is: read once at the start.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use anyhow::Context as _;
use api::quantity::Quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::eviction::{Signal, thresholds};
use crate::flags::{Flags, pairs};
use crate::resources::Amounts;

/// The facts of a machine that its Node tells.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The node's name.
    pub name: String,
    /// The machine's host name.
    pub hostname: String,
    /// Addresses, primary family first.
    pub ips: Vec<String>,
    /// Everything there is.
    pub capacity: Amounts,
    /// What pods may use of it.
    pub allocatable: Amounts,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's uuid.
    pub system_uuid: String,
    /// This boot.
    pub boot_id: String,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub os_image: String,
    /// As Go calls it: `amd64`.
    pub architecture: String,
    /// `containerd://1.6.20`.
    pub runtime: String,
    /// The port of the kubelet's server.
    pub port: u16,
    /// Bytes of memory.
    pub memory: i64,
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default()
}

impl Machine {
    /// Reads the machine.
    ///
    /// # Errors
    /// No memory or CPU can be read, no address found, a flag that is not a quantity.
    pub fn read(flags: &Flags, runtime: String) -> anyhow::Result<Self> {
        let hostname = line("/proc/sys/kernel/hostname").to_lowercase();
        let name = if flags.hostname_override.is_empty() { hostname.clone() } else { flags.hostname_override.to_lowercase() };
        let meminfo = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        let memory_kib: i64 = meminfo
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok())
            .context("no MemTotal in /proc/meminfo")?;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
        let cpus = cpuinfo.lines().filter(|l| l.starts_with("processor")).count().max(1);
        let storage = storage(&flags.root_dir)?;
        let mut capacity: Amounts = BTreeMap::new();
        let mut put = |name: &str, value: String| drop(capacity.insert(name.to_owned(), Text(value)));
        put("cpu", cpus.to_string());
        put("memory", format!("{memory_kib}Ki"));
        put("pods", flags.max_pods.to_string());
        put("ephemeral-storage", format!("{}Ki", storage / 1024));
        for (size, kib) in [("1Gi", 1 << 20), ("2Mi", 2048_i64)] {
            let dir = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages");
            if Path::new(&dir).exists() {
                let count: i64 = line(&dir).parse().unwrap_or(0);
                put(&format!("hugepages-{size}"), if count == 0 { "0".into() } else { format!("{}Ki", count * kib) });
            }
        }
        let allocatable = allocatable(&capacity, flags, storage)?;
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os_image = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).map_or("Linux", |v| v.trim_matches('"')).to_owned();
        let ips = if flags.node_ip.is_empty() { vec![own_address()?] } else { flags.node_ip.clone() };
        Ok(Self {
            name,
            hostname,
            ips: ips.iter().map(ToString::to_string).collect(),
            capacity,
            allocatable,
            machine_id: line("/etc/machine-id"),
            // Where there is no firmware to ask, the machine's id stands for it, as upstream does.
            system_uuid: Some(line("/sys/class/dmi/id/product_uuid").to_lowercase())
                .filter(|u| !u.is_empty())
                .unwrap_or_else(|| line("/etc/machine-id")),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image,
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
            runtime,
            port: flags.port,
            memory: memory_kib * 1024,
        })
    }
}

/// Bytes of the file system that holds the kubelet's files.
fn storage(root: &Path) -> anyhow::Result<i64> {
    let existing = root.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(existing).with_context(|| format!("asking the size of {}", existing.display()))?;
    Ok(i64::try_from(stat.f_blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX))
}

/// Capacity without what is reserved, and without what must stay free for nobody to be evicted.
fn allocatable(capacity: &Amounts, flags: &Flags, storage: i64) -> anyhow::Result<Amounts> {
    let mut out = BTreeMap::new();
    let hard = thresholds(&flags.eviction_hard)?;
    for (name, total) in capacity {
        let parse = |text: &str| text.parse::<Quantity>().map_err(|_| anyhow::anyhow!("{text:?} is not a quantity"));
        let mut left = parse(&total.0)?;
        for (_, reserved) in pairs(&flags.system_reserved).into_iter().chain(pairs(&flags.kube_reserved)).filter(|(n, _)| n == name) {
            left -= parse(&reserved)?;
        }
        let total = i64::try_from(parse(&total.0)?.value()).unwrap_or(i64::MAX);
        let (signal, total) = match name.as_str() {
            "memory" => (Some(Signal::MemoryAvailable), total),
            "ephemeral-storage" => (Some(Signal::NodefsAvailable), storage),
            _ => (None, total),
        };
        let kept = hard.iter().find(|t| Some(t.signal) == signal).map(|t| t.amount(total));
        if let Some(kept) = kept {
            left = Quantity::from_bytes(i64::try_from(left.value()).unwrap_or(i64::MAX)) - Quantity::from_bytes(kept);
        }
        if left.is_negative() {
            left = Quantity::ZERO;
        }
        out.insert(name.clone(), Text(left.to_string()));
    }
    Ok(out)
}

/// The address from which packets leave by the default route, or the first that is not loopback.
fn own_address() -> anyhow::Result<IpAddr> {
    // Connecting a datagram socket sends nothing; it only asks the routing table (192.0.2.1 is documentation space, RFC 5737).
    let routed = UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9").and_then(|()| s.local_addr()));
    if let Ok(address) = routed
        && !address.ip().is_loopback()
        && !address.ip().is_unspecified()
    {
        return Ok(address.ip());
    }
    let all = nix::ifaddrs::getifaddrs().context("reading the machine's addresses")?;
    let v4 = all.filter_map(|i| Some(IpAddr::V4(i.address?.as_sockaddr_in()?.ip())));
    let mut usable = v4.filter(|ip| !ip.is_loopback());
    usable.next().context("this machine has no address; name one with --node-ip")
}
