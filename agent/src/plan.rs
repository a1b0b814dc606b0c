//! The plan: what to do so that the host becomes what it should be. Pure, printed, tested, and only then carried out.
//!
//! ```text
//!  HostSpec ─┐
//!  Observed ─┼─► plan ─► Plan { work per subject, where each instance stands, when to look again }
//!  Records  ─┤             │
//!  Marks    ─┘             └─► reconcile hands the work to `execute`, one subject beside the other
//! ```
//! Nothing here waits, reads a clock or asks the host: time is in [`Context`]. Planning the result of a plan gives an
//! empty plan (`tests/plan_properties.rs`). What a spec leaves out is an orphan: told, and left running.

pub mod action;
pub mod burial;
pub mod drift;
pub mod eviction;
pub mod exit;
pub mod instance;
pub mod lease;
pub mod marks;
pub mod model;
pub mod record;
pub mod strain;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use launchpad_protocol::enforcement::Item;
use launchpad_protocol::id::{DeploymentId, TombstoneId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Orphan, Phase};
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::{BootMoment, Moment};

use crate::enforce::Finding;
use crate::observe::{Container, ContainerState, Observed};
use action::Action;
use marks::Marks;
use record::Record;

/// The time and place of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Now, on the boot clock: what backoff is counted on.
    pub now: BootMoment,
    /// Now, on the wall: for people.
    pub wall: Moment,
    /// The kernel's boot id: an exit before this boot is no crash.
    pub boot_id: String,
}

impl Context {
    /// When this boot began, as the wall clock has it now.
    fn booted_at(&self) -> Moment {
        self.wall - Duration::from_micros(self.now.micros())
    }
}

/// What the agent knows besides spec and observation.
#[derive(Debug, Clone, Copy)]
pub struct Knowledge<'a> {
    /// Durable marks: floors, local stops, operations, burials.
    pub marks: &'a Marks,
    /// One record per instance; rebuilt when lost.
    pub records: &'a BTreeMap<DeploymentId, Record>,
    /// What the probes say of each running container, by the engine's id.
    pub health: &'a BTreeMap<String, Health>,
    /// How the promises of each instance stand.
    pub findings: &'a BTreeMap<DeploymentId, BTreeMap<Item, Finding>>,
    /// When the host's leases were last renewed in this boot.
    pub renewed_at: Option<BootMoment>,
}

/// What the probes say of one running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The startup probe has succeeded.
    pub started: bool,
    /// The readiness probe holds.
    pub ready: bool,
    /// What the last failing probe said.
    pub last_failure: Option<String>,
    /// Why it must be restarted: it did not start in time, or it no longer lives.
    pub verdict: Option<Reason>,
}

/// What a piece of work is about. Pieces of different subjects are carried out side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An instance of the spec.
    Instance(DeploymentId),
    /// A tombstone of the spec.
    Burial(TombstoneId),
}

/// Where an instance stands, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where.
    pub phase: Phase,
    /// Why, where the phase alone does not say.
    pub reason: Option<Reason>,
}

impl Standing {
    /// A standing that needs no reason.
    #[must_use]
    pub const fn plain(phase: Phase) -> Self {
        Self { phase, reason: None }
    }

    /// A standing and its reason.
    #[must_use]
    pub const fn because(phase: Phase, reason: Reason) -> Self {
        Self { phase, reason: Some(reason) }
    }
}

/// What to do, and what to say meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in order, for each subject that needs anything.
    pub work: BTreeMap<Subject, Vec<Action>>,
    /// Where each instance of the spec stands.
    pub standings: BTreeMap<DeploymentId, Standing>,
    /// Containers of ours that nothing names.
    pub orphans: Vec<Orphan>,
    /// What about the spec cannot be done at all.
    pub troubles: Vec<Reason>,
    /// When something is due even if nothing happens.
    pub wake_at: Option<BootMoment>,
}

