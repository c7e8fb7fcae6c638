//! `fuzz [SECONDS] [SEED] [TARGET ...]`: looks for inputs that make the apiserver's readers panic, hang or grow. See `docs/testing.md`.

use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(60), |a| a.parse())?;
    let seed = match arguments.next() {
        Some(seed) => seed.parse()?,
        None => u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos()).unwrap_or(1),
    };
    let only: Vec<String> = arguments.collect();
    println!("{seconds} s with the seed {seed}");
    let report = testkit::fuzz::fuzz(Duration::from_secs(seconds), seed, &only)?;
    for (target, runs) in &report.runs {
        println!("{target:16} {runs:>9} inputs, {:>5} outcomes", report.outcomes.get(target).copied().unwrap_or(0));
    }
    println!("the slowest input took {:?}; {} MiB at most", report.slowest, report.memory >> 20);
    for (target, panic, path) in &report.failures {
        println!("FAILED {target}: {panic}\n  {}", path.display());
    }
    anyhow::ensure!(report.failures.is_empty(), "{} inputs failed", report.failures.len());
    Ok(())
}
