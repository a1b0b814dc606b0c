//! One host of a run: the machine, which outlives its agent, and what the agent keeps on its disk.
//!
//! A part of [`World`]. The engine is `plan::model`: the specification of the executors. Bots run here, are ready after a
//! while, crash, hang and exit as the faults say.

use std::collections::BTreeMap;

use launchpad_agent::book::MemoryBook;
use launchpad_agent::observe::{Container, ContainerState};
use launchpad_agent::plan::action::Action;
use launchpad_agent::plan::marks::Marks;
use launchpad_agent::plan::model::Model;
use launchpad_agent::plan::{Context, Health};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Accepted, Epoch};
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capacity;
use launchpad_protocol::spec::{HostSpec, Resources};
use launchpad_protocol::time::{BootMoment, Moment};
use uuid::Uuid;

use super::agent::Agent;
use super::world::{MILLI, Micros, SECOND, World};

/// The one pool.
pub(super) const POOL: &str = "shared";

/// How long a bot takes to become ready, at most.
const READY_MAX: Micros = 2 * SECOND;

/// How long an agent takes after its start to have probed every bot.
const PROBED_AFTER: Micros = 300 * MILLI;

/// What a host has to give: three or four bots on the starter plan.
const CAPACITY: Capacity = Capacity { cpu_millis: 2_000, memory_bytes: 7 << 29, storage_bytes: 1 << 40 };

/// One host.
pub(super) struct Host {
    pub(super) index: usize,
    pub(super) id: HostId,
    /// The engine, the disk's volumes and files, and the ledger's marks.
    pub(super) model: Model,
    /// The ledger's spec.
    pub(super) held: Option<(Accepted, HostSpec)>,
    /// Records and journal.
    pub(super) book: MemoryBook,
    /// How far its wall clock is off.
    pub(super) skew: Micros,
    /// Which boot this is, and when it was.
    pub(super) boot: u32,
    pub(super) booted_at: Micros,
    /// The agent's process, while there is one.
    pub(super) agent: Option<Agent>,
    /// Processes so far.
    pub(super) lives: u32,
    /// Whether the next spec to be held is the agent's last deed.
    pub(super) dies_holding: bool,
    /// When the last offer that came is judged.
    pub(super) judges_at: Micros,
    /// What the agent's disk says of its leases: in which boot they were renewed, and when.
    pub(super) kept_lease: Option<(u32, BootMoment)>,
    /// Until then the machine sleeps, and only its boot clock goes on.
    pub(super) suspended_until: Micros,
    bots: BTreeMap<String, Bot>,
}

/// A process in a container.
struct Bot {
    ready_at: Micros,
    hangs: bool,
}

impl Host {
    pub(super) fn new(index: usize, id: HostId) -> Self {
        Self {
            index,
            id,
            model: Model::default(),
            held: None,
            book: MemoryBook::default(),
            skew: 0,
            boot: 1,
            booted_at: 0,
            agent: None,
            lives: 0,
            dies_holding: false,
            judges_at: 0,
            kept_lease: None,
            suspended_until: 0,
            bots: BTreeMap::new(),
        }
    }

    pub(super) const fn marks(&self) -> &Marks {
        &self.model.marks
    }

    pub(super) const fn capacity() -> Capacity {
        CAPACITY
    }

    pub(super) fn boot_id(&self) -> String {
        format!("boot {}", self.boot)
    }

    /// Time and place, as the agent sees them.
    pub(super) fn context(&self, now: Micros, wall: Moment) -> Context {
        Context { now: self.boot_moment(now), wall, boot_id: self.boot_id() }
    }

    pub(super) fn boot_moment(&self, now: Micros) -> BootMoment {
        BootMoment::from_micros(u64::try_from(now - self.booted_at).unwrap_or(0))
    }

    /// When the boot clock shows that.
    pub(super) fn at(&self, moment: BootMoment) -> Micros {
        self.booted_at + i64::try_from(moment.micros()).unwrap_or(Micros::MAX / 2)
    }

    /// What an agent that began then knows of its bots by its probes.
    pub(super) fn health(&self, now: Micros, agent_since: Micros) -> BTreeMap<String, Health> {
        if now < agent_since + PROBED_AFTER {
            return BTreeMap::new();
        }
        let running = self.model.observed.containers.values().filter(|container| container.running_since().is_some());
        let health = |container: &Container| {
            let bot = self.bots.get(&container.id)?;
            let hangs = || Reason::new("not-live", "its liveness probe gets no answer");
            let ready = now >= bot.ready_at;
            let health = Health {
                started: ready,
                ready: ready && !bot.hangs,
                last_failure: None,
                verdict: bot.hangs.then(hangs),
            };
            Some((container.id.clone(), health))
        };
        running.filter_map(health).collect()
    }

