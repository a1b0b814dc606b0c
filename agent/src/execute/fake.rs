//! A complete host without a machine: for property tests, the reconciler's tests and the simulator.
//!
//! A [`World`] is what would be on the machine; it outlives every [`FakeHost`], as Docker outlives the agent. It keeps
//! the promises of the real executors, their refusals and their reason codes included, and fails where a test says so.
//! Bots follow a [`Script`]. Time is the clock's that the world was given: an end that is due happens when
//! somebody looks.
//!
//! ```text
//!  test ── script, fail, away, advance ──► World ◄── Hands, Eyes ── agent (dies)
//!                                            ▲─────────────────── the next agent
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use launchpad_protocol::frame::{Answer, LogLine, OutputStream, Question};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::KernelLimits;
use launchpad_protocol::spec::{HttpProbe, InstanceSpec, Resources};
use launchpad_protocol::time::{Clock, Moment};
use tokio::sync::{Notify, mpsc};

use super::address::{AddressBook, DEFAULT_POOL};
use super::{ExecuteError, Eyes, Hands};
use crate::observe::{Container, ContainerState, Exit, Observed};
use crate::plan::action::{Action, files_digest};

/// The exit code of a process that SIGKILL has ended.
const KILLED: i32 = 137;

/// How a bot behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// From its start until its probes succeed.
    pub ready_after: Duration,
    /// It does not answer probes any more.
    pub hung: bool,
    /// It does not stop by itself, but has to be killed.
    pub ignores_stop: bool,
    /// How its next starts end, in turn; a start without one runs on.
    pub exits: VecDeque<ScriptedExit>,
}

/// How one start ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedExit {
    /// After its start.
    pub after: Duration,
    /// With that exit code.
    pub code: i32,
    /// Whether for its memory.
    pub out_of_memory: bool,
    /// What it wrote last.
    pub last_words: String,
}

/// What would be on the machine.
#[derive(Debug, Clone)]
pub struct World {
    clock: Clock,
    state: Arc<Mutex<State>>,
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    observed: Observed,
    book: AddressBook,
    /// What the registry has; none: everything.
    registry: Option<BTreeSet<ImageRef>>,
    scripts: BTreeMap<DeploymentId, Script>,
    /// How a running container will end, by its id.
    ends: BTreeMap<String, (Moment, ScriptedExit)>,
    output: BTreeMap<DeploymentId, Vec<LogLine>>,
    failures: BTreeMap<&'static str, VecDeque<ExecuteError>>,
    away: Option<Reason>,
    carried_out: Vec<Action>,
    starts: BTreeMap<DeploymentId, u32>,
    made: u64,
}

impl World {
    /// An empty machine on that clock, with a registry that has everything.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default(), bell: Arc::default() }
    }

    /// From now on the registry has these images only.
    pub fn set_registry(&self, images: BTreeSet<ImageRef>) {
        self.change(|state| state.registry = Some(images));
    }

    /// From now on that bot behaves so; its running start, if any, keeps the end that it had.
    pub fn script(&self, deployment: DeploymentId, script: Script) {
        self.change(|state| drop(state.scripts.insert(deployment, script)));
    }

    /// The next action of that kind ([`Action::KINDS`]) fails so; called again, the one after it as well.
    pub fn fail_next(&self, kind: &'static str, error: ExecuteError) {
        self.change(|state| state.failures.entry(kind).or_default().push_back(error));
    }

    /// The engine goes away, or comes back. Bots run on meanwhile.
    pub fn set_away(&self, reason: Option<Reason>) {
        self.change(|state| state.away = reason);
    }

    /// Ends a running container's process, as a crash or the kernel would.
    pub fn end(&self, container: &str, code: i32, out_of_memory: bool, last_words: &str) {
        let now = self.clock.wall();
        self.change(|state| {
            let last_words = last_words.to_owned();
            state.end(container, now, &ScriptedExit { after: Duration::ZERO, code, out_of_memory, last_words });
        });
    }

    /// Takes something away behind everybody's back: a flushed firewall, a deleted image.
    pub fn tamper(&self, change: impl FnOnce(&mut Observed)) {
        self.change(|state| change(&mut state.observed));
    }

    /// The machine boots: every process ends, unsealed files are gone.
    pub fn reboot(&self) {
        let now = self.clock.wall();
        self.change(|state| {
            let running: Vec<String> = state.running().map(|container| container.id.clone()).collect();
            let killed =
                ScriptedExit { after: Duration::ZERO, code: KILLED, out_of_memory: false, last_words: String::new() };
            running.iter().for_each(|id| state.end(id, now, &killed));
            state.observed.files.clear();
        });
    }

    /// What is so, whether the engine answers or not.
    #[must_use]
    pub fn truth(&self) -> Observed {
        self.settled().observed.clone()
    }

    /// Every action that was carried out with success, in order.
    #[must_use]
    pub fn carried_out(&self) -> Vec<Action> {
        self.settled().carried_out.clone()
    }

    /// How often that bot was started.
    #[must_use]
    pub fn starts(&self, deployment: DeploymentId) -> u32 {
        self.settled().starts.get(&deployment).copied().unwrap_or(0)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.settled());
        self.bell.notify_one();
    }

    /// The state, with everything done that was due.
    fn settled(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle(self.clock.wall());
        state
    }
}

