//! Behaviours as trials of the test harness: each bounded in time, its panic its own, its leftovers removed.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::RwLock;

use super::{Behaviour, Framework, cluster};

/// Tests that run at once: they wait for the cluster more than they work, and the cluster is one machine.
pub const AT_ONCE: usize = 4;
/// No behaviour takes longer, with namespaces going and pods stopping at their default grace.
const WITHIN: Duration = Duration::from_secs(600);
/// How many behaviours of a run may fail once and be seen again. A busy machine makes one late; more than these are no accident.
const SECOND_LOOKS: usize = 4;
const LIST: &str = include_str!("../behaviours.txt");

/// The behaviours that were not seen at first, each with what was seen in its place.
static UNSTEADY: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());

/// Held by each test for reading; by a serial one for writing.
static ALONE: RwLock<()> = RwLock::const_new(());

/// The runtime that all tests share, as they share connections.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        daemon::tls::install_crypto();
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// All behaviours, serial ones last.
pub fn trials(files: &'static [(&str, &[Behaviour])]) -> Vec<Trial> {
    let all = || files.iter().flat_map(|(_, behaviours)| behaviours.iter());
    let ordered = all().filter(|b| !b.serial).chain(all().filter(|b| b.serial));
    ordered.map(|b| Trial::test(b.name, || seen(b).map_err(|e| Failed::from(format!("{e:#}"))))).collect()
}

/// The behaviour, looked at once more, with nothing beside it, where it was not seen the first time. That is told at the end
/// ([`unsteady`]): a flake is a fault, of the test or of what it tests, but no reason to distrust all else.
fn seen(behaviour: &'static Behaviour) -> anyhow::Result<()> {
    let Err(first) = one(behaviour, behaviour.serial) else { return Ok(()) };
    {
        let mut unsteady = UNSTEADY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if unsteady.len() >= SECOND_LOOKS {
            return Err(first.context("no second look, too many were needed already"));
        }
        unsteady.push((behaviour.name, format!("{first:#}")));
    }
    one(behaviour, true).map_err(|second| second.context(format!("at the second look; at the first: {first:#}")))
}

/// What was not seen at the first look, for people to read; empty when all was steady.
pub fn unsteady() -> String {
    let unsteady = UNSTEADY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    unsteady.iter().map(|(name, first)| format!("SECOND LOOK {name}\n{first}\n")).collect()
}

fn one(behaviour: &'static Behaviour, by_itself: bool) -> anyhow::Result<()> {
    // Before it: a second test must not wait for the lock inside the runtime while the first waits for the cluster.
    let cluster = cluster::get()?;
    runtime().block_on(async {
        let (mut shared, mut alone) = (None, None);
        if by_itself {
            alone = Some(ALONE.write().await);
        } else {
            shared = Some(ALONE.read().await);
        }
        let framework = Framework::new(cluster).await.context("preparing a namespace")?;
        let test = AssertUnwindSafe((behaviour.test)(framework.clone())).catch_unwind();
        let outcome = match tokio::time::timeout(WITHIN, test).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(anyhow::anyhow!("{}", words(&*panic))),
            Err(_) => Err(anyhow::anyhow!("not done after {WITHIN:?}")),
        };
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(format!("in namespace {}:\n{}", framework.namespace, framework.describe().await))),
        };
        let cleaned = framework.clean().await;
        drop((shared, alone));
        outcome.and(cleaned)
    })
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// That `behaviours.txt` lists each behaviour once, under the file that it is tested in, and no other.
pub fn agrees_with_the_list(files: &[(&str, &[Behaviour])]) -> Result<(), String> {
    let mut counts: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    for line in LIST.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (file, name) = line.split_once('\t').ok_or_else(|| format!("behaviours.txt: no tab in {line:?}"))?;
        counts.entry((file.to_owned(), name.to_owned())).or_default().0 += 1;
    }
    for (file, behaviours) in files {
        for behaviour in *behaviours {
            counts.entry((format!("test/e2e/{file}.go"), behaviour.name.to_owned())).or_default().1 += 1;
        }
    }
    let wrong: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count != (1, 1))
        .map(|((file, name), (listed, tested))| format!("{file}\t{name}: listed {listed} times, tested {tested} times"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("behaviours.txt and the tests differ:\n{}", wrong.join("\n"))) }
}
