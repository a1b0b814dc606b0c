//! What must hold at every step, whatever goes wrong: checked on what is durable, and on what is done to hosts.
//!
//! The oracle keeps books of its own of what people wanted, what was published and what each host ever accepted. It
//! asks none of the code under test. The numbers are those of the invariants in ARCHITECTURE.md.
//!
//! ```text
//!  1  one running container of a deployment, on all hosts together          after every step
//!  2  floors and epochs rise; one generation of a host is one spec          after every step
//!  8  nothing unnamed is touched, no volume goes without its tombstone      before every action
//!  9  what runs and is wished is stopped only by an operation, once each,   before every action
//!     by a tombstone, or because its probes failed
//! ```
//! What must hold once the faults have stopped is in `settled.rs`.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_agent::observe::Container;
use launchpad_agent::plan::action::{Action, StopCause};
use launchpad_agent::plan::marks::OperationMark;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Accepted, Epoch, Generation};
use launchpad_protocol::id::{DeploymentId, OperationId};
use launchpad_protocol::spec::{Tombstone, TombstoneScope};

use super::host::Host;

/// What was violated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// Its number in the list of invariants.
    pub(super) invariant: u8,
    /// How.
    pub(super) what: String,
}

/// What is known of one ordered restart.
struct Restart {
    deployment: DeploymentId,
    /// Starts of its deployment when it was ordered.
    starts_before: u32,
    /// How often something was stopped for it.
    stops: u32,
}

/// What one host ever held.
#[derive(Default)]
struct Ledger {
    floor: Option<Accepted>,
    specs: BTreeMap<Generation, Digest>,
    epochs: BTreeMap<DeploymentId, Epoch>,
}

/// The books.
pub(super) struct Oracle {
    /// The first violation.
    pub(super) violation: Option<Violation>,
    ledgers: Vec<Ledger>,
    published: BTreeSet<(usize, Generation, Digest)>,
    wished: BTreeSet<DeploymentId>,
    movable: BTreeSet<DeploymentId>,
    condemned: BTreeMap<DeploymentId, bool>,
    restarts: BTreeMap<OperationId, Restart>,
    starts: BTreeMap<DeploymentId, u32>,
    strangers: BTreeSet<String>,
    /// Deployments of which a host may have what no store remembers.
    forgotten: BTreeSet<DeploymentId>,
}

