//! The real coordinator and several real agents in one process, on a simulated network and simulated disks, under one seed.
//!
//! What `tests/cluster.rs` proves of the decisions, this proves of what carries them out: tasks and channels, sessions over
//! HTTP/2, SQL, and in which order things reach a disk. `make sim SEEDS=n` runs n seeds; a seed that fails is told with its
//! story, and goes the same way again with `make sim SEED=n`.
//!
//! ```text
//!   this process ── a script ──► a process for each run ── what came of it ──► this process
//!                                 World: Net (turmoil) · Coordinator · Machines · Users · faults · Oracle
//! ```
//! Real: everything from `run_over` and `launchpad_agent::run` inwards, the store on SQLite, the ledger's writing. Not:
//! QUIC and TLS (lanes are plain bytes), enrolment, Docker (the complete fake host, whose containers outlive the agent),
//! and the book, which is in memory and outlives the agent, too. SQLite writes to the machine's own disk: its durability
//! under a power cut is its own authors' proof. A run is a thread in a process of its own, because tokio counts tasks and
//! runtimes for as long as a process lives, and takes its chance from `chance.rs`.
//!
//! turmoil is a dependency of tests alone, so this is no program in `src/bin`: everything that is shipped would be built
//! with the paused clock that comes with it.

mod chance;
mod net;

mod coordinator;
mod drive;
mod machine;
mod users;

mod chronicle;
mod faults;
mod oracle;
mod settled;
mod store_view;
mod world;

mod runs;

use std::collections::BTreeMap;

use drive::Plant;
use faults::Fault;
use runs::{Runs, number};
use world::{Outcome, Script};

/// Seeds of a plain run: within a minute on two cores, with those that are run twice.
const SEEDS: u64 = 50;

/// How many seeds of all are run twice: one in so many.
const TWICE_EVERY: u64 = 10;

/// Seeds within which each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 12;

/// How many failing seeds are told: more of them rarely say more.
const FAILURES_TOLD: usize = 3;

#[test]
fn whatever_goes_wrong_the_real_processes_keep_their_promises_and_desired_becomes_observed() {
    if runs::is_one() {
        return;
    }
    let seeds: Vec<u64> = match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("LAUNCHPAD_SIM_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let twice =
        |seed: &u64| seeds.len() == 1 || seed.is_multiple_of(TWICE_EVERY) || number("LAUNCHPAD_SIM_TWICE").is_some();
    let scripts = seeds.iter().flat_map(|seed| {
        let script = Script { seed: *seed, plant: None, calm: false };
        std::iter::repeat_n(script, 1 + usize::from(twice(seed)))
    });
    let outcomes = Runs::of(scripts).all();
    let told: String =
        outcomes.iter().filter(|outcome| outcome.violation.is_some()).take(FAILURES_TOLD).map(story).collect();
    assert!(told.is_empty(), "{told}");
    let mut traces = BTreeMap::new();
    for outcome in &outcomes {
        let first = traces.entry(outcome.seed).or_insert(outcome.trace);
        assert_eq!(*first, outcome.trace, "seed {} went two ways", outcome.seed);
    }
    let mut tally = BTreeMap::new();
    for (fault, times) in outcomes.iter().flat_map(|outcome| &outcome.faults) {
        *tally.entry(fault.clone()).or_insert(0) += times;
    }
    let slowest = outcomes.iter().filter_map(|outcome| outcome.settled_ms).max().unwrap_or(0);
    println!("{} runs of {} seeds; the slowest settled in {slowest} ms; {tally:?}", outcomes.len(), seeds.len());
    if seeds.len() as u64 >= SEEDS {
        let missing: Vec<_> = Fault::ALL.iter().filter(|fault| !tally.contains_key(&format!("{fault:?}"))).collect();
        assert!(missing.is_empty(), "{missing:?} never happened in {} seeds", seeds.len());
    }
}

#[test]
fn without_faults_every_wish_comes_true() {
    if runs::is_one() {
        return;
    }
    let outcomes = Runs::of([0, 0, 1].map(|seed| Script { seed, plant: None, calm: true })).all();
    assert!(outcomes.iter().all(|outcome| outcome.violation.is_none()), "{}", story(&outcomes[0]));
    assert!(outcomes.iter().all(|outcome| outcome.faults.is_empty()), "{:?}", outcomes[0].faults);
    assert_eq!(outcomes[0], outcomes[1], "a seed goes the same way each time");
    assert_ne!(outcomes[0].trace, outcomes[2].trace, "another seed goes another way");
}

/// The first failure that a planted bug leads to, which must be of one of these invariants.
fn found(plant: Plant, invariants: &[u8]) {
    if runs::is_one() {
        return;
    }
    let scripts = (0..SEEDS_FOR_A_BUG).map(|seed| Script { seed, plant: Some(plant), calm: false });
    let failure = Runs::of(scripts).find(|outcome| outcome.violation.is_some());
    let failure = failure.unwrap_or_else(|| panic!("{plant:?} goes unnoticed in {SEEDS_FOR_A_BUG} seeds"));
    let found = failure.violation.as_ref().map(|(invariant, ..)| *invariant);
    assert!(found.is_some_and(|found| invariants.contains(&found)), "{plant:?} is noticed as: {}", story(&failure));
    println!("{plant:?}: {}", failure.violation.map(|(_, what, _)| what).unwrap_or_default());
}

#[test]
fn a_ledger_that_does_not_wait_for_its_content_to_be_safe_is_noticed() {
    found(Plant::NoFileSync, &[2]);
}

#[test]
fn a_ledger_that_does_not_wait_for_its_names_to_be_safe_is_noticed() {
    found(Plant::NoDirectorySync, &[2]);
}

/// What the other tests start in a process of its own.
#[test]
fn one_run() {
    runs::run_the_one();
}

fn story(outcome: &Outcome) -> String {
    let Some((invariant, what, story)) = &outcome.violation else { return format!("{outcome:?}\n") };
    let seed = outcome.seed;
    format!("\nseed {seed}: invariant {invariant} is violated: {what}\n{story}replay it: make sim SEED={seed}\n")
}