    /// When the probes will have something new to say; none: nothing is expected.
    pub(super) fn next_probe(&self, now: Micros, agent_since: Micros) -> Option<Micros> {
        let ready = self.bots.values().map(|bot| bot.ready_at).filter(|at| *at > now);
        ready.chain((now < agent_since + PROBED_AFTER).then_some(agent_since + PROBED_AFTER)).min()
    }

    pub(super) fn hangs(&self, container: &str) -> bool {
        self.bots.get(container).is_some_and(|bot| bot.hangs)
    }

    /// The running containers, by id.
    pub(super) fn running(&self) -> impl Iterator<Item = &Container> {
        self.model.observed.containers.values().filter(|container| container.running_since().is_some())
    }
}

impl World {
    /// A host's wall clock.
    pub(super) fn host_wall(&self, host: usize) -> Moment {
        self.wall(self.hosts[host].skew)
    }

    /// Puts a container on a host that carries our labels, and that nobody will ever name.
    pub(super) fn plant_stranger(&mut self, host: usize) {
        if self.percent(50) {
            return;
        }
        let id = format!("stranger-{host}");
        let owner = Uuid::from_u128(0xffff_0000 + host as u128);
        let container = Container {
            id: id.clone(),
            deployment: DeploymentId::from(owner),
            account: AccountId::from(owner),
            epoch: Epoch(1),
            recreate_hash: Digest::of(b"of another time"),
            state: ContainerState::Running { started_at: self.host_wall(host) },
            resources: Resources { cpu_millis: 1, memory_bytes: 1, pids: 1 },
            log_bytes: None,
            seccomp: None,
            process_id: None,
            kernel: None,
            address: None,
            image: None,
        };
        self.oracle.strange(&container);
        self.hosts[host].bots.insert(id.clone(), Bot { ready_at: self.now, hangs: false });
        self.hosts[host].model.observed.containers.insert(id, container);
    }

    /// Carries out one action on the host, under the oracle's eyes.
    pub(super) fn carry_out(&mut self, host: usize, action: &Action) {
        self.note(format_args!("host {host}: {}", brief(action)));
        self.touched = true;
        let wall = self.host_wall(host);
        self.oracle.before(&self.hosts[host], action);
        let before: Vec<_> = self.hosts[host].running().map(|container| container.id.clone()).collect();
        self.hosts[host].model.apply(action, wall);
        let started = self.hosts[host].running().find(|container| !before.contains(&container.id));
        if let Some((id, deployment)) = started.map(|container| (container.id.clone(), container.deployment)) {
            let ready_at = self.now + self.within(READY_MAX);
            self.hosts[host].bots.insert(id, Bot { ready_at, hangs: false });
            self.oracle.started(deployment);
        }
        self.hosts[host].forget_ended();
        self.oracle.after(&self.hosts[host], action);
    }

    /// A bot of that host, drawn; none runs if none.
    fn any_bot(&mut self, host: usize) -> Option<String> {
        let ids: Vec<_> = self.hosts[host].bots.keys().filter(|id| !id.starts_with("stranger")).cloned().collect();
        (!ids.is_empty()).then(|| ids[self.pick(ids.len())].clone())
    }

    /// A bot's process ends by itself.
    pub(super) fn bot_exits(&mut self, host: usize, code: i32) {
        let Some(id) = self.any_bot(host) else { return };
        self.note(format_args!("host {host}: a bot exits with {code}"));
        let wall = self.host_wall(host);
        self.hosts[host].model.exit(&id, code, wall);
        self.hosts[host].forget_ended();
        self.turn_soon(host);
    }

    /// A bot answers no more.
    pub(super) fn bot_hangs(&mut self, host: usize) {
        let Some(id) = self.any_bot(host) else { return };
        self.note(format_args!("host {host}: a bot hangs"));
        if let Some(bot) = self.hosts[host].bots.get_mut(&id) {
            bot.hangs = true;
        }
        self.turn_soon(host);
    }

    /// The machine reboots: every process ends, what lies in memory is gone.
    pub(super) fn reboot(&mut self, host: usize) {
        self.note(format_args!("host {host}: reboots"));
        self.kill_agent(host, true);
        let (now, wall) = (self.now, self.host_wall(host));
        let one = &mut self.hosts[host];
        for id in std::mem::take(&mut one.bots).into_keys() {
            one.model.exit(&id, 137, wall);
        }
        one.model.observed.files.clear();
        one.model.observed.networks.clear();
        one.boot += 1;
        one.booted_at = now;
    }
}

impl Host {
    fn forget_ended(&mut self) {
        let containers = &self.model.observed.containers;
        self.bots.retain(|id, _| containers.get(id).is_some_and(|found| found.running_since().is_some()));
    }
}

fn brief(action: &Action) -> String {
    if let Action::StopContainer { container, why, .. } = action {
        return format!("stop_container {container}: {why}");
    }
    if let Action::RemoveContainer { container } = action {
        return format!("remove_container {container}");
    }
    action.to_string()
}