impl State {
    fn settle(&mut self, now: Moment) {
        let due: Vec<(String, Moment, ScriptedExit)> = self
            .ends
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(id, (at, exit))| (id.clone(), *at, exit.clone()))
            .collect();
        for (id, at, exit) in due {
            self.end(&id, at, &exit);
        }
    }

    fn running(&self) -> impl Iterator<Item = &Container> {
        self.observed.containers.values().filter(|container| container.running_since().is_some())
    }

    fn end(&mut self, id: &str, at: Moment, exit: &ScriptedExit) {
        self.ends.remove(id);
        let Some(container) = self.observed.containers.get_mut(id) else { return };
        let Some(started_at) = container.running_since() else { return };
        container.limits = None;
        container.state = ContainerState::Exited(Exit {
            started_at,
            at: at.max(started_at),
            code: exit.code,
            out_of_memory: exit.out_of_memory,
            output_tail: if exit.code == 0 { String::new() } else { exit.last_words.clone() },
        });
        let line = LogLine { at, stream: OutputStream::Stderr, text: exit.last_words.clone() };
        self.output.entry(container.deployment).or_default().push(line);
    }

    fn carry_out(&mut self, action: &Action, now: Moment) -> Result<(), ExecuteError> {
        match action {
            Action::PullImage { image } => self.pull(image),
            Action::EnsureNetwork { account } => {
                self.book.subnet_for(*account, DEFAULT_POOL, &BTreeSet::new()).map_err(ExecuteError::Passing)?;
                self.observed.networks.insert(*account);
                Ok(())
            }
            Action::PrepareVolume { spec } => {
                self.observed.volumes.insert(spec.deployment);
                Ok(())
            }
            Action::WriteFiles { spec } => {
                self.observed.files.insert(spec.deployment, files_digest(&spec.files));
                Ok(())
            }
            Action::CreateContainer { spec } => self.create(spec),
            Action::StartContainer { deployment, container } => self.start(*deployment, container.as_deref(), now),
            Action::UpdateResources { container, resources } => self.update(container, *resources),
            Action::StopContainer { container, .. } => {
                self.stop(container, now);
                Ok(())
            }
            Action::RemoveContainer { container } => self.remove(container),
            Action::RemoveFiles { deployment } => {
                self.observed.files.remove(deployment);
                if !self.observed.containers.values().any(|container| container.deployment == *deployment) {
                    self.book.release(*deployment);
                }
                Ok(())
            }
            Action::RemoveVolume { deployment } => {
                self.observed.volumes.remove(deployment);
                Ok(())
            }
            Action::RemoveNetwork { account } => {
                if self.observed.containers.values().any(|container| container.account == *account) {
                    return Err(passing("engine-error", "the network has active endpoints"));
                }
                self.observed.networks.remove(account);
                self.book.tenants.remove(account);
                Ok(())
            }
            Action::BeginOperation { .. } | Action::FinishOperation { .. } | Action::Bury { .. } => Ok(()),
        }
    }

    fn pull(&mut self, image: &ImageRef) -> Result<(), ExecuteError> {
        if !self.observed.images.contains(image)
            && self.registry.as_ref().is_some_and(|images| !images.contains(image))
        {
            let reason = Reason::new("image-unknown", format!("the registry has no image {image}"));
            return Err(ExecuteError::Refused(reason));
        }
        self.observed.images.insert(image.clone());
        Ok(())
    }

    /// Refuses as Docker would: without its image, its mounts' sources or its network there is no container.
    fn create(&mut self, spec: &InstanceSpec) -> Result<(), ExecuteError> {
        let of_it = |found: &&Container| found.deployment == spec.deployment;
        let is_it = |found: &Container| {
            found.recreate_hash == spec.recreate_hash
                && (found.state != ContainerState::Created || found.epoch == spec.epoch)
        };
        if self.observed.containers.values().filter(of_it).any(is_it) {
            return Ok(());
        }
        self.observed
            .containers
            .retain(|_, found| found.deployment != spec.deployment || found.state != ContainerState::Created);
        if self.observed.containers.values().any(|found| found.deployment == spec.deployment) {
            return Err(passing("engine-error", "the container's name is taken"));
        }
        if !self.observed.images.contains(&spec.image) {
            return Err(passing("engine-error", "no such image"));
        }
        if !self.observed.networks.contains(&spec.account) {
            return Err(passing("network-missing", "the account has no network on this host yet"));
        }
        if !self.observed.volumes.contains(&spec.deployment) || !self.observed.files.contains_key(&spec.deployment) {
            return Err(passing("mount-missing", "what is to be mounted is not there"));
        }
        let address = self.book.address_for(spec.account, spec.deployment).map_err(ExecuteError::Passing)?;
        self.made += 1;
        let id = format!("{:064x}", self.made);
        let container = Container {
            id: id.clone(),
            deployment: spec.deployment,
            account: spec.account,
            epoch: spec.epoch,
            recreate_hash: spec.recreate_hash,
            state: ContainerState::Created,
            resources: spec.resources,
            limits: None,
            address: Some(address),
            image: Some(spec.image.digest),
        };
        self.observed.containers.insert(id, container);
        Ok(())
    }

    fn start(&mut self, deployment: DeploymentId, named: Option<&str>, now: Moment) -> Result<(), ExecuteError> {
        if let Some(running) = self.running().find(|container| container.deployment == deployment) {
            let is_it = named.is_none_or(|named| named == running.id);
            return if is_it { Ok(()) } else { Err(passing("second-container", "another container of it runs")) };
        }
        // The ids of a fake rise: the last is the newest.
        let is_it =
            |found: &&mut Container| found.deployment == deployment && named.is_none_or(|named| named == found.id);
        let Some(container) = self.observed.containers.values_mut().rfind(is_it) else {
            return Err(passing("container-missing", "there is no container of it to start"));
        };
        container.state = ContainerState::Running { started_at: now };
        container.limits = Some(kernel(container.resources));
        let id = container.id.clone();
        *self.starts.entry(deployment).or_default() += 1;
        if let Some(exit) = self.scripts.get_mut(&deployment).and_then(|script| script.exits.pop_front()) {
            self.ends.insert(id, (now + exit.after, exit));
        }
        Ok(())
    }

    fn update(&mut self, id: &str, resources: Resources) -> Result<(), ExecuteError> {
        let container = self.observed.containers.get_mut(id);
        let container = container.ok_or_else(|| passing("engine-error", "no such container"))?;
        container.resources = resources;
        if container.running_since().is_some() {
            container.limits = Some(kernel(resources));
        }
        Ok(())
    }

    fn stop(&mut self, id: &str, now: Moment) {
        let deployment = self.observed.containers.get(id).map(|container| container.deployment);
        let script = deployment.and_then(|deployment| self.scripts.get(&deployment));
        let code = if script.is_some_and(|script| script.ignores_stop) { KILLED } else { 0 };
        let exit = ScriptedExit { after: Duration::ZERO, code, out_of_memory: false, last_words: String::new() };
        self.end(id, now, &exit);
    }

    fn remove(&mut self, id: &str) -> Result<(), ExecuteError> {
        if self.observed.containers.get(id).is_some_and(|container| container.running_since().is_some()) {
            return Err(passing("container-running", "only what is stopped is removed"));
        }
        self.observed.containers.remove(id);
        Ok(())
    }

    /// What a probe of that address gets.
    fn probed(&self, address: Ipv4Addr, now: Moment) -> Result<(), String> {
        let Some(container) = self.running().find(|container| container.address == Some(address)) else {
            return Err("host unreachable".to_owned());
        };
        let silent = Script::default();
        let script = self.scripts.get(&container.deployment).unwrap_or(&silent);
        let up_for = container.running_since().map_or(Duration::ZERO, |started_at| now.since(started_at));
        if up_for < script.ready_after {
            return Err("connection refused".to_owned());
        }
        if script.hung { Err("no answer in time".to_owned()) } else { Ok(()) }
    }
}

