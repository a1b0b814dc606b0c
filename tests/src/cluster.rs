//! A coordinator and its agents, without I/O: the real decisions in one heap of events under one seed.
//!
//! `tests/tests/cluster.rs` runs thousands of seeds a minute; each draws its own hosts, wishes, faults and interleaving.
//! There is no runtime, no thread, no clock and no network in a run: the same seed always goes the same way, and a seed
//! that fails is told with its story.
//!
//! ```text
//!   users ─► store ─► jobs ─► CoordinatorSession ══ net ══ AgentSession ─► judge_offer ─► plan ─► model of the host
//!              ▲   domain::{deployment, placement, compile, recovery}                               │
//!              └───────────── domain::fold ◄══ HostReport ◄══ records, journal, standings ◄─────────┘
//!   faults: frames lost, late, doubled, damaged, reordered · links cut · agents, coordinator killed · old copies of the
//!           store put in place · clocks jump · bots exit and hang · hosts reboot, are suspended and cut off
//!   oracle: after every step; settled: once the faults have stopped
//! ```
//! What is real: everything under `protocol::session`, `coordinator::domain`, `agent::plan`, the ledger's judgement, the
//! journal and the book. What is not: SQL, disks, tasks and sockets, which the tests of those crates prove, and what is
//! in these files in their stead. Read in this order: [`world`], [`users`], [`store`], [`jobs`], [`coordinator`], [`net`],
//! [`agent`], [`turn`], [`host`], [`failover`], [`faults`], [`oracle`], [`settled`].

mod world;

mod coordinator;
mod jobs;
mod store;
mod users;

mod net;

mod agent;
mod failover;
mod host;
mod turn;

mod faults;
mod oracle;
mod settled;
pub mod trace;

use std::fmt;

use world::World;

/// A mistake that a run makes on purpose: the oracle must notice each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The agent judges every offer as if it held nothing.
    ForgetFloor,
    /// The agent's marks do not survive its process.
    SkipMarks,
    /// The agent removes what its spec does not name.
    AbsenceDeletes,
    /// The agent believes whatever digest the bytes have.
    NoDigestCheck,
    /// An old copy of the store is served as if nothing had happened.
    ServeOldCopyUnfrozen,
    /// The agent does not write down which start a restart is about to end.
    RestartWithoutMark,
    /// A restored store does not learn where its deployments run.
    ForgetWhereItRuns,
    /// A restored store orders anew what was waiting when its copy was made.
    RepeatOperations,
    /// The agent starts and runs what it has no lease for.
    IgnoreLease,
    /// The coordinator starts elsewhere what a silent host may still run.
    MoveAtOnce,
    /// The coordinator believes what its store and its wall clock say of when hosts were last heard.
    SkipGrace,
}

/// What came of a run in which everything held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of everything that happened, in order.
    pub trace_hash: u64,
    /// Events.
    pub steps: u64,
    /// Simulated microseconds from the end of the faults until all was as it should be.
    pub settled_in_micros: i64,
}

/// What did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In which run.
    pub seed: u64,
    /// After how many events.
    pub step: u64,
    /// Which invariant, by its number in ARCHITECTURE.md.
    pub invariant: u8,
    /// How.
    pub what: String,
    /// The last lines of what happened.
    pub story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, invariant, what, story } = self;
        writeln!(f, "seed {seed}, step {step}: invariant {invariant} is violated: {what}")?;
        write!(f, "{story}")?;
        writeln!(f, "replay it: SEED={seed} cargo test -p launchpad-tests --test cluster -- replay --nocapture")
    }
}

/// Runs one seed.
///
/// # Errors
/// The first violation, with the last lines of the story that led to it.
pub fn run(seed: u64) -> Result<Outcome, Box<Failure>> {
    run_with(seed, None)
}

/// Runs one seed with a mistake made on purpose, or none.
///
/// # Errors
/// As [`run`].
pub fn run_with(seed: u64, bug: Option<Bug>) -> Result<Outcome, Box<Failure>> {
    World::new(seed, bug, false).run().map_err(|_| {
        // The same again, and this time the story is kept: text would slow every run down for the sake of a few.
        let retold = World::new(seed, bug, true).run();
        let (step, violation, story) = retold.expect_err("a seed goes the same way each time");
        Box::new(Failure { seed, step, invariant: violation.invariant, what: violation.what, story })
    })
}
