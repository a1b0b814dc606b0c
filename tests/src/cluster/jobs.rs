//! The coordinator's loops, a round at a time: place, compile, publish, clear away, watch; and the operator.
//!
//! A part of [`World`]. Rounds come by signal and by timer as in `coordinator::jobs`, and a killed coordinator loses
//! them all; the decisions are those of `domain`.

use std::collections::BTreeMap;

use launchpad_coordinator::domain::compile::{Basis, PlacedDeployment, is_wished, next_spec, power};
use launchpad_coordinator::domain::deployment::{Event as Happening, State, step};
use launchpad_coordinator::domain::placement::{Placement, Wanted};
use launchpad_coordinator::domain::pool_table::PoolTable;
use launchpad_coordinator::domain::recovery;
use launchpad_protocol::id::HostId;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::{SpecOffer, TombstoneScope};

use super::Bug;
use super::host::POOL;
use super::store::{News, Row, Store};
use super::trace::Short;
use super::world::{Event, Micros, SECOND, World};

/// How often each loop goes round without a signal (`coordinator::jobs`).
const ROUND_EVERY: Micros = 2 * SECOND;

/// One of the coordinator's loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    Place,
    Compile,
    Publish,
    Reap,
    Watch,
    /// The operator, who looks now and then and confirms a recovery when every host has spoken.
    Operate,
}

impl Job {
    pub(super) const ALL: [Self; 6] =
        [Self::Place, Self::Compile, Self::Publish, Self::Reap, Self::Watch, Self::Operate];
}

impl World {
    /// One round of one loop, if that process still lives. A loop keeps one timer: a signalled round adds none.
    pub(super) fn round(&mut self, job: Job, life: u32) {
        if !self.coordinator.up || self.coordinator.life != life {
            return;
        }
        match job {
            Job::Place => self.place_round(),
            Job::Compile => self.compile_round(),
            Job::Publish => self.publish_round(),
            Job::Reap => self.reap_round(),
            Job::Watch => self.watch_round(),
            Job::Operate => self.operate(),
        }
        let due = (self.now / ROUND_EVERY + 1) * ROUND_EVERY;
        if self.coordinator.timers.insert(job, due) != Some(due) {
            self.at(due, Event::Round { job, life });
        }
    }

    /// Wakes whoever must look at the store after a report, and keeps the oracle's books.
    pub(super) fn after_report(&mut self, news: &News) {
        for (operation, outcome) in &news.answered {
            let how = if matches!(outcome, Outcome::Done { .. }) { "done" } else { "refused" };
            self.note(format_args!("coordinator: operation {} is {how}", Short(operation.uuid())));
        }
        if news.spec {
            self.signal(Job::Compile);
        }
        if news.room {
            self.signal(Job::Place);
        }
    }

    fn place_round(&mut self) {
        let now = self.coordinator_wall();
        let store = &self.coordinator.store;
        let frozen = store.frozen.clone();
        let waiting: Vec<_> = store
            .deployments
            .iter()
            .filter(|(_, one)| one.row.state == State::Requested)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let store = &mut self.coordinator.store;
            let hosts = store.candidates();
            let Some(one) = store.deployments.get_mut(&id) else { continue };
            let event = match recovery::place_unless(frozen.as_ref(), &wanted(one), &hosts) {
                Placement::Chosen(host) => {
                    (one.row.host, one.row.epoch) = (Some(host), one.row.epoch.next());
                    store.outbox.insert(host);
                    Happening::Placed
                }
                Placement::Nowhere { reason, .. } => Happening::Unplaceable(reason),
            };
            if let Ok(transition) = step(one.row.state, event) {
                one.row.advance(&transition, now);
            }
            if let Some(host) = one.row.host {
                self.note(format_args!("placer: {} goes to host {}", Short(id.uuid()), Short(host.uuid())));
                self.signal(Job::Compile);
            }
        }
    }

    fn compile_round(&mut self) {
        let store = &mut self.coordinator.store;
        if store.frozen.is_some() {
            return;
        }
        for host in std::mem::take(&mut store.outbox) {
            let Some(next) = self.coordinator.store.compile(host) else { continue };
            let index = self.hosts.iter().position(|one| one.id == host).unwrap_or_default();
            self.note(format_args!("compiler: host {index} has spec {} {}", next.generation, next.digest.short()));
            self.oracle.published(index, next.accepted());
            self.coordinator.store.specs.insert(host, next);
            self.signal(Job::Publish);
        }
    }

    fn reap_round(&mut self) {
        let now = self.coordinator_wall();
        let due = |one: &&Row| {
            one.row.state == State::Terminating && one.row.deleted_at.is_some_and(|at| now >= at + one.retention)
        };
        let rows = self.coordinator.store.deployments.values();
        let due: Vec<_> = rows.filter(due).map(|one| one.row.id).collect();
        for id in due {
            self.order_away(id, TombstoneScope::Data);
        }
    }

    fn operate(&mut self) {
        if self.coordinator.store.frozen.is_some() && self.coordinator.store.may_confirm() {
            self.note(format_args!("operator: confirms the recovery"));
            let (now, learns) = (self.coordinator_wall(), self.bug != Some(Bug::ForgetWhereItRuns));
            self.coordinator.store.confirm(now, learns);
            self.signal(Job::Place);
            self.signal(Job::Compile);
        }
    }
}

impl Store {
    /// The spec that a host needs next, if it needs one (`jobs::compiler`).
    fn compile(&self, host: HostId) -> Option<SpecOffer> {
        let here = self.deployments.values().filter(|one| one.row.host == Some(host) && is_wished(one.row.state));
        let placed = here.map(|one| self.placed(one)).collect();
        let unburied = self.graves.values().filter(|grave| grave.host == host && !grave.buried);
        let basis = Basis {
            host,
            incarnation: self.incarnation,
            latest: self.specs.get(&host).map(SpecOffer::accepted),
            floor: self.floors.get(&host).copied(),
        };
        // Every file is sealed below, and that is all that compiling can miss.
        next_spec(basis, placed, unburied.map(|grave| grave.tombstone.clone()).collect(), None).ok().flatten()
    }

    fn placed(&self, one: &Row) -> PlacedDeployment {
        let waiting = self.operations.values().filter(|o| o.deployment == one.row.id && o.outcome.is_none());
        let seal = |name: &String| format!("{name} of {} {}", one.row.id, one.row.revision).into_bytes();
        let sealed: BTreeMap<_, _> =
            one.blueprint.files.iter().map(|file| (file.name.clone(), seal(&file.name))).collect();
        PlacedDeployment {
            blueprint: one.blueprint.clone(),
            epoch: one.row.epoch,
            power: power(one.row.state),
            operations: waiting.map(|ordered| ordered.operation.clone()).collect(),
            sealed,
        }
    }
}

/// What placement must find for a deployment.
pub(super) fn wanted(one: &Row) -> Wanted {
    let requires = one.blueprint.requires.clone();
    let pool = PoolTable::default().get(POOL);
    Wanted { pool, account: one.row.account, size: one.row.size, sealed_bytes: 0, requires }
}
