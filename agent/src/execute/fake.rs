//! A complete host without a machine: for property tests, the reconciler's tests and the simulator.
//!
//! A [`World`] is what would be on the machine; it outlives every [`FakeHost`], as Docker outlives the agent.
//! It keeps the promises of the real executors, their refusals and their reason codes included, and fails
//! where a test says so. Bots follow a [`Script`]. Time is the clock's that the world was given: an end that
//! is due happens when somebody looks.
//!
//! ```text
//!  test ── script, fail, away, advance ──► World ◄── Hands, Eyes ── agent (dies)
//!                                            ▲─────────────────── the next agent
//! ```

mod state;

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use launchpad_protocol::frame::{Answer, Question};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::HttpProbe;
use launchpad_protocol::time::Clock;
use tokio::sync::{Notify, mpsc};

use super::{ExecuteError, Eyes, Hands};
use crate::observe::Observed;
use crate::plan::action::Action;
use state::State;

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

impl World {
    /// An empty machine on that clock, with a registry that has everything: `fail_next` takes an image away.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default(), bell: Arc::default() }
    }

    /// From now on that bot behaves so; its running start, if any, keeps the end that it had.
    pub fn script(&self, deployment: DeploymentId, script: Script) {
        self.change(|state| drop(state.scripts.insert(deployment, script)));
    }

    /// The next action of that kind ([`Action::KINDS`]) fails so; called again, the one after it as well.
    pub fn fail_next(&self, kind: &'static str, error: ExecuteError) {
        self.change(|state| state.failures.entry(kind).or_default().push_back(error));
    }

    /// Every action of that kind fails so, until [`World::heal`]: what a test wants to see told must last, for a report may be
    /// followed by the next before anybody looks.
    pub fn fail(&self, kind: &'static str, error: ExecuteError) {
        self.change(|state| drop(state.failing.insert(kind, error)));
    }

    /// What failed by [`World::fail`] succeeds again.
    pub fn heal(&self) {
        self.change(|state| state.failing.clear());
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

    /// A bot has so many bytes in its volume now.
    pub fn fill(&self, deployment: DeploymentId, used_bytes: u64) {
        self.change(|state| {
            if let Some(volume) = state.observed.volumes.get_mut(&deployment) {
                volume.used_bytes = used_bytes;
                volume.free_bytes = Some(volume.bytes.saturating_sub(used_bytes));
            }
        });
    }

    /// The machine boots: every process ends, unsealed files are gone, and nothing is mounted.
    pub fn reboot(&self) {
        let now = self.clock.wall();
        self.change(|state| {
            let running: Vec<String> = state.running().map(|container| container.id.clone()).collect();
            let killed =
                ScriptedExit { after: Duration::ZERO, code: KILLED, out_of_memory: false, last_words: String::new() };
            running.iter().for_each(|id| state.end(id, now, &killed));
            state.observed.files.clear();
            state.observed.volumes.values_mut().for_each(|volume| volume.mounted = false);
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
        if let Some(error) = state.failing.get(action.kind()) {
            return Err(error.clone());
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
