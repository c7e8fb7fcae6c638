//! Kernel settings that the rules need.

use std::path::Path;

use crate::flags::Flags;

/// Sets what can be set and says, once, what could not and why that matters.
pub fn set(root: &Path, flags: &Flags) {
    set_one(root, "net/ipv4/ip_forward", "1", "traffic to pods will not be passed on");
    set_one(root, "net/bridge/bridge-nf-call-iptables", "1", "Services will not work between pods of one node");
    set_one(root, "net/ipv4/conf/all/route_localnet", "1", "host ports will not answer on 127.0.0.1");
    // A network namespace of its own may read these and not write them.
    if let Some(max) = flags.conntrack_max() {
        set_at_least(root, "net/netfilter/nf_conntrack_max", max);
    }
    for (name, seconds) in [
        ("nf_conntrack_tcp_timeout_established", flags.conntrack_tcp_timeout_established.0),
        ("nf_conntrack_tcp_timeout_close_wait", flags.conntrack_tcp_timeout_close_wait.0),
        ("nf_conntrack_udp_timeout", flags.conntrack_udp_timeout.0),
        ("nf_conntrack_udp_timeout_stream", flags.conntrack_udp_timeout_stream.0),
    ] {
        let seconds = seconds.as_secs();
        if seconds > 0 {
            set_one(
                root,
                &format!("net/netfilter/{name}"),
                &seconds.to_string(),
                "connections are remembered for another time than asked for",
            );
        }
    }
}

fn set_at_least(root: &Path, name: &str, least: u64) {
    let now = std::fs::read_to_string(root.join(name)).ok().and_then(|v| v.trim().parse::<u64>().ok());
    if now.is_none_or(|now| now < least) {
        set_one(root, name, &least.to_string(), "fewer connections can be tracked than asked for");
    }
}

fn set_one(root: &Path, name: &str, value: &str, otherwise: &str) {
    let path = root.join(name);
    match std::fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => return,
        _ => {}
    }
    if let Err(error) = std::fs::write(&path, value) {
        let setting = name.replace('/', ".");
        tracing::warn!(setting, value, %error, "cannot set it: {otherwise}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_enough_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("ferrite-sysctl-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("max");
        for (before, after) in [("70000", "70000"), ("5", "100")] {
            std::fs::write(&file, before).unwrap();
            set_at_least(&dir, "max", 100);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), after);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
