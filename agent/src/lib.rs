//! The agent: one per host. It accepts desired state, makes the host so, and reports what is true.
//!
//! ```text
//!  link ──offers──► ledger ──► reconcile ──► plan (pure) ──► execute ──► Docker, gate, cgroups, files
//!   ▲                              │  ▲
//!   └────────── reports ───────────┘  └── observe, probe
//! ```
//! In the order of a deployment's journey: [`link`] · [`ledger`] · [`observe`] · [`plan`] · [`execute`] · [`probe`] ·
//! [`reconcile`]. Around them: [`enroll`], [`identity`], [`renew`] (who this host is) · [`local`], [`socket`],
//! [`status`], [`evict`], [`doctor`] (people on the host) · [`book`], [`journal`], [`disk`] (what is remembered) · [`answer`]
//! (questions) · [`supervise`] (what systemd hears). [`gate`] is a process of its own: what bots may reach, and what may reach them.
//!
//! [`run`] has no statics and ends no process: many agents live in one under the simulator. A crash is as good an end as
//! any: nothing depends on a destructor, and bots run on.

pub mod answer;
pub mod book;
pub mod config;
pub mod disk;
pub mod doctor;
pub mod enforce;
pub mod enroll;
pub mod evict;
pub mod execute;
pub mod gate;
pub mod identity;
pub mod journal;
pub mod ledger;
pub mod link;
pub mod local;
pub mod observe;
pub mod plan;
pub mod probe;
pub mod reconcile;
pub mod renew;
pub mod socket;
pub mod status;
pub mod supervise;
pub mod upgrade;

use std::sync::Arc;

use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use book::Book;
use disk::{Disk, DiskError};
use execute::{Eyes, Hands};
use ledger::Ledger;
use link::{Introduction, Link, Pace, Reach};
use reconcile::facts::HostFacts;
use reconcile::request::LocalRequest;
use reconcile::{Parts, ReconcileError, Reconciler};

/// The agent's version, as it is told to the coordinator and to people.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything outside that an agent may touch. `main` builds the real one, tests and the simulator theirs.
pub struct Outside {
    /// Which host this is.
    pub host: HostId,
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub entropy: Entropy,
    /// Where the ledger lives.
    pub disk: Disk,
    /// Where records and events live.
    pub book: Box<dyn Book>,
    /// What carries out actions.
    pub hands: Arc<dyn Hands>,
    /// What observes.
    pub eyes: Arc<dyn Eyes>,
    /// What the report says of the host itself.
    pub facts: Box<dyn HostFacts>,
    /// How the coordinator is reached.
    pub reach: Reach,
    /// How fast the link is.
    pub pace: Pace,
    /// What is asked for on the host itself.
    pub local: mpsc::Receiver<LocalRequest>,
    /// What was found wrong while all this was built.
    pub troubles: Vec<Reason>,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] DiskError),
    /// The loop cannot begin.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
}

/// Runs an agent until `stop`. Bots run on afterwards.
///
/// # Errors
/// [`AgentError`] when its state cannot be opened; nothing has been touched then.
pub async fn run(outside: Outside, stop: CancellationToken) -> Result<(), AgentError> {
    let Outside { host, clock, entropy, disk, book, hands, eyes, facts, reach, pace, local, troubles } = outside;
    let ledger = Ledger::open(disk, host)?;
    let (link_ports, ports) = link::ports::ports(ledger.floor(), clock.wall());
    let introduction = Introduction {
        agent_version: VERSION.to_owned(),
        boot_id: facts.boot_id().to_owned(),
        features: Feature::all(),
    };
    let link = Link {
        reach,
        introduction,
        eyes: Arc::clone(&eyes),
        ports: link_ports,
        clock: clock.clone(),
        entropy: entropy.clone(),
        pace,
    };
    let parts = Parts { clock, entropy, ledger, book, hands, eyes, facts, ports, local, troubles };
    let reconciler = Reconciler::new(parts)?;
    tokio::join!(link.run(stop.clone()), reconciler.run(stop));
    Ok(())
}

/// Every point at which a test kills the agent: around each action of a plan, each durable note, and each step that a
/// volume takes on its way.
#[must_use]
pub fn kill_points() -> Vec<&'static str> {
    let by_hand = plan::action::Action::KINDS.into_iter().filter(|kind| !plan::action::BY_LEDGER.contains(kind));
    let volumes = execute::volume::step::KILL_POINTS;
    by_hand.chain(ledger::Commit::ALL.map(ledger::Commit::name)).chain([book::COMMIT]).chain(volumes).collect()
}
