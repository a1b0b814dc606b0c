//! What must hold within a bound once the faults have stopped: desired is observed, and nothing is left over.
//!
//! A part of [`World`], asked every second from then on. The answer is the first thing that is not as it should be.

use launchpad_agent::observe::Container;
use launchpad_coordinator::domain::compile::is_wished;
use launchpad_coordinator::domain::deployment::State;
use launchpad_coordinator::domain::placement::{Placement, place};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::spec::SpecOffer;

use super::host::Host;
use super::jobs::wanted;
use super::store::Row;
use super::world::World;

impl World {
    /// What is not as it should be; none: all is.
    pub(super) fn unsettled(&self) -> Option<String> {
        let store = &self.coordinator.store;
        if !self.coordinator.up || store.frozen.is_some() || !store.outbox.is_empty() {
            return Some("the coordinator is down, frozen or busy".to_owned());
        }
        if let Some(waiting) = store.operations.values().find(|ordered| ordered.outcome.is_none()) {
            return Some(format!("{} has no answer", waiting.operation.id));
        }
        if let Some(grave) = store.graves.values().find(|grave| !grave.buried) {
            return Some(format!("{} is not carried out", grave.tombstone.id));
        }
        self.hosts
            .iter()
            .find_map(|host| self.host_unsettled(host))
            .or_else(|| store.deployments.values().find_map(|one| self.deployment_unsettled(one)))
    }

    fn host_unsettled(&self, host: &Host) -> Option<String> {
        let index = host.index;
        let Some(agent) = &host.agent else { return Some(format!("host {index} has no agent")) };
        if !agent.live || !self.coordinator.seats(index) {
            return Some(format!("host {index} is not connected"));
        }
        let published = self.coordinator.store.specs.get(&host.id).map(SpecOffer::accepted);
        let held = host.held.as_ref().map(|(accepted, _)| *accepted);
        if published.is_some() && held != published {
            return Some(format!("host {index} holds {held:?}, published is {published:?}"));
        }
        if !agent.work.is_empty() {
            return Some(format!("host {index} is busy"));
        }
        let observed = &host.model.observed;
        let containers = observed.containers.values().filter(|container| !self.is_stranger(container));
        let leftover = containers.map(|container| container.deployment).find(|id| !self.belongs(host, *id));
        let left = leftover.or_else(|| observed.files.keys().copied().find(|id| !self.belongs(host, *id)));
        if let Some(left) = left {
            return Some(format!("host {index} has something left of {left}"));
        }
        let volume = observed.volumes.keys().find(|id| !self.keeps_data(host, **id));
        volume.map(|id| format!("host {index} has data left of {id}"))
    }

    fn is_stranger(&self, container: &Container) -> bool {
        container.id.starts_with("stranger")
    }

    /// Whether a container or files of that deployment may be on that host: it is wished there, or a restored store has
    /// forgotten it, and nothing may touch it then.
    fn belongs(&self, host: &Host, id: DeploymentId) -> bool {
        self.oracle.is_forgotten(id) || self.state_on(host, id).is_some_and(is_wished)
    }

    fn keeps_data(&self, host: &Host, id: DeploymentId) -> bool {
        self.oracle.is_forgotten(id) || self.state_on(host, id).is_some_and(|state| state != State::Terminated)
    }

    fn state_on(&self, host: &Host, id: DeploymentId) -> Option<State> {
        let one = self.coordinator.store.deployments.get(&id)?;
        (one.row.host == Some(host.id)).then_some(one.row.state)
    }

    fn deployment_unsettled(&self, one: &Row) -> Option<String> {
        let (id, state) = (one.row.id, one.row.state);
        let host = self.hosts.iter().find(|host| Some(host.id) == one.row.host);
        let here: Vec<_> = host
            .into_iter()
            .flat_map(|host| host.model.observed.containers.values())
            .filter(|container| container.deployment == id)
            .collect();
        let runs = here.len() == 1 && here[0].running_since().is_some();
        let volume = host.is_some_and(|host| host.model.observed.volumes.contains_key(&id));
        let has_data = volume == one.blueprint.volume.is_some();
        let holds = match state {
            State::Requested => {
                let placement = place(&wanted(one), &self.coordinator.store.candidates());
                matches!(placement, Placement::Nowhere { .. })
            }
            State::Running => runs && has_data && one.row.reason.is_none(),
            State::Failed => here.len() == 1 && !runs && has_data && self.is_refused(host, id),
            State::Terminated => self.oracle.is_forgotten(id) || here.is_empty() && !volume,
            State::Provisioning
            | State::Configuring
            | State::Starting
            | State::Updating
            | State::Restarting
            | State::Suspended
            | State::Terminating => false,
        };
        (!holds).then(|| format!("{id} is {state} ({:?}), with {} containers", one.row.reason, here.len()))
    }

    fn is_refused(&self, host: Option<&Host>, id: DeploymentId) -> bool {
        let record = host.and_then(|host| host.agent.as_ref()?.records.get(&id));
        record.is_some_and(|record| record.refusal.is_some())
    }
}
