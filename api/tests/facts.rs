//! `api/schema/facts-1.35.txt` is what `api/schema/generate.py` writes.

use std::process::Command;

#[test]
fn the_facts_are_what_the_generator_writes() {
    /// The packages could not be fetched: said by the generator, and no reason to call the facts stale.
    const UNREACHABLE: i32 = 75;
    let run = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/generate.py"))
        .args(["--check", "--cache", concat!(env!("CARGO_TARGET_TMPDIR"), "/facts")])
        .output()
        .expect("python3 runs");
    let words = String::from_utf8_lossy(&run.stderr);
    match run.status.code() {
        Some(0) => {}
        Some(UNREACHABLE) => eprintln!("not compared, for want of the packages: {words}"),
        code => panic!("generate.py: {code:?} {words}"),
    }
}
