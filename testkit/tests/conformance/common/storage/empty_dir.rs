//! Empty directories, on disk and in memory, for root and for others.

use serde_json::{Value, json};

use super::super::pod;
use crate::framework::{BUSYBOX, Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] EmptyDir volumes pod should support shared volumes between containers", test!(shared)),
    Behaviour::new(
        "[sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly] [NodeConformance]",
        |f| Box::pin(mode(f, DISK)),
    ),
    Behaviour::new("[sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(mode(f, MEMORY))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, ROOT, "0644", "-rw-r--r--", DISK))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, ROOT, "0644", "-rw-r--r--", MEMORY))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, ROOT, "0666", "-rw-rw-rw-", DISK))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, ROOT, "0666", "-rw-rw-rw-", MEMORY))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, ROOT, "0777", "-rwxrwxrwx", DISK))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, ROOT, "0777", "-rwxrwxrwx", MEMORY))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, OTHER, "0644", "-rw-r--r--", DISK))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, OTHER, "0644", "-rw-r--r--", MEMORY))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, OTHER, "0666", "-rw-rw-rw-", DISK))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, OTHER, "0666", "-rw-rw-rw-", MEMORY))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, OTHER, "0777", "-rwxrwxrwx", DISK))
    }),
    Behaviour::new("[sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(file(f, OTHER, "0777", "-rwxrwxrwx", MEMORY))
    }),
];

const DISK: &str = "";
const MEMORY: &str = "Memory";
const ROOT: u32 = 0;
const OTHER: u32 = 1001;

fn mounting(script: &str, medium: &str, user: u32) -> Value {
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {"medium": medium}}], "securityContext": {"runAsUser": user}});
    pod("p", script, spec, json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}))
}

/// What is mounted at `/v`, when it is no part of the node's disk.
const MOUNTED: &str = "grep ' /v tmpfs ' /proc/mounts | cut -d' ' -f3";

fn mounted(medium: &str) -> &'static str {
    if medium == MEMORY { "tmpfs\n" } else { "" }
}

async fn mode(f: Framework, medium: &str) -> anyhow::Result<()> {
    let said = f.output_of(&mounting(&format!("stat -c %A /v; {MOUNTED}"), medium, ROOT)).await;
    assert_eq!(said, format!("drwxrwxrwx\n{}", mounted(medium)));
    Ok(())
}

/// A user makes a file of this mode, which then is so and belongs to them.
async fn file(f: Framework, user: u32, mode: &str, shown: &str, medium: &str) -> anyhow::Result<()> {
    let make = format!("umask 0; echo mount-tester new file > /v/f; chmod {mode} /v/f");
    let said = f.output_of(&mounting(&format!("{make}; cat /v/f; stat -c '%A %u' /v/f; {MOUNTED}"), medium, user)).await;
    assert_eq!(said, format!("mount-tester new file\n{shown} {user}\n{}", mounted(medium)));
    Ok(())
}

async fn shared(f: Framework) -> anyhow::Result<()> {
    let mut pod = mounting("until [ -e /v/done ]; do sleep 0.1; done; cat /v/shared", DISK, ROOT);
    pod["spec"]["containers"].as_array_mut().expect("containers").push(json!({
        "name": "writer", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "volumeMounts": [{"name": "v", "mountPath": "/other"}],
        "command": ["sh", "-c", "echo Hello from the other > /other/shared; touch /other/done"],
    }));
    assert_eq!(f.output_of(&pod).await, "Hello from the other\n");
    Ok(())
}
