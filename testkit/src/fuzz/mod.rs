//! Fuzzing of everything that reads what outsiders write: decoders, patches, selectors, URLs, rules.
//!
//! [`targets`] are functions from bytes to a short text that says what came of them; they panic when a property does not hold.
//! [`mutate`] makes inputs out of the corpus in `testkit/fuzz/<target>/`. An input whose outcome was never seen joins the corpus, so that
//! what is found leads further. `deploy/fuzz` runs it; a test runs every file of the corpus once.

pub mod mutate;
pub mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mutate::Random;
use targets::Target;

/// The most bytes of an input. Larger ones find nothing that these do not.
pub const INPUT_MAX: usize = 16 << 10;
/// An input that takes longer than this hangs. Builds without optimisation are slow, and so are busy machines.
const HANG: Duration = Duration::from_secs(20);
/// The process may grow by this much at most, in bytes.
const MEMORY_MAX: u64 = 2 << 30;
/// Inputs kept of a target at most.
const CORPUS_MAX: usize = 2_000;
/// Inputs of a target that are written to the repository at most, and the most bytes of one.
const KEPT: (usize, usize) = (60, 2 << 10);

/// Where the corpus is.
#[must_use]
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The inputs of a target, by file.
///
/// # Errors
/// A folder that cannot be read.
pub fn inputs(target: &str) -> std::io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(corpus().join(target))? {
        let path = entry?.path();
        out.insert(path.clone(), std::fs::read(&path)?);
    }
    Ok(out)
}

/// What came of an input, or the panic.
///
/// # Errors
/// The text of the panic.
pub fn run(target: &Target, input: &[u8]) -> Result<String, String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a text").to_owned()
    })
}

