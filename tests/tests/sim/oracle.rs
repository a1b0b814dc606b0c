//! What must hold at every step, whatever goes wrong: checked on what is durable, and on what is done to hosts.
//!
//! It keeps books of its own and asks none of the code under test. The numbers are those of the invariants in
//! ARCHITECTURE.md; what must hold once the faults have stopped is in `settled.rs`.
//!
//! ```text
//!  1  one running container of a deployment, on all machines together        after every tick in which one changed
//!  2  generations and epochs rise, in the store and on every disk; a disk    at every look at the store, and when an
//!     holds what the coordinator was told that it holds                      agent begins, on what its disk has kept
//!  3  an event is forgotten only when the store has it, and is folded once   at every look at the store
//!  8  no data goes, and nothing is buried, that nobody wanted gone           before every action
//!  9  what runs is stopped only by a restart that was ordered, once each,    before every action
//!     or by a tombstone
//! ```

use std::collections::BTreeMap;

use launchpad_agent::observe::Observed;
use launchpad_agent::plan::action::{Action, StopCause};
use launchpad_agent::plan::marks::Marks;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Accepted, Epoch, Generation};
use launchpad_protocol::id::{DeploymentId, JournalId, OperationId};

use crate::store_view::StoreView;

/// What was violated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its number in the list of invariants.
    pub(crate) invariant: u8,
    /// How.
    pub(crate) what: String,
}

/// What is known of one machine.
#[derive(Default)]
struct Known {
    /// The newest spec that the store has for it.
    published: Option<Generation>,
    /// The highest spec that the coordinator was told it holds.
    told: Option<Accepted>,
    /// One generation is one spec.
    specs: BTreeMap<Generation, Digest>,
    /// The highest epoch with which something was made on it.
    epochs: BTreeMap<DeploymentId, Epoch>,
    /// The last number of each journal that its agent wrote down.
    written: BTreeMap<JournalId, u64>,
    /// What its agent has forgotten, as told.
    forgotten: BTreeMap<JournalId, u64>,
}

/// The books.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) violation: Option<Violation>,
    machines: BTreeMap<usize, Known>,
    /// Whether its data goes, too.
    condemned: BTreeMap<DeploymentId, bool>,
    /// How often something was stopped for each restart.
    restarts: BTreeMap<OperationId, u32>,
    epochs: BTreeMap<DeploymentId, Epoch>,
}

impl Oracle {
    /// Somebody wants a bot started anew.
    pub(crate) fn ordered(&mut self, restart: OperationId) {
        self.restarts.insert(restart, 0);
    }

    /// Somebody wants one gone, with its data or without.
    pub(crate) fn condemned(&mut self, deployment: DeploymentId, purge: bool) {
        *self.condemned.entry(deployment).or_default() |= purge;
    }

    /// An agent has written events down, or forgotten them.
    pub(crate) fn journal(&mut self, machine: usize, journal: JournalId, last: Option<u64>, forgotten: Option<u64>) {
        let known = self.machines.entry(machine).or_default();
        if let Some(last) = last {
            let before = known.written.insert(journal, last);
            self.require(3, before < Some(last), || {
                format!("machine {machine} numbers its events {before:?}, {last}")
            });
        }
        let known = self.machines.entry(machine).or_default();
        if let Some(through) = forgotten {
            known.forgotten.insert(journal, through);
        }
    }

    /// The last number of each journal of a machine.
    pub(crate) fn written(&self, machine: usize) -> BTreeMap<JournalId, u64> {
        self.machines.get(&machine).map(|known| known.written.clone()).unwrap_or_default()
    }

    /// An agent begins, and this is what its disk has kept.
    pub(crate) fn begins(&mut self, machine: usize, marks: &Marks, held: Option<Accepted>) {
        let known = self.machines.entry(machine).or_default();
        let told = known.told;
        let fallen = known.epochs.iter().find(|(id, epoch)| marks.epochs.get(id) < Some(*epoch));
        let fallen = fallen.map(|(id, epoch)| (*id, *epoch));
        for disk in [marks.floor, held] {
            let kept = told.is_none_or(|told| disk.is_some_and(|disk| disk.generation >= told.generation));
            self.require(2, kept, || format!("machine {machine} told that it holds {told:?}, and has {disk:?}"));
            self.one_spec(machine, disk);
        }
        self.require(2, fallen.is_none(), || format!("machine {machine} has forgotten the epoch of {fallen:?}"));
    }

