//! The coordinator's store as one plain value: a copy of it is a backup.
//!
//! What `fleet::admit` and `fleet::view` do in one transaction of SQL, a method here does in one step; the decisions are
//! the real ones of `domain`. Nothing here draws chance or knows the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launchpad_coordinator::domain::compile::is_wished;
use launchpad_coordinator::domain::deployment::{Event, State, step};
use launchpad_coordinator::domain::fold::{Standing, View, fold};
use launchpad_coordinator::domain::host::{self, HostEvent, HostState};
use launchpad_coordinator::domain::placement::Candidate;
use launchpad_coordinator::domain::recovery;
use launchpad_coordinator::domain::recovery_gate::{self, Witness};
use launchpad_coordinator::domain::silence::Suspicion;
use launchpad_coordinator::domain::whereabouts::{self, Found, Remembered};
use launchpad_coordinator::store::deployments::Deployment;
use launchpad_protocol::capability;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::Hello;
use launchpad_protocol::generation::{Accepted, Fence, Generation, Revision};
use launchpad_protocol::id::{DeploymentId, HostId, IncarnationId, JournalId, OperationId, TombstoneId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capacity, HostReport, Outcome};
use launchpad_protocol::session::Admission;
use launchpad_protocol::spec::{InstanceSpec, Operation, SpecOffer, Tombstone, TombstoneScope};
use launchpad_protocol::time::Moment;

use super::host::{Host, POOL};

/// A deployment, and what its revision pinned.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) row: Deployment,
    pub(super) blueprint: InstanceSpec,
    pub(super) retention: Duration,
}

impl Row {
    /// Is placed where it is, if that is not where it was placed.
    fn move_to(&mut self, found: Found, now: Moment) {
        (self.row.host, self.row.epoch) = (Some(found.host), found.epoch);
        if let Ok(transition) = step(self.row.state, Event::Placed) {
            self.row.advance(&transition, now);
        }
    }

    const fn remembered(&self) -> Remembered {
        Remembered { deployment: self.row.id, account: self.row.account, host: self.row.host, epoch: self.row.epoch }
    }

    /// The same content under a higher number.
    pub(super) fn renumber(&mut self, revision: Revision) {
        self.row.revision = revision;
        self.blueprint.revision = revision;
        for file in &mut self.blueprint.files {
            file.version = revision;
        }
    }
}

/// A host.
#[derive(Debug, Clone)]
pub(super) struct HostRow {
    pub(super) state: HostState,
    pub(super) fence: Fence,
    pub(super) capacity: Capacity,
    pub(super) features: BTreeSet<Feature>,
    pub(super) last_seen_at: Moment,
}

/// What must happen once.
#[derive(Debug, Clone)]
pub(super) struct Ordered {
    pub(super) deployment: DeploymentId,
    pub(super) operation: Operation,
    pub(super) outcome: Option<Outcome>,
}

/// What is to be removed, and from where.
#[derive(Debug, Clone)]
pub(super) struct Grave {
    pub(super) host: HostId,
    pub(super) tombstone: Tombstone,
    pub(super) buried: bool,
}

/// What a report has changed for others.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) spec: bool,
    pub(super) room: bool,
    pub(super) answered: BTreeMap<OperationId, Outcome>,
}

/// Everything durable.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) incarnation: IncarnationId,
    pub(super) frozen: Option<Reason>,
    pub(super) hosts: BTreeMap<HostId, HostRow>,
    pub(super) deployments: BTreeMap<DeploymentId, Row>,
    pub(super) operations: BTreeMap<OperationId, Ordered>,
    pub(super) graves: BTreeMap<TombstoneId, Grave>,
    pub(super) specs: BTreeMap<HostId, SpecOffer>,
    pub(super) floors: BTreeMap<HostId, Accepted>,
    /// The latest report of each host that has reported since publishing was last frozen.
    pub(super) reports: BTreeMap<HostId, HostReport>,
    /// Floors above which publishing goes on, each in the life of the store in which that was confirmed.
    confirmed: BTreeMap<HostId, (Generation, IncarnationId)>,
    pub(super) outbox: BTreeSet<HostId>,
    /// Which hosts fell silent together.
    pub(super) suspicion: Suspicion,
    folded: BTreeMap<(HostId, JournalId), u64>,
}

