//! The images that are made on this machine contain what runs: from the distribution's packages, as root.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use deploy::images::{EXAMPLE, PAUSE, oci, rootfs};

fn inside(root: &Path, command: &[&str]) -> String {
    let out = Command::new("chroot").arg(root).args(command).output().expect("chroot starts");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[test]
fn nginx_and_a_shell_run_in_their_root() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("made");
    let config = rootfs::nginx(&root).expect("made of packages");
    let version = inside(&root, &["/usr/sbin/nginx", "-v"]);
    let tag = config.names.last().and_then(|n| n.rsplit(':').next()).expect("a tag");
    assert!(version.contains(tag), "{version} is the version of {tag}");
    assert!(inside(&root, &["/bin/sh", "-c", "cat /usr/share/nginx/html/index.html"]).contains("Welcome to nginx!"));
    assert_eq!(inside(&root, &["/bin/sh", "-c", "echo shell"]), "shell\n");
    inside(&root, &["/usr/bin/wget", "--help"]);
}

#[test]
fn archives_are_made_once_and_name_their_images() {
    let cache = tempfile::tempdir().expect("a directory");
    for image in [&PAUSE, &EXAMPLE[0]] {
        assert!(!image.is_made(cache.path()));
        let archive = image.archive(cache.path()).expect("made");
        assert!(image.is_made(cache.path()));
        let before = oci::names(&archive).expect("names");
        assert!(before.iter().all(|(name, _)| name.contains(image.name)), "{before:?}");
        assert_eq!(image.archive(cache.path()).expect("kept"), archive);
        std::fs::remove_file(&archive).expect("removed");
        assert_eq!(oci::names(&image.archive(cache.path()).expect("made again")).expect("names"), before, "the same bytes again");
    }
}

#[test]
fn pause_waits_and_ends_when_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    rootfs::pause(dir.path()).expect("made");
    // As process 1 of a namespace, where the kernel drops signals that nobody waits for.
    let mut outer =
        Outer(Command::new("unshare").args(["--pid", "--fork", "--kill-child"]).arg(dir.path().join("pause")).spawn().expect("started"));
    let children = format!("/proc/{0}/task/{0}/children", outer.0.id());
    let mut inner = String::new();
    let is_pause = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pause\n");
    assert!(deploy::wait::until(Duration::from_secs(10), || {
        inner = std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        is_pause(&inner)
    }));
    assert!(outer.0.try_wait().expect("looked at").is_none(), "it waits");
    let pid = nix::unistd::Pid::from_raw(inner.parse().expect("a number"));
    let mut ended = None;
    assert!(deploy::wait::until(Duration::from_secs(10), || {
        // Again and again: the first ones may come before it listens.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        ended = outer.0.try_wait().expect("looked at");
        ended.is_some()
    }));
    assert!(ended.is_some_and(|status| status.success()));
}

/// Ends the process when a test fails before it does.
struct Outer(std::process::Child);

impl Drop for Outer {
    fn drop(&mut self) {
        // It has ended already when the test succeeded.
        let _ = self.0.kill();
    }
}