impl Oracle {
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            violation: None,
            ledgers: (0..hosts).map(|_| Ledger::default()).collect(),
            published: BTreeSet::new(),
            wished: BTreeSet::new(),
            movable: BTreeSet::new(),
            condemned: BTreeMap::new(),
            restarts: BTreeMap::new(),
            starts: BTreeMap::new(),
            strangers: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        }
    }

    /// Somebody wants a bot, which may move or not.
    pub(super) fn wished(&mut self, deployment: DeploymentId, may_move: bool) {
        self.wished.insert(deployment);
        if may_move {
            self.movable.insert(deployment);
        }
    }

    /// Somebody wants one started anew.
    pub(super) fn ordered(&mut self, operation: OperationId, deployment: DeploymentId) {
        let starts_before = self.starts.get(&deployment).copied().unwrap_or(0);
        self.restarts.insert(operation, Restart { deployment, starts_before, stops: 0 });
    }

    /// Somebody wants one gone, with its data or without.
    pub(super) fn condemned(&mut self, tombstone: &Tombstone) {
        *self.condemned.entry(tombstone.deployment).or_default() |= tombstone.scope == TombstoneScope::Data;
    }

    /// A coordinator has made a spec.
    pub(super) fn published(&mut self, host: usize, spec: Accepted) {
        self.published.insert((host, spec.generation, spec.digest));
    }

    /// A container is there that nobody will ever name.
    pub(super) fn strange(&mut self, container: &Container) {
        self.strangers.insert(container.id.clone());
    }

    /// The store no longer knows what a host may have of that deployment.
    pub(super) fn forgets(&mut self, deployment: DeploymentId) {
        self.forgotten.insert(deployment);
    }

    /// Whether a host may have something of that deployment that nothing is allowed to touch.
    pub(super) fn is_forgotten(&self, deployment: DeploymentId) -> bool {
        self.forgotten.contains(&deployment)
    }

    /// A bot of that deployment has started.
    pub(super) fn started(&mut self, deployment: DeploymentId) {
        *self.starts.entry(deployment).or_default() += 1;
    }

    /// A host's ledger has taken a spec.
    pub(super) fn accepted(&mut self, host: usize, spec: Accepted) {
        let known = self.published.contains(&(host, spec.generation, spec.digest));
        self.require(2, known, || format!("host {host} took spec {}, which nobody published", spec.generation));
        let other = *self.ledgers[host].specs.entry(spec.generation).or_insert(spec.digest);
        let one = other == spec.digest;
        self.require(2, one, || format!("host {host} took two specs numbered {}", spec.generation));
    }

    /// Looks at everything durable.
    pub(super) fn look(&mut self, hosts: &[Host]) {
        let mut running: BTreeMap<DeploymentId, usize> = BTreeMap::new();
        for host in hosts {
            for container in host.running() {
                let first = running.insert(container.deployment, host.index);
                self.require(1, first.is_none(), || {
                    format!("{} runs on host {} and on host {first:?}", container.deployment, host.index)
                });
            }
            self.look_at_marks(host);
        }
    }

    fn look_at_marks(&mut self, host: &Host) {
        let marks = host.marks();
        let ledger = &mut self.ledgers[host.index];
        let before = std::mem::replace(&mut ledger.floor, marks.floor);
        let rises = before.is_none_or(|before| {
            marks.floor.is_some_and(|floor| floor == before || floor.generation > before.generation)
        });
        let fallen = ledger.epochs.iter().find(|(id, epoch)| marks.epochs.get(id) < Some(*epoch)).map(|(id, _)| *id);
        if ledger.epochs.len() != marks.epochs.len() || fallen.is_some() || ledger.epochs != marks.epochs {
            ledger.epochs.clone_from(&marks.epochs);
        }
        self.require(2, rises, || format!("host {}'s floor fell from {before:?} to {:?}", host.index, marks.floor));
        self.require(2, fallen.is_none(), || format!("host {}'s epoch of {fallen:?} fell", host.index));
    }

    /// An action is about to take effect.
    pub(super) fn before(&mut self, host: &Host, action: &Action) {
        match action {
            Action::StopContainer { container, why, .. } => self.before_stop(host, container, Some(why)),
            Action::RemoveContainer { container } => self.before_stop(host, container, None),
            Action::RemoveVolume { deployment } => {
                let ordered = self.condemned.get(deployment) == Some(&true);
                self.require(8, ordered, || format!("the data of {deployment} goes, and nobody wanted that"));
            }
            Action::RemoveFiles { deployment } => {
                let ordered = self.condemned.contains_key(deployment);
                self.require(8, ordered, || format!("the files of {deployment} go, and nobody wanted that"));
            }
            // They take nothing away.
            Action::PullImage { .. }
            | Action::EnsureNetwork { .. }
            | Action::ShapeTenant { .. }
            | Action::PrepareVolume { .. }
            | Action::WriteFiles { .. }
            | Action::OpenGate { .. }
            | Action::CloseGate { .. }
            | Action::SnapshotVolume { .. }
            | Action::RestoreVolume { .. }
            | Action::DropSnapshot { .. }
            | Action::CreateContainer { .. }
            | Action::StartContainer { .. }
            | Action::UpdateResources { .. }
            | Action::BeginOperation { .. }
            | Action::FinishOperation { .. }
            | Action::RemoveNetwork { .. }
            | Action::Bury { .. } => {}
        }
    }

    fn before_stop(&mut self, host: &Host, id: &str, why: Option<&StopCause>) {
        let Some(container) = host.model.observed.containers.get(id) else { return };
        let strange = self.strangers.contains(id);
        self.require(8, !strange, || format!("{id}, which nobody names, is touched"));
        if container.running_since().is_none() {
            return;
        }
        let deployment = container.deployment;
        match why {
            Some(StopCause::Operation(operation)) => self.spend(host, deployment, *operation),
            Some(StopCause::Unhealthy(_)) => {
                self.require(9, host.hangs(id), || format!("{id} is stopped as unhealthy, and is well"));
            }
            Some(StopCause::Tombstone(_)) => {
                let ordered = self.condemned.contains_key(&deployment);
                self.require(9, ordered, || format!("{id} is buried, and nobody wanted that"));
            }
            Some(StopCause::LeaseEnded) => {
                let may_move = self.movable.contains(&deployment);
                self.require(9, may_move, || format!("{id} is stopped for a lease, and is to be kept"));
            }
            Some(StopCause::PowerOff | StopCause::LocalStop | StopCause::Replaced | StopCause::Drift(_)) | None => {
                self.require(9, false, || format!("{id} is stopped without a cause: {why:?}"));
            }
        }
    }

    /// Something is stopped for that restart, and for all others that this stop will answer.
    fn spend(&mut self, host: &Host, deployment: DeploymentId, operation: OperationId) {
        let begun = host.marks().operations.iter().filter(|(_, mark)| matches!(mark, OperationMark::Begun { .. }));
        let begun: Vec<_> = begun.map(|(id, _)| *id).filter(|id| *id != operation).collect();
        for id in [operation].into_iter().chain(begun) {
            let Some(restart) = self.restarts.get_mut(&id).filter(|restart| restart.deployment == deployment) else {
                let others = id != operation;
                self.require(9, others, || format!("{deployment} is restarted by {id}, which nobody ordered"));
                continue;
            };
            restart.stops += 1;
            let once = restart.stops == 1;
            self.require(9, once, || format!("{deployment} is restarted twice by {id}"));
        }
    }

    /// An action has taken effect.
    pub(super) fn after(&mut self, host: &Host, action: &Action) {
        let Action::FinishOperation { operation, refusal: None } = action else { return };
        let Some(restart) = self.restarts.get(operation) else { return };
        let happened = self.starts.get(&restart.deployment).copied().unwrap_or(0) > restart.starts_before;
        self.require(9, happened, || format!("host {} says that {operation} is done, and it is not", host.index));
    }

    fn require(&mut self, invariant: u8, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { invariant, what: what() });
        }
    }
}