fn kernel(resources: Resources) -> KernelLimits {
    let Resources { cpu_millis, memory_bytes, pids } = resources;
    KernelLimits { cpu_millis, memory_bytes, pids }
}

fn passing(code: &str, sentence: &str) -> ExecuteError {
    ExecuteError::Passing(Reason::new(code, sentence))
}

/// One agent's hands and eyes on a [`World`].
#[derive(Debug, Clone)]
pub struct FakeHost {
    world: World,
}

impl FakeHost {
    /// On that world.
    #[must_use]
    pub const fn on(world: World) -> Self {
        Self { world }
    }
}

#[async_trait]
impl Hands for FakeHost {
    async fn execute(&self, action: &Action) -> Result<(), ExecuteError> {
        // Real actions let others run, too.
        tokio::task::yield_now().await;
        let now = self.world.clock.wall();
        let mut state = self.world.settled();
        if let Some(reason) = state.away.clone() {
            return Err(ExecuteError::EngineAway(reason));
        }
        if let Some(error) = state.failures.get_mut(action.kind()).and_then(VecDeque::pop_front) {
            return Err(error);
        }
        state.carry_out(action, now)?;
        state.carried_out.push(action.clone());
        drop(state);
        self.world.bell.notify_one();
        Ok(())
    }
}

