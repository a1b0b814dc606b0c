//! What is on a fake machine, and what each action does to it: plain data, without a lock or a clock.
//!
//! [`super::World`] holds one and hands in the time. Refusals and their codes are those of the real
//! executors.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use launchpad_protocol::frame::{LogLine, OutputStream};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{InstanceSpec, Resources};
use launchpad_protocol::time::Moment;

use super::{KILLED, Script, ScriptedExit};
use crate::execute::ExecuteError;
use crate::execute::address::{AddressBook, DEFAULT_POOL};
use crate::observe::kernel::KernelView;
use crate::observe::{Container, ContainerState, Exit, Observed};
use crate::plan::action::{Action, files_digest};
use crate::plan::marks::Marks;
use crate::plan::model::{Model, ideal};

/// Everything on the machine.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) observed: Observed,
    pub(super) book: AddressBook,
    pub(super) scripts: BTreeMap<DeploymentId, Script>,
    /// What the kernel shows of each container while it runs, by its id.
    pub(super) kernels: BTreeMap<String, KernelView>,
    /// How a running container will end, by its id.
    pub(super) ends: BTreeMap<String, (Moment, ScriptedExit)>,
    pub(super) output: BTreeMap<DeploymentId, Vec<LogLine>>,
    pub(super) failures: BTreeMap<&'static str, VecDeque<ExecuteError>>,
    /// What fails until it is healed.
    pub(super) failing: BTreeMap<&'static str, ExecuteError>,
    pub(super) away: Option<Reason>,
    pub(super) carried_out: Vec<Action>,
    pub(super) starts: BTreeMap<DeploymentId, u32>,
    pub(super) made: u64,
}

impl State {
    pub(super) fn settle(&mut self, now: Moment) {
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

    pub(super) fn running(&self) -> impl Iterator<Item = &Container> {
        self.observed.containers.values().filter(|container| container.running_since().is_some())
    }

    pub(super) fn end(&mut self, id: &str, at: Moment, exit: &ScriptedExit) {
        self.ends.remove(id);
        let Some(container) = self.observed.containers.get_mut(id) else { return };
        let Some(started_at) = container.running_since() else { return };
        container.kernel = None;
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

    pub(super) fn carry_out(&mut self, action: &Action, now: Moment) -> Result<(), ExecuteError> {
        match action {
            Action::PullImage { image } => {
                self.observed.images.insert(image.clone());
                Ok(())
            }
            Action::EnsureNetwork { account } => {
                self.book.subnet_for(*account, DEFAULT_POOL, &BTreeSet::new()).map_err(ExecuteError::Passing)?;
                self.observed.networks.insert(*account);
                Ok(())
            }
            Action::ShapeTenant { .. }
            | Action::PrepareVolume { .. }
            | Action::OpenGate { .. }
            | Action::CloseGate { .. } => {
                self.ideal(action, now);
                Ok(())
            }
            Action::SnapshotVolume { spec, .. } | Action::RestoreVolume { spec, .. } => {
                self.volume_work(spec.deployment, action, now)
            }
            Action::DropSnapshot { deployment, .. } => self.volume_work(*deployment, action, now),
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

    /// What never fails does what it does on the ideal host.
    fn ideal(&mut self, action: &Action, now: Moment) {
        let mut model = Model::of(std::mem::take(&mut self.observed), Marks::default());
        model.apply(action, now);
        self.observed = model.observed;
    }

    /// Only while nothing has the volume mounted, and only what is there.
    fn volume_work(&mut self, deployment: DeploymentId, action: &Action, now: Moment) -> Result<(), ExecuteError> {
        let is_drop = matches!(action, Action::DropSnapshot { .. });
        if !is_drop && self.running().any(|container| container.deployment == deployment) {
            return Err(passing("volume-busy", "its container runs"));
        }
        let Some(volume) = self.observed.volumes.get(&deployment) else {
            return Err(passing("volume-missing", "there is no such volume"));
        };
        if let Action::RestoreVolume { name, .. } = action
            && !volume.snapshots.contains_key(name)
        {
            return Err(passing("snapshot-missing", "there is no snapshot of that name"));
        }
        self.ideal(action, now);
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
        if !self.observed.volumes.contains_key(&spec.deployment)
            || !self.observed.files.contains_key(&spec.deployment)
        {
            return Err(passing("mount-missing", "what is to be mounted is not there"));
        }
        let address = self.book.address_for(spec.account, spec.deployment).map_err(ExecuteError::Passing)?;
        self.made += 1;
        let id = format!("{:064x}", self.made);
        let container = Container { address: Some(address), ..ideal::container(spec, &id) };
        self.kernels.insert(id.clone(), ideal::kernel(spec));
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
        let id = container.id.clone();
        container.kernel = self.kernels.get(&id).cloned().map(Box::new);
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
        let seen = self.kernels.get_mut(id).into_iter().chain(container.kernel.as_deref_mut());
        seen.for_each(|kernel| kernel.group = ideal::group(&resources));
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
        self.kernels.remove(id);
        Ok(())
    }

    /// What a probe of that address gets.
    pub(super) fn probed(&self, address: Ipv4Addr, now: Moment) -> Result<(), String> {
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

pub(super) fn passing(code: &str, sentence: &str) -> ExecuteError {
    ExecuteError::Passing(Reason::new(code, sentence))
}
