//! Hosts that are not heard, and the bots that leave them: the coordinator's watcher in one step (`jobs::watcher`,
//! `jobs::failover`), and what its agents make of a renewed lease (`reconcile::lease`).
//!
//! A part of [`World`]. Every term is shorter than in life, because a run has seconds: what counts is which of them is the
//! longer one. The margin covers an agent that is killed twice in a row (10 s) and the stop that it then makes.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_agent::plan::action::Action;
use launchpad_agent::plan::lease::{Hold, hold, renewed, shortest_term};
use launchpad_coordinator::domain::compile::is_wished;
use launchpad_coordinator::domain::deployment::{Event as Happening, step};
use launchpad_coordinator::domain::host::{self, HostEvent, HostState};
use launchpad_coordinator::domain::lease::{Patience, Policy};
use launchpad_coordinator::domain::placement::{Placement, place};
use launchpad_protocol::frame::Leases;
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::report::HostReport;
use launchpad_protocol::session::Renewal;
use launchpad_protocol::spec::{Lease, Tombstone, TombstoneScope};
use launchpad_protocol::time::BootMoment;

use super::Bug;
use super::host::Host;
use super::jobs::{Job, wanted};
use super::store::{Grave, Store};
use super::trace::Short;
use super::world::{Micros, World};

/// How patient the coordinator of a run is.
pub(super) const PATIENCE: Patience = Patience {
    silent_after: Duration::from_secs(12),
    lost_after: Duration::from_secs(60),
    term: Duration::from_secs(14),
    margin: Duration::from_secs(12),
};

impl World {
    pub(super) fn watch_round(&mut self) {
        let (boot, wall) = (self.coordinator_boot(), self.coordinator_wall());
        let (coordinator, bug) = (&mut self.coordinator, self.bug);
        let mut silences = BTreeMap::new();
        for (id, row) in &mut coordinator.store.hosts {
            let witnessed = coordinator.heard.silent_for(*id, Some(row.last_seen_at), boot);
            let silent_for = if bug == Some(Bug::SkipGrace) { wall.since(row.last_seen_at) } else { witnessed };
            if silent_for > PATIENCE.silent_after {
                row.state = host::step(row.state, false, HostEvent::FellSilent);
            }
            if silent_for > PATIENCE.lost_after {
                row.state = host::step(row.state, false, HostEvent::GivenUp);
            }
            silences.insert(*id, silent_for);
        }
        let fleet = coordinator.store.hosts.iter().map(|(id, row)| (*id, row.state)).collect();
        coordinator.store.suspicion = coordinator.store.suspicion.weigh(&fleet, wall);
        if coordinator.store.frozen.is_some() || coordinator.store.suspicion.frozen.is_some() {
            return;
        }
        for (host, silent_for) in silences {
            if matches!(fleet.get(&host), Some(HostState::Silent | HostState::Lost)) {
                self.leave(host, silent_for);
            }
        }
    }

    /// A process's own clock, which nobody sets.
    fn coordinator_boot(&self) -> BootMoment {
        BootMoment::from_micros(self.now.unsigned_abs())
    }

    /// What may leave a silent host does, once it has surely stopped there.
    fn leave(&mut self, host: HostId, silent_for: Duration) {
        let bug = self.bug;
        let is_free = |lease: Lease, grace: Duration| match PATIENCE.stopped_after(lease, grace) {
            None => false,
            Some(_) if bug == Some(Bug::MoveAtOnce) => true,
            Some(wait) => silent_for > wait,
        };
        let rows = self.coordinator.store.deployments.values();
        let here = rows.filter(|one| one.row.host == Some(host) && one.row.policy == Policy::Failover);
        let free =
            here.filter(|one| is_wished(one.row.state) && is_free(one.blueprint.lease, one.blueprint.stop_grace));
        let free: Vec<_> = free.map(|one| one.row.id).collect();
        for id in free {
            self.leave_one(host, id);
        }
    }

    fn leave_one(&mut self, host: HostId, id: DeploymentId) {
        let now = self.coordinator_wall();
        let grave = self.id(now);
        let store = &mut self.coordinator.store;
        let unburied =
            |host: HostId, grave: &Grave| !grave.buried && grave.host == host && grave.tombstone.deployment == id;
        let mut hosts = store.candidates();
        hosts.retain(|candidate| !store.graves.values().any(|grave| unburied(candidate.id, grave)));
        let Some(one) = store.deployments.get_mut(&id) else { return };
        let Placement::Chosen(chosen) = place(&wanted(one), &hosts) else { return };
        let tombstone = Tombstone {
            id: grave,
            deployment: id,
            account: one.row.account,
            scope: TombstoneScope::Container,
            stop_grace: one.blueprint.stop_grace,
        };
        (one.row.host, one.row.epoch) = (Some(chosen), one.row.epoch.next());
        if let Ok(transition) = step(one.row.state, Happening::Moved) {
            one.row.advance(&transition, now);
        }
        self.oracle.condemned(&tombstone);
        let store = &mut self.coordinator.store;
        store.graves.insert(grave, Grave { host, tombstone, buried: false });
        store.outbox.extend([host, chosen]);
        self.note(format_args!("watcher: {} leaves its silent host for {}", Short(id.uuid()), Short(chosen.uuid())));
        self.signal(Job::Compile);
    }

    /// The agent takes in that it was heard.
    pub(super) fn renew(&mut self, host: usize, word: Renewal) {
        let now = self.hosts[host].boot_moment(self.now);
        let one = &mut self.hosts[host];
        let shortest = one.held.as_ref().and_then(|(_, spec)| shortest_term(spec));
        let Some(agent) = &mut one.agent else { return };
        agent.renewed_at = renewed(agent.renewed_at, word, shortest, now);
        if let (Some(at), Some(term)) = (agent.renewed_at, shortest) {
            let stale = |(boot, written): (u32, BootMoment)| boot != one.boot || at >= written + term / 4;
            if one.kept_lease.is_none_or(stale) {
                one.kept_lease = Some((one.boot, at));
            }
        }
        self.turn_soon(host);
    }
}

impl Store {
    /// What a stored report means for its host's leases (`fleet::view`).
    pub(super) fn leases(&self, host: HostId, report: &HostReport) -> Leases {
        let latest = self.specs.get(&host).map(|spec| spec.accepted());
        let holds_all = latest.is_some() && latest == report.accepted;
        match holds_all && !self.outbox.contains(&host) && self.frozen.is_none() {
            true => Leases::Granted,
            false => Leases::Extended,
        }
    }
}

impl Host {
    /// When its leases were last renewed, as the agent believes.
    pub(super) fn renewed_at(&self, now: Micros, bug: Option<Bug>) -> Option<BootMoment> {
        match bug {
            Some(Bug::IgnoreLease) => Some(self.boot_moment(now)),
            _ => self.agent.as_ref()?.renewed_at,
        }
    }

    /// Whether a start has waited for longer than its lease (`reconcile::doing`).
    pub(super) fn is_too_late(&self, action: &Action, now: Micros, bug: Option<Bug>) -> bool {
        let Action::StartContainer { deployment, .. } = action else { return false };
        let spec = self.held.as_ref().and_then(|(_, spec)| spec.instances.get(deployment));
        spec.is_some_and(|spec| hold(spec.lease, self.renewed_at(now, bug), self.boot_moment(now)) == Hold::Ended)
    }
}
