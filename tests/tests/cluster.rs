//! The fleet holds its promises whatever goes wrong: thousands of seeds, each a world of its own, and no clock.
//!
//! `LAUNCHPAD_SEEDS=n` runs another number of seeds. A seed that fails is printed with its story; it goes the same way
//! again with `SEED=n cargo test -p launchpad-tests --test cluster -- replay --nocapture`. Each planted bug must be
//! found: an oracle that notices nothing proves nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use launchpad_tests::cluster::{Bug, Failure, Outcome, run, run_with};

/// Seeds of a plain run: under a minute on two cores.
const SEEDS: u64 = 20_000;

/// Threads, each with seeds of its own.
const THREADS: u64 = 2;

/// Seeds within which every planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 600;

/// Seeds that are run twice.
const SEEDS_RUN_TWICE: u64 = 50;

/// How many failing seeds are told: more of them rarely say more.
const FAILURES_TOLD: usize = 3;

fn seeds() -> u64 {
    std::env::var("LAUNCHPAD_SEEDS").map_or(SEEDS, |text| text.parse().expect("LAUNCHPAD_SEEDS is a number"))
}

/// Runs seeds from a shared counter until they are used up, or enough of them have failed.
fn some_of(seeds: u64, next: &AtomicU64) -> Vec<Failure> {
    let mut failures = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds || failures.len() == FAILURES_TOLD {
            return failures;
        }
        failures.extend(run(seed).err().map(|failure| *failure));
    }
}

#[test]
fn whatever_goes_wrong_the_invariants_hold_and_desired_becomes_observed() {
    let (seeds, next) = (seeds(), AtomicU64::new(0));
    let mut failures: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| some_of(seeds, &next))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker that does not panic")).collect()
    });
    failures.sort_by_key(|failure| failure.seed);
    failures.truncate(FAILURES_TOLD);
    let told: String = failures.iter().map(|failure| format!("\n{failure}")).collect();
    assert!(failures.is_empty(), "{told}");
}

#[test]
fn replay() {
    let Ok(seed) = std::env::var("SEED") else { return };
    match run(seed.parse().expect("SEED is a number")) {
        Ok(Outcome { trace_hash, steps, settled_in_micros }) => {
            let settled_in_s = settled_in_micros as f64 / 1e6;
            println!("seed {seed} holds: {steps} steps, settled in {settled_in_s} s, trace {trace_hash:016x}");
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_seed_goes_the_same_way_each_time() {
    for seed in 0..SEEDS_RUN_TWICE {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    let hashes: std::collections::BTreeSet<_> =
        (0..SEEDS_RUN_TWICE).filter_map(|seed| Some(run(seed).ok()?.trace_hash)).collect();
    assert_eq!(hashes.len() as u64, SEEDS_RUN_TWICE, "every seed goes a way of its own");
}

/// The first failure that a planted bug leads to, which must be of one of these invariants.
fn found(bug: Bug, invariants: &[u8]) {
    let failure = (0..SEEDS_FOR_A_BUG).find_map(|seed| run_with(seed, Some(bug)).err());
    let failure = failure.unwrap_or_else(|| panic!("{bug:?} goes unnoticed in {SEEDS_FOR_A_BUG} seeds"));
    assert!(invariants.contains(&failure.invariant), "{bug:?} is noticed as something else: {failure}");
    assert!(failure.story.lines().count() > 1, "a failure tells its story: {failure}");
}

#[test]
fn a_forgotten_floor_is_noticed() {
    found(Bug::ForgetFloor, &[2]);
}

#[test]
fn marks_that_do_not_survive_the_agent_are_noticed() {
    found(Bug::SkipMarks, &[2, 9]);
}

#[test]
fn an_agent_that_deletes_what_is_absent_from_its_spec_is_noticed() {
    found(Bug::AbsenceDeletes, &[8, 9]);
}

#[test]
fn an_agent_that_does_not_check_digests_is_noticed() {
    found(Bug::NoDigestCheck, &[2]);
}

#[test]
fn an_old_copy_that_is_served_as_if_nothing_had_happened_is_noticed() {
    found(Bug::ServeOldCopyUnfrozen, &[1, 2, 9]);
}

#[test]
fn a_restart_that_is_not_marked_before_its_stop_is_noticed() {
    found(Bug::RestartWithoutMark, &[9]);
}

#[test]
fn a_restored_store_that_does_not_learn_where_its_bots_run_is_noticed() {
    found(Bug::ForgetWhereItRuns, &[1]);
}

#[test]
fn an_agent_that_ignores_its_lease_is_noticed() {
    found(Bug::IgnoreLease, &[1]);
}

#[test]
fn a_coordinator_that_moves_bots_as_soon_as_a_host_is_silent_is_noticed() {
    found(Bug::MoveAtOnce, &[1]);
}

#[test]
fn a_coordinator_that_has_not_listened_and_calls_hosts_silent_is_noticed() {
    found(Bug::SkipGrace, &[1]);
}

#[test]
fn a_restored_store_that_orders_its_restarts_anew_is_noticed() {
    found(Bug::RepeatOperations, &[9]);
}