    /// What the store has now.
    pub(crate) fn look_at_store(&mut self, store: &StoreView) {
        for (machine, host) in store.hosts.iter().enumerate() {
            let known = self.machines.entry(machine).or_default();
            let latest = host.latest.map(|latest| latest.generation);
            let before = std::mem::replace(&mut known.published, latest);
            let told_before = std::mem::replace(&mut known.told, host.told);
            let forgotten = known.forgotten.clone();
            self.require(2, before <= latest, || {
                format!("the spec of machine {machine} fell: {before:?}, {latest:?}")
            });
            let rises = told_before.map(|told| told.generation) <= host.told.map(|told| told.generation);
            self.require(2, rises, || format!("the floor of machine {machine} fell from {told_before:?}"));
            self.one_spec(machine, host.latest);
            self.one_spec(machine, host.told);
            for (journal, through) in forgotten {
                let stored = host.folded.get(&journal).copied().unwrap_or(0);
                let is_stored = through <= stored;
                self.require(3, is_stored, || {
                    format!("machine {machine} has forgotten events up to {through}, and the store has {stored}")
                });
            }
        }
        for one in &store.deployments {
            let before = self.epochs.insert(one.id, one.epoch);
            self.require(2, before <= Some(one.epoch), || format!("the epoch of {} fell from {before:?}", one.id));
        }
    }

    /// What runs on all machines.
    pub(crate) fn look_at_hosts(&mut self, machines: &[Observed]) {
        let mut running: BTreeMap<DeploymentId, usize> = BTreeMap::new();
        for (machine, observed) in machines.iter().enumerate() {
            for container in observed.containers.values().filter(|container| container.running_since().is_some()) {
                let other = running.insert(container.deployment, machine);
                self.require(1, other.is_none(), || {
                    format!("{} runs on machine {machine} and on machine {other:?}", container.deployment)
                });
            }
        }
    }

    /// An action is about to take effect.
    pub(crate) fn before(&mut self, machine: usize, observed: &Observed, action: &Action) {
        match action {
            Action::StopContainer { container, why, .. } => self.before_stop(observed, container, Some(why)),
            Action::RemoveContainer { container } => self.before_stop(observed, container, None),
            Action::CreateContainer { spec } => {
                let known = self.machines.entry(machine).or_default();
                let epoch = known.epochs.entry(spec.deployment).or_default();
                *epoch = spec.epoch.max(*epoch);
            }
            Action::RemoveVolume { deployment } => {
                // Nothing is left of it that could be started: its lease needs no floor any more.
                self.machines.entry(machine).or_default().epochs.remove(deployment);
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
            | Action::StartContainer { .. }
            | Action::UpdateResources { .. }
            | Action::BeginOperation { .. }
            | Action::FinishOperation { .. }
            | Action::RemoveNetwork { .. }
            | Action::Bury { .. } => {}
        }
    }

    fn before_stop(&mut self, observed: &Observed, id: &str, why: Option<&StopCause>) {
        let Some(container) = observed.containers.get(id) else { return };
        if container.running_since().is_none() {
            return;
        }
        let deployment = container.deployment;
        match why {
            Some(StopCause::Operation(operation)) => {
                let stops = self.restarts.get_mut(operation).map(|stops| {
                    *stops += 1;
                    *stops
                });
                self.require(9, stops == Some(1), || match stops {
                    Some(_) => format!("{deployment} is restarted twice by {operation}"),
                    None => format!("{deployment} is restarted by {operation}, which nobody ordered"),
                });
            }
            Some(StopCause::Tombstone(_)) => {
                let ordered = self.condemned.contains_key(&deployment);
                self.require(9, ordered, || format!("{deployment} is buried, and nobody wanted that"));
            }
            // Every bot is well for as long as it runs, none needs a lease, and no wish of this run needs another container.
            Some(
                StopCause::Unhealthy(_)
                | StopCause::PowerOff
                | StopCause::LocalStop
                | StopCause::Replaced
                | StopCause::LeaseEnded
                | StopCause::Drift(_),
            )
            | None => self.require(9, false, || format!("{deployment} is stopped without a cause: {why:?}")),
        }
    }

    /// One generation of a machine is one spec for ever.
    fn one_spec(&mut self, machine: usize, spec: Option<Accepted>) {
        let Some(spec) = spec else { return };
        let specs = &mut self.machines.entry(machine).or_default().specs;
        let other = *specs.entry(spec.generation).or_insert(spec.digest);
        let one = other == spec.digest;
        self.require(2, one, || format!("machine {machine} has two specs numbered {}", spec.generation));
    }

    fn require(&mut self, invariant: u8, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { invariant, what: what() });
        }
    }
}