/// An outcome without what differs from input to input: names and numbers.
fn shape(outcome: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    for c in outcome.chars().take(400) {
        match c {
            '"' | '\'' | '`' => quoted = !quoted,
            _ if quoted => {}
            c if c.is_ascii_digit() => {
                if !out.ends_with('0') {
                    out.push('0');
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Resident memory of this process, in bytes.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|t| t.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

/// What a run of the fuzzer did.
#[derive(Debug, Default)]
pub struct Report {
    /// Inputs that were run, by target.
    pub runs: BTreeMap<&'static str, u64>,
    /// Outcomes that were seen, by target.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// What went wrong: target, text, file of the input.
    pub failures: Vec<(String, String, PathBuf)>,
    /// The slowest input.
    pub slowest: Duration,
    /// Resident memory at its highest, in bytes.
    pub memory: u64,
}

/// Fuzzes every target in turn for a time. Inputs that fail are written into the corpus, as are the small ones that lead somewhere new.
///
/// # Errors
/// A corpus that cannot be read or written.
pub fn fuzz(time: Duration, seed: u64, only: &[String]) -> anyhow::Result<Report> {
    // The stack of the server's workers, so that what is too deep for them is too deep here.
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let only = only.to_owned();
    worker.spawn(move || fuzz_here(time, seed, &only))?.join().map_err(|_| anyhow::anyhow!("the fuzzer itself panicked"))?
}

struct Pool {
    inputs: Vec<Vec<u8>>,
    shapes: BTreeSet<String>,
    /// Small inputs that led somewhere new and are not in a file.
    fresh: Vec<Vec<u8>>,
}

fn fuzz_here(time: Duration, seed: u64, only: &[String]) -> anyhow::Result<Report> {
    std::panic::set_hook(Box::new(|_| {}));
    let (mut random, mut report) = (Random::new(seed), Report::default());
    let chosen: Vec<&Target> = targets::ALL.iter().filter(|t| only.is_empty() || only.iter().any(|o| o == t.name)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no such target: {only:?}");
    let watch = Watchdog::start();
    let mut pools = vec![];
    for target in &chosen {
        let mut pool = Pool { inputs: vec![], shapes: BTreeSet::new(), fresh: vec![] };
        for input in inputs(target.name)?.into_values().chain((target.seeds)()) {
            one(target, &input, &mut pool, &mut report, &watch)?;
            pool.inputs.push(input);
        }
        anyhow::ensure!(!pool.inputs.is_empty(), "{} has no corpus", target.name);
        pools.push(pool);
    }
    let (began, mut said) = (Instant::now(), Instant::now());
    while began.elapsed() < time && report.failures.len() < 20 {
        for (target, pool) in chosen.iter().zip(&mut pools) {
            for _ in 0..50 {
                let input = mutate::input(&pool.inputs, &mut random, target.parts);
                if one(target, &input, pool, &mut report, &watch)? && pool.inputs.len() < CORPUS_MAX {
                    if input.len() <= KEPT.1 {
                        pool.fresh.push(input.clone());
                    }
                    pool.inputs.push(input);
                }
            }
        }
        report.memory = report.memory.max(memory());
        anyhow::ensure!(report.memory < MEMORY_MAX, "the process has grown to {} bytes; the seed was {seed}", report.memory);
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            let total: u64 = report.runs.values().sum();
            println!("{} s: {total} inputs, {} failures, {} MiB", began.elapsed().as_secs(), report.failures.len(), report.memory >> 20);
        }
    }
    for (target, pool) in chosen.iter().zip(&mut pools) {
        report.outcomes.insert(target.name, pool.shapes.len());
        keep(target, pool)?;
    }
    Ok(report)
}

/// Runs one input; says whether its outcome is new.
fn one(target: &Target, input: &[u8], pool: &mut Pool, report: &mut Report, watch: &Watchdog) -> anyhow::Result<bool> {
    watch.begin(target.name, input)?;
    let began = Instant::now();
    let outcome = run(target, input);
    report.slowest = report.slowest.max(began.elapsed());
    watch.end();
    *report.runs.entry(target.name).or_default() += 1;
    match outcome {
        Ok(outcome) => Ok(pool.shapes.insert(shape(&outcome))),
        Err(panic) => {
            if pool.shapes.insert(format!("panic {}", shape(&panic))) {
                let path = write(target.name, "failed", input)?;
                println!("{}: {panic}\n  the input is in {}", target.name, path.display());
                report.failures.push((target.name.to_owned(), panic, path));
            }
            Ok(false)
        }
    }
}

fn write(target: &str, word: &str, input: &[u8]) -> std::io::Result<PathBuf> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = corpus().join(target).join(format!("{word}-{:016x}", hasher.finish()));
    std::fs::write(&path, input)?;
    Ok(path)
}

/// Writes the smallest of the new inputs to the corpus, as long as there is room.
fn keep(target: &Target, pool: &mut Pool) -> anyhow::Result<()> {
    let there = inputs(target.name)?.len();
    pool.fresh.sort_by_key(Vec::len);
    for input in pool.fresh.iter().take(KEPT.0.saturating_sub(there)) {
        write(target.name, "found", input)?;
    }
    Ok(())
}

/// Ends the process when an input takes for ever. The input is in a file: a stack that overflows ends the process, too.
struct Watchdog {
    began: Arc<AtomicU64>,
    zero: Instant,
    file: PathBuf,
}

impl Watchdog {
    fn start() -> Self {
        let file = std::env::temp_dir().join(format!("ferrite-fuzz-{}", std::process::id()));
        let (began, zero) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let (at, of) = (began.clone(), file.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::park_timeout(Duration::from_secs(1));
                let began = at.load(Ordering::Acquire);
                let now = u64::try_from(zero.elapsed().as_millis()).unwrap_or(u64::MAX);
                if began > 0 && now.saturating_sub(began) > u64::try_from(HANG.as_millis()).unwrap_or(u64::MAX) {
                    println!("an input takes longer than {HANG:?}: it is in {}", of.display());
                    std::process::exit(2);
                }
            }
        });
        Self { began, zero, file }
    }

    fn begin(&self, target: &str, input: &[u8]) -> std::io::Result<()> {
        std::fs::write(&self.file, [target.as_bytes(), b"\n", input].concat())?;
        let now = u64::try_from(self.zero.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began.store(now.max(1), Ordering::Release);
        Ok(())
    }

    fn end(&self) {
        self.began.store(0, Ordering::Release);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Nobody needs it any more; a file that stays behind does no harm.
        let _ = std::fs::remove_file(&self.file);
    }
}
