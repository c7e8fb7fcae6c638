//! Processor time and memory of another process, from the kernel's books.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::ClockId;
use nix::unistd::Pid;

/// A process that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

/// What a process occupies, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// All of it that is in memory: `VmRSS`.
    pub resident: u64,
    /// What of it is heap and stacks: `RssAnon`.
    pub anonymous: u64,
    /// The most that was ever resident since [`Process::forget_peak`]: `VmHWM`.
    pub peak: u64,
}

impl Process {
    /// The time that processors spent for it so far, all threads together, those that ended too; to the nanosecond.
    pub fn time(self) -> anyhow::Result<Duration> {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.0.try_into()?)).context("the clock of a process")?;
        Ok(Duration::from(clock.now()?))
    }

    /// What it occupies now (proc(5)).
    pub fn memory(self) -> anyhow::Result<Memory> {
        let path = format!("/proc/{}/status", self.0);
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
            kilobytes.map(|k| k << 10).with_context(|| format!("{name} in {path}"))
        };
        Ok(Memory { resident: field("VmRSS")?, anonymous: field("RssAnon")?, peak: field("VmHWM")? })
    }

    /// Lets the peak begin again at what is resident now.
    pub fn forget_peak(self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/clear_refs", self.0);
        std::fs::write(&path, "5").with_context(|| path.clone())
    }
}

/// A thousand watchers need as many sockets, here and in the server that inherits the limit.
pub fn raise_open_files() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most.min(1 << 16), most)?;
    Ok(())
}