impl Store {
    pub(super) fn new(incarnation: IncarnationId, hosts: &[Host], now: Moment) -> Self {
        let pending = HostRow {
            state: HostState::Pending,
            fence: Fence(0),
            capacity: Capacity::default(),
            features: BTreeSet::new(),
            last_seen_at: now,
        };
        Self {
            incarnation,
            frozen: None,
            hosts: hosts.iter().map(|host| (host.id, pending.clone())).collect(),
            deployments: BTreeMap::new(),
            operations: BTreeMap::new(),
            graves: BTreeMap::new(),
            specs: BTreeMap::new(),
            floors: BTreeMap::new(),
            reports: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            outbox: BTreeSet::new(),
            suspicion: Suspicion::default(),
            folded: BTreeMap::new(),
        }
    }

    /// Admits a host under a new fence (`fleet::admit`).
    pub(super) fn admit(&mut self, id: HostId, hello: &Hello, now: Moment) -> Option<Admission> {
        let host = self.hosts.get_mut(&id)?;
        host.fence = Fence(host.fence.0 + 1);
        host.features.clone_from(&hello.features);
        let fence = host.fence;
        let of_another_life = hello.incarnation.is_some_and(|life| life != self.incarnation);
        if let Some(held) = hello.accepted.filter(|held| of_another_life && !self.is_confirmed(id, held.generation)) {
            self.freeze("another-life", &format!("a host holds {} of another life", held.generation));
        }
        let latest = self.specs.get(&id);
        Some(Admission {
            incarnation: self.incarnation,
            fence,
            wall: now,
            latest: latest.map(SpecOffer::accepted),
            published: latest.filter(|_| self.frozen.is_none()).cloned(),
        })
    }

    /// Takes a report in (`fleet::view::store`).
    ///
    /// # Errors
    /// When the session is not the host's newest.
    pub(super) fn take_report(
        &mut self,
        id: HostId,
        fence: Fence,
        report: &HostReport,
        now: Moment,
    ) -> Result<News, Reason> {
        let unknown = || Reason::new("session-replaced", "another session has replaced this one");
        let host = self.hosts.get_mut(&id).filter(|host| host.fence == fence).ok_or_else(unknown)?;
        let state = host::step(host.state, false, HostEvent::Reported);
        let mut news = News { room: state != host.state || host.capacity != report.capacity, ..News::default() };
        (host.state, host.capacity, host.last_seen_at) = (state, report.capacity, now);
        self.reports.insert(id, report.clone());
        if let Some(held) = report.accepted {
            self.raise_floor(id, held);
        }
        let folded = fold(report, self.view(id, report.events.journal), now);
        for step in &folded.steps {
            if let Some(one) = self.deployments.get_mut(&step.deployment) {
                one.row.advance(&step.transition, now);
            }
        }
        for (operation, outcome) in &folded.answered {
            if let Some(ordered) = self.operations.get_mut(operation) {
                ordered.outcome = Some(outcome.clone());
            }
        }
        for tombstone in &folded.buried {
            if let Some(grave) = self.graves.get_mut(tombstone) {
                grave.buried = true;
            }
        }
        self.folded.insert((id, report.events.journal), folded.folded);
        news.spec |= !folded.buried.is_empty() || !folded.answered.is_empty();
        news.room |= !folded.buried.is_empty();
        if news.spec {
            self.outbox.insert(id);
        }
        news.answered = folded.answered;
        Ok(news)
    }

    fn view(&self, id: HostId, journal: JournalId) -> View {
        let here: BTreeMap<_, _> =
            self.deployments.iter().filter(|(_, one)| one.row.host == Some(id)).map(|(id, one)| (*id, one)).collect();
        let standing = |row: &Deployment| Standing {
            state: row.state,
            reason: row.reason.clone(),
            revision: row.revision,
            epoch: row.epoch,
        };
        let unburied = self.graves.values().filter(|grave| grave.host == id && !grave.buried);
        let waiting =
            self.operations.values().filter(|one| one.outcome.is_none() && here.contains_key(&one.deployment));
        View {
            standings: here.iter().map(|(id, one)| (*id, standing(&one.row))).collect(),
            tombstones: unburied
                .map(|grave| (grave.tombstone.id, (grave.tombstone.deployment, grave.tombstone.scope)))
                .collect(),
            operations: waiting.map(|one| (one.operation.id, one.deployment)).collect(),
            folded: self.folded.get(&(id, journal)).copied().unwrap_or(0),
        }
    }

    /// Freezes publishing because a host holds what this store never made, unless somebody has looked at that
    /// (`fleet::view::floor_above`).
    pub(super) fn floor_above(&mut self, id: HostId, held: Accepted) {
        if !self.is_confirmed(id, held.generation) {
            self.raise_floor(id, held);
            self.freeze("host-above-store", "a host holds a newer spec than this store has made");
        }
    }