#[async_trait]
impl Eyes for FakeHost {
    async fn observe(&self, images: &BTreeSet<ImageRef>) -> Result<Observed, ExecuteError> {
        tokio::task::yield_now().await;
        let state = self.world.settled();
        if let Some(reason) = state.away.clone() {
            return Err(ExecuteError::EngineAway(reason));
        }
        let mut observed = state.observed.clone();
        observed.images.retain(|image| images.contains(image));
        Ok(observed)
    }

    async fn changed(&self) {
        let now = self.world.clock.wall();
        let next = self.world.settled().ends.values().map(|(at, _)| at.since(now)).min();
        tokio::select! {
            () = self.world.bell.notified() => {}
            () = async { tokio::time::sleep(next.unwrap_or_default()).await }, if next.is_some() => {}
        }
    }

    async fn answer(&self, question: &Question, pieces: mpsc::Sender<Answer>) {
        let Question::Logs { deployment, tail, follow } = question;
        let lines = self.world.settled().output.get(deployment).cloned().unwrap_or_default();
        let tail = usize::try_from(*tail).unwrap_or(usize::MAX);
        for line in lines.iter().skip(lines.len().saturating_sub(tail)) {
            if pieces.send(Answer::Line(line.clone())).await.is_err() {
                return;
            }
        }
        if *follow {
            // A fake bot writes only when it ends, and then there is nothing more to follow.
            pieces.closed().await;
        }
        // Nobody may be listening any more.
        let _ = pieces.send(Answer::End(None)).await;
    }

    async fn probe(&self, address: Ipv4Addr, _port: u16, _probe: &HttpProbe) -> Result<(), String> {
        tokio::task::yield_now().await;
        let now = self.world.clock.wall();
        self.world.settled().probed(address, now)
    }
}

#[cfg(test)]
#[path = "fake_tests.rs"]
mod tests;