impl Plan {
    /// What no spec lists goes when somebody on the host says so.
    fn evict_unlisted(&mut self, desired: &HostSpec, observed: &Observed, known: Knowledge<'_>, context: &Context) {
        let buried: BTreeSet<&DeploymentId> = desired.tombstones.values().map(|named| &named.deployment).collect();
        let is_named = |deployment| desired.instances.contains_key(deployment) || buried.contains(deployment);
        for (deployment, evicted) in known.marks.evicted.iter().filter(|(deployment, _)| !is_named(deployment)) {
            let trouble = known.records.get(deployment).and_then(|record| record.trouble.as_ref());
            let actions = eviction::unlisted(*deployment, evicted, desired, observed, known.marks);
            match trouble.filter(|trouble| context.now < trouble.retry_at) {
                Some(trouble) => {
                    self.wake_by(Some(trouble.retry_at));
                    self.troubles.push(trouble.reason.clone());
                }
                None if actions.is_empty() => {}
                None => drop(self.work.insert(Subject::Instance(*deployment), actions)),
            }
        }
    }

    fn wake_by(&mut self, at: Option<BootMoment>) {
        self.wake_at = [self.wake_at, at].into_iter().flatten().min();
    }

    /// Whether the host is as it should be, or has said why not.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.work.is_empty()
            && self.standings.values().all(|standing| {
                matches!(
                    standing.phase,
                    Phase::Ready | Phase::Unready | Phase::Stopped | Phase::Refused | Phase::Backoff
                )
            })
    }
}

/// Compares what should be with what is.
#[must_use]
pub fn plan(desired: &HostSpec, observed: &Observed, known: Knowledge<'_>, context: &Context) -> Plan {
    let mut plan = Plan::default();
    for spec in desired.instances.values() {
        let decision = match eviction::holds(spec, known.marks) {
            Some(evicted) => {
                let record = known.records.get(&spec.deployment);
                eviction::decide(spec, evicted, desired, observed, known.marks, record, context)
            }
            None => instance::decide(spec, desired, observed, known, context),
        };
        plan.standings.insert(spec.deployment, decision.standing);
        if !decision.actions.is_empty() {
            plan.work.insert(Subject::Instance(spec.deployment), decision.actions);
        }
        plan.wake_by(decision.wake_at);
    }
    plan.evict_unlisted(desired, observed, known, context);
    for tombstone in desired.tombstones.values() {
        match burial::bury(tombstone, desired, observed, known.marks) {
            Ok(actions) if actions.is_empty() => {}
            Ok(actions) => {
                plan.work.insert(Subject::Burial(tombstone.id), actions);
            }
            Err(reason) => plan.troubles.push(reason),
        }
    }
    plan.orphans = orphans(desired, observed);
    plan
}

fn orphans(desired: &HostSpec, observed: &Observed) -> Vec<Orphan> {
    let buried: BTreeSet<DeploymentId> = desired.tombstones.values().map(|tombstone| tombstone.deployment).collect();
    let unnamed = |container: &&Container| {
        !desired.instances.contains_key(&container.deployment) && !buried.contains(&container.deployment)
    };
    let orphan = |container: &Container| Orphan {
        container: container.id.clone(),
        deployment: Some(container.deployment),
        account: Some(container.account),
        running: matches!(container.state, ContainerState::Running { .. }),
    };
    observed.containers.values().filter(unnamed).map(orphan).collect()
}

/// A plan as on-call reads it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (deployment, standing) in &self.standings {
            write!(f, "{deployment} {:?}", standing.phase)?;
            match &standing.reason {
                Some(reason) => writeln!(f, ": {reason}")?,
                None => writeln!(f)?,
            }
        }
        for (subject, actions) in &self.work {
            match subject {
                Subject::Instance(deployment) => writeln!(f, "to do for {deployment}:")?,
                Subject::Burial(tombstone) => writeln!(f, "to do for {tombstone}:")?,
            }
            for action in actions {
                writeln!(f, "  {action}")?;
            }
        }
        for orphan in &self.orphans {
            writeln!(f, "orphan {}: left running, because no spec and no tombstone names it", orphan.container)?;
        }
        self.troubles.iter().try_for_each(|trouble| writeln!(f, "trouble: {trouble}"))
    }
}
