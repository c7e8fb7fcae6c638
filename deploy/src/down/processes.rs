//! Which processes are ours, whoever their parent is by now: a plain function of what `/proc` shows.

use std::collections::BTreeSet;

use crate::paths;
use crate::process::Seen;

/// The processes of the cluster, without `own` and those it descends from.
#[must_use]
pub fn ours(all: &[Seen], own: i32) -> Vec<i32> {
    let mut found: BTreeSet<i32> = all.iter().filter(|p| is_ours(p)).map(|p| p.pid).collect();
    // What containers started, as long as its chain of parents is whole.
    loop {
        let children: Vec<i32> = all.iter().filter(|p| found.contains(&p.parent) && !found.contains(&p.pid)).map(|p| p.pid).collect();
        if children.is_empty() {
            break;
        }
        found.extend(children);
    }
    let mut spared = own;
    while let Some(process) = all.iter().find(|p| p.pid == spared) {
        found.remove(&process.pid);
        spared = process.parent;
    }
    found.into_iter().collect()
}

fn is_ours(process: &Seen) -> bool {
    let has = |word: &str| process.argv.iter().any(|a| a == word);
    let named = |name: &str| process.argv.first().is_some_and(|a| a.rsplit('/').next() == Some(name));
    process.exe.starts_with(paths::PROGRAMS)
        || (named("etcd") && has(&format!("--data-dir={}/etcd", paths::STATE)))
        || (named("containerd") && has(&format!("{}/containerd.toml", paths::CONFIG)))
        || (named("containerd-shim-runc-v2") && has(paths::CONTAINERD_SOCKET))
        || process.overlay.as_ref().is_some_and(|upper| upper.starts_with(&format!("{}/", paths::STATE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: i32, parent: i32, argv: &str) -> Seen {
        let argv: Vec<String> = argv.split(' ').map(str::to_owned).collect();
        Seen { pid, parent, exe: argv[0].clone().into(), argv, ..Seen::default() }
    }

    #[test]
    fn daemons_shims_and_what_they_started_are_ours() {
        let container = Seen { overlay: Some("/var/lib/ferrite/containerd/x/fs".into()), ..seen(30, 1, "nginx") };
        let other_container = Seen { overlay: Some("/var/lib/docker/overlay2/x/diff".into()), ..seen(31, 1, "nginx") };
        let all = [
            seen(1, 0, "/sbin/init"),
            seen(10, 1, "/usr/local/lib/ferrite/kubelet --v=2"),
            seen(11, 1, "/usr/bin/containerd --config /etc/ferrite/containerd.toml"),
            seen(12, 1, "/usr/bin/containerd --config /etc/containerd/config.toml"),
            seen(13, 1, "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -address /run/ferrite/containerd/containerd.sock"),
            seen(14, 13, "/pause"),
            seen(15, 14, "sleep 1"),
            seen(16, 1, "/usr/bin/containerd-shim-runc-v2 -namespace moby -address /run/containerd/containerd.sock"),
            seen(17, 1, "/usr/bin/etcd --data-dir=/var/lib/ferrite/etcd"),
            seen(18, 1, "/usr/bin/etcd --data-dir=/var/lib/etcd"),
            container,
            other_container,
            seen(40, 10, "bash"),
            seen(41, 40, "/usr/local/lib/ferrite/ferrite down"),
        ];
        assert_eq!(ours(&all, 41), [11, 13, 14, 15, 17, 30], "and not the one that asks, nor what it was started by");
        assert_eq!(ours(&all, 1), [10, 11, 13, 14, 15, 17, 30, 40, 41]);
    }
}
