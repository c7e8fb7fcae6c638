//! Lets go of the program's text that a daemon needed to start and does not need while it runs.
//!
//! The kernel maps 64 KB around each page of a program that is touched, and never unmaps them while memory is plenty: soon after the start
//! nearly all of a program counts as resident, though most of it is never run again. Unmapped, what is still used comes back by itself, at
//! a microsecond for each 64 KB, out of the kernel's cache of files. Nothing is read from the disk unless the kernel needed the memory.
//!
//! It only ever touches mappings of the program's own file that cannot be written and hold no private copy of a page, so that nothing
//! can be lost.

use std::convert::Infallible;
use std::time::Duration;

/// The first time: what a start needs is over.
const FIRST: Duration = Duration::from_secs(5);
/// Each time after that waits twice as long as the one before, up to this: a daemon's start may end later than its own, when others
/// come to it, and what a rare event brought in goes again.
const MOST: Duration = Duration::from_secs(300);

/// Keeps what is not used out of the resident memory, for as long as it is polled.
pub(crate) async fn keep_small() -> Infallible {
    let mut wait = FIRST;
    loop {
        tokio::time::sleep(wait).await;
        wait = MOST.min(wait * 2);
        match trim() {
            Ok(bytes) => tracing::debug!(bytes, "unmapped the program's text"),
            Err(error) => {
                // It is a saving, no more.
                tracing::debug!(%error, "the program's mappings cannot be read");
                std::future::pending().await
            }
        }
    }
}

fn trim() -> std::io::Result<usize> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let mappings = std::fs::read_to_string("/proc/self/smaps")?;
    let ranges = clean(&mappings, &program.to_string_lossy());
    ranges.iter().for_each(|range| unmap(*range));
    Ok(ranges.iter().map(|(from, to)| to - from).sum())
}

/// The address ranges, in the words of `/proc/PID/smaps` (proc(5)), where the program's file is mapped, only for reading and running, and
/// every page is the file's own.
fn clean(mappings: &str, program: &str) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = vec![];
    let mut current: Option<(usize, usize)> = None;
    for line in mappings.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [range, permissions, _, _, _, path @ ..] if range.contains('-') => {
                out.extend(current.take());
                let known = matches!(*permissions, "r--p" | "r-xp") && path.join(" ") == program;
                let ends = range.split_once('-').filter(|_| known);
                current = ends.and_then(|(from, to)| Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?)));
            }
            // Relocated constants, for example, are no longer what the file says.
            ["Anonymous:" | "Swap:", amount, ..] if *amount != "0" => current = None,
            _ => {}
        }
    }
    out.extend(current);
    out
}

#[expect(unsafe_code, reason = "there is no safe way to tell the kernel that pages are not needed")]
fn unmap((from, to): (usize, usize)) {
    // SAFETY: the range is a mapping of the program's own file that lasts as long as the process, cannot be written and has no private
    // pages, as `clean` saw. After MADV_DONTNEED such pages are taken from the file again at the next access (madvise(2)): no memory
    // changes its content.
    let refused = unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(from), to - from, libc::MADV_DONTNEED) } != 0;
    if refused {
        tracing::debug!(error = %std::io::Error::last_os_error(), "unmapping the program's text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "\
1000-2000 r--p 00000000 fd:01 7      /usr/bin/my daemon
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
2000-5000 r-xp 00001000 fd:01 7      /usr/bin/my daemon
Anonymous:             0 kB
Swap:                  0 kB
5000-6000 r--p 00004000 fd:01 7      /usr/bin/my daemon
Anonymous:             4 kB
Swap:                  0 kB
6000-7000 r--p 00005000 fd:01 7      /usr/bin/my daemon
Anonymous:             0 kB
Swap:                  4 kB
7000-8000 rw-p 00005000 fd:01 7      /usr/bin/my daemon
Anonymous:             0 kB
8000-9000 r-xp 00000000 fd:01 9      /usr/lib/libc.so.6
Anonymous:             0 kB
9000-a000 rw-p 00000000 00:00 0
Anonymous:             0 kB
b000-c000 r-xp 00000000 00:00 0      [vdso]
";

    #[test]
    fn only_what_is_the_files_own_goes() {
        assert_eq!(clean(SEEN, "/usr/bin/my daemon"), [(0x1000, 0x2000), (0x2000, 0x5000)]);
        assert_eq!(clean(SEEN, "/usr/bin/other"), []);
        assert_eq!(clean("", ""), []);
    }

    #[test]
    fn a_process_goes_on_after_it() {
        assert!(trim().unwrap() > 0);
        assert_eq!(clean(&std::fs::read_to_string("/proc/self/smaps").unwrap(), "/nothing"), []);
        assert!(trim().unwrap() > 0, "the program is still mapped");
    }
}
