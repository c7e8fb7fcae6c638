//! Lets go of the program's text that a daemon needed to start and does not need while it runs.
//!
//! The kernel maps 64 KB around each page of a program that is touched, and never unmaps them while memory is plenty: soon after the start
//! nearly all of a program counts as resident, though most of it is never run again. Unmapped, what is still used comes back by itself, at
//! a microsecond a time, out of the kernel's cache of files. Nothing is read from the disk unless the kernel needed the memory. What a
//! daemon needs at rest lies all over its text, though, and 64 KB around it would be half of the text again: the kernel stays within a
//! mapping when it maps what is around, so mappings are cut into small ones.
//!
//! It only ever touches mappings of files that are run (the program, its libraries), that cannot be written and hold no private copy of a
//! page, so that nothing can be lost.

use std::collections::BTreeMap;
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

/// The most that comes back for one access, in bytes: four pages. Twenty megabytes of text are 1300 mappings then; a process may have 65530.
const BLOCK: usize = 16 << 10;

fn trim() -> std::io::Result<usize> {
    let mappings = std::fs::read_to_string("/proc/self/smaps")?;
    let ranges = clean(&mappings);
    for range in &ranges {
        every_second_block(*range).into_iter().for_each(|block| advise(block, libc::MADV_DONTDUMP));
        advise(*range, libc::MADV_DONTNEED);
    }
    Ok(ranges.iter().map(|(from, to)| to - from).sum())
}

/// What has to differ from its neighbours for a range to be mappings of one block each; nothing, where it is that already.
fn every_second_block((from, to): (usize, usize)) -> Vec<(usize, usize)> {
    (from..to).step_by(2 * BLOCK).filter(|at| to - from > 2 * BLOCK && *at + BLOCK <= to).map(|at| (at, at + BLOCK)).collect()
}

/// The address ranges, in the words of `/proc/PID/smaps` (proc(5)), where a file that is run is mapped only for reading and running, and
/// every page is the file's own.
fn clean(mappings: &str) -> Vec<(usize, usize)> {
    let is_run = |file: &str| file.starts_with('/') && mappings.lines().any(|l| l.contains(" r-xp ") && l.ends_with(file));
    let mut files: BTreeMap<String, bool> = BTreeMap::new();
    let mut out: Vec<(usize, usize)> = vec![];
    let mut current: Option<(usize, usize)> = None;
    for line in mappings.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [range, permissions, _, _, _, file @ ..] if range.contains('-') => {
                out.extend(current.take());
                let file = file.join(" ");
                let known = matches!(*permissions, "r--p" | "r-xp") && *files.entry(file).or_insert_with_key(|file| is_run(file));
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

/// Tells the kernel one of two things that change no content: that pages are not needed, or that they are not for core dumps, which
/// hold no text of files in any case.
#[expect(unsafe_code, reason = "there is no safe way to tell the kernel that pages are not needed")]
fn advise((from, to): (usize, usize), advice: libc::c_int) {
    // SAFETY: the range is a mapping of a file that lasts as long as the process, cannot be written and has no private pages, as `clean`
    // saw. After MADV_DONTNEED such pages are taken from the file again at the next access (madvise(2)), and MADV_DONTDUMP is about dumps
    // only: no memory changes its content.
    let refused = unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(from), to - from, advice) } != 0;
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
9000-a000 r--p 00000000 fd:01 9      /usr/share/zoneinfo/UTC
Anonymous:             0 kB
a000-b000 rw-p 00000000 00:00 0
Anonymous:             0 kB
b000-c000 r-xp 00000000 00:00 0      [vdso]
";

    #[test]
    fn only_what_is_the_files_own_goes() {
        assert_eq!(clean(SEEN), [(0x1000, 0x2000), (0x2000, 0x5000), (0x8000, 0x9000)]);
        assert_eq!(clean(""), []);
    }

    #[test]
    fn a_mapping_is_cut_into_blocks_once() {
        let block = BLOCK;
        assert_eq!(every_second_block((0, 5 * block)), [(0, block), (2 * block, 3 * block), (4 * block, 5 * block)]);
        assert_eq!(every_second_block((block, 4 * block - 4096)), [(block, 2 * block)]);
        assert_eq!(every_second_block((0, block)), []);
    }

    #[test]
    fn a_process_goes_on_after_it() {
        assert!(trim().unwrap() > 0);
        let cut = clean(&std::fs::read_to_string("/proc/self/smaps").unwrap());
        assert!(cut.iter().all(|(from, to)| to - from <= 2 * BLOCK), "{cut:x?}");
        assert!(trim().unwrap() > 0, "the program is still mapped");
    }
}
