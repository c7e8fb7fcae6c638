//! What `down` promises to leave as it was.

use std::collections::BTreeSet;
use std::process::Command;

/// The machine, by what of it a cluster touches.
pub fn look() -> Vec<(&'static str, BTreeSet<String>)> {
    let lines = |program: &str, args: &[&str]| -> BTreeSet<String> {
        let out = Command::new(program).args(args).output().expect("the program starts");
        // Comments of iptables-save tell the time.
        String::from_utf8_lossy(&out.stdout).lines().filter(|l| !l.starts_with('#')).map(|l| l.trim().to_owned()).collect()
    };
    // Beside the groups that this test itself runs in, those of other commands come and go.
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("the test's own cgroups");
    let parents = own.lines().filter_map(|l| l.rsplit(':').next()?.rsplit_once('/').map(|(parent, _)| parent));
    let neighbours: BTreeSet<String> = parents.filter(|p| !p.is_empty()).map(|p| format!("{p}/")).collect();
    let names = |text: BTreeSet<String>| text.iter().filter_map(|l| l.split_whitespace().nth(1).map(str::to_owned)).collect();
    let places = ["/usr/local/lib/ferrite/", "/var/lib/ferrite/", "/etc/ferrite/", "/run/ferrite/"];
    let is_ours = |line: &String| line == "/pause" || places.iter().any(|p| line.contains(p));
    vec![
        ("links", names(lines("ip", &["-o", "link"]))),
        ("addresses", lines("ip", &["-brief", "address"])),
        ("routes", lines("ip", &["route", "show", "table", "all"])),
        ("namespaces", lines("ip", &["netns"])),
        ("nftables", lines("nft", &["list", "ruleset"])),
        ("iptables", lines("iptables-save", &[])),
        ("mounts", lines("cat", &["/proc/mounts"])),
        (
            "cgroups",
            lines("find", &["/sys/fs/cgroup", "-type", "d"]).into_iter().filter(|c| !neighbours.iter().any(|n| c.contains(n))).collect(),
        ),
        ("processes", lines("ps", &["-ewwo", "args="]).into_iter().filter(is_ours).collect()),
        ("sysctls", lines("sysctl", &["net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet", "net.bridge.bridge-nf-call-iptables"])),
        ("files", lines("find", &["/etc", "/var/lib", "/var/log", "/run", "/usr/local/lib", "-maxdepth", "1"])),
    ]
}