    fn is_confirmed(&self, id: HostId, held: Generation) -> bool {
        self.confirmed.get(&id).is_some_and(|(floor, life)| *floor >= held && *life == self.incarnation)
    }

    /// Another life of this copy, frozen (`app::restore`).
    pub(super) fn restamp(&mut self, incarnation: IncarnationId) {
        self.incarnation = incarnation;
        self.frozen = None;
        self.freeze("restored", "the store was restored from a copy");
    }

    /// Freezes publishing, unless it is frozen (`store::meta`): what was reported before is no evidence any more, and
    /// what waits to happen once may have happened.
    fn freeze(&mut self, code: &str, sentence: &str) {
        if self.frozen.is_none() {
            self.frozen = Some(Reason::new(code, sentence));
            self.reports.clear();
            for ordered in self.operations.values_mut() {
                ordered.outcome.get_or_insert_with(|| Outcome::Refused { reason: recovery::operation_of_a_copy() });
            }
        }
    }

    fn raise_floor(&mut self, id: HostId, held: Accepted) {
        let floor = self.floors.entry(id).or_insert(held);
        if held.generation > floor.generation {
            *floor = held;
            self.confirmed.remove(&id);
        }
    }

    /// Whether every host has reported since publishing was frozen.
    pub(super) fn may_confirm(&self) -> bool {
        let witness = |id: &HostId| Witness { id: *id, name: None, spoken: self.reports.contains_key(id) };
        let witnesses: Vec<_> = self.hosts.keys().map(witness).collect();
        recovery_gate::may_confirm(&witnesses, &BTreeSet::new()).is_ok()
    }

    /// Lets publishing go on, above all that hosts were seen to hold (`app::recovery`).
    pub(super) fn confirm(&mut self, now: Moment, learns: bool) {
        let reports: BTreeMap<_, _> = self.reports.iter().map(|(host, report)| (*host, report)).collect();
        for one in self.deployments.values_mut().filter(|one| is_wished(one.row.state)) {
            if let Some(found) = whereabouts::find(one.remembered(), &reports).filter(|_| learns) {
                one.move_to(found, now);
            }
            let report = one.row.host.and_then(|host| reports.get(&host));
            let seen = report.and_then(|report| report.instances.get(&one.row.id));
            let overtaken = seen.and_then(|seen| recovery::overtake(one.row.revision, one.row.epoch, seen));
            if let Some(overtaken) = overtaken {
                one.renumber(overtaken.revision);
                one.row.epoch = overtaken.epoch;
            }
        }
        let life = self.incarnation;
        self.confirmed = self.floors.iter().map(|(host, floor)| (*host, (floor.generation, life))).collect();
        self.frozen = None;
        self.outbox.extend(self.hosts.keys());
    }

    /// The hosts as placement sees them (`app::candidates`).
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let held = |id: HostId| {
            let here = self.deployments.values().map(|one| &one.row);
            let here = here.filter(|row| row.host == Some(id) && row.state != State::Terminated);
            here.fold((Capacity::default(), 0), |(sum, count), row| match self.container_is_gone(row) {
                // Nothing of it can run again; its data is kept.
                true => (plus(sum, Capacity { cpu_millis: 0, memory_bytes: 0, ..row.size }), count),
                false => (plus(sum, row.size), count + 1),
            })
        };
        let candidate = |(id, host): (&HostId, &HostRow)| {
            let (allocated, instances) = held(*id);
            Candidate {
                id: *id,
                name: id.to_string(),
                pool: POOL.to_owned(),
                state: host.state,
                capacity: host.capacity,
                allocated,
                instances,
                sealed_bytes: 0,
                features: host.features.clone(),
                capabilities: capability::complete(),
                tenants: BTreeSet::new(),
            }
        };
        self.hosts.iter().map(candidate).collect()
    }

    fn container_is_gone(&self, row: &Deployment) -> bool {
        row.state == State::Terminating
            && self.graves.values().any(|grave| {
                let tombstone = &grave.tombstone;
                grave.buried && tombstone.deployment == row.id && tombstone.scope == TombstoneScope::Container
            })
    }
}

const fn plus(one: Capacity, other: Capacity) -> Capacity {
    Capacity {
        cpu_millis: one.cpu_millis + other.cpu_millis,
        memory_bytes: one.memory_bytes + other.memory_bytes,
        storage_bytes: one.storage_bytes + other.storage_bytes,
    }
}
