//! What each action does to an ideal host: a few lines of arithmetic on [`Observed`] and [`Marks`].
//!
//! Property tests and the cluster test apply plans to it. It is the specification of the executors, not a fake of
//! Docker: nothing fails here, and nothing takes time.

pub mod ideal;

use std::collections::BTreeMap;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::InstanceSpec;
use launchpad_protocol::time::Moment;

use super::action::{Action, files_digest};
use super::marks::{Marks, OperationMark};
use crate::observe::kernel::KernelView;
use crate::observe::{Container, ContainerState, Exit, Observed, SnapshotSight};

/// An ideal host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// What would be observed.
    pub observed: Observed,
    /// What would be on disk.
    pub marks: Marks,
    /// Containers made so far, for their ids.
    made: u64,
    /// What a start of each makes the kernel show, by their ids.
    kernels: BTreeMap<String, KernelView>,
}

impl Model {
    /// A host on which that is observed.
    #[must_use]
    pub fn of(observed: Observed, marks: Marks) -> Self {
        Self { observed, marks, made: 0, kernels: BTreeMap::new() }
    }

    /// Carries out one action, at that moment.
    pub fn apply(&mut self, action: &Action, now: Moment) {
        let observed = &mut self.observed;
        match action {
            Action::PullImage { image } => drop(observed.images.insert(image.clone())),
            Action::EnsureNetwork { account } => drop(observed.networks.insert(*account)),
            Action::ShapeTenant { account, shape } => {
                observed.tenants.insert(*account, ideal::tenant(shape));
            }
            Action::PrepareVolume { spec } => {
                let mut containers = observed.containers.values();
                let in_use = containers.any(|one| one.deployment == spec.deployment && one.running_since().is_some());
                let Some(asked) = &spec.volume else { return };
                let prepared = observed.volumes.entry(spec.deployment).or_insert_with(|| ideal::volume(asked));
                if prepared.grows_in_use || !in_use {
                    prepared.bytes = prepared.bytes.max(asked.bytes);
                }
                (prepared.mounted, prepared.flags_right) = (true, true);
            }
            Action::OpenGate { spec } => drop(observed.gates.insert(spec.deployment, ideal::gate(spec))),
            Action::CloseGate { deployment } => drop(observed.gates.remove(deployment)),
            Action::SnapshotVolume { spec, name, at, .. } => {
                let copy = SnapshotSight { bytes: 0, taken_at: *at, digest: Digest::of(name.as_bytes()) };
                if let Some(volume) = observed.volumes.get_mut(&spec.deployment) {
                    volume.snapshots.entry(name.clone()).or_insert(copy);
                }
            }
            Action::DropSnapshot { deployment, name, .. } => {
                if let Some(volume) = observed.volumes.get_mut(deployment) {
                    volume.snapshots.remove(name);
                }
            }
            // What is in a volume is not observed.
            Action::RestoreVolume { .. } => {}
            Action::WriteFiles { spec } => drop(observed.files.insert(spec.deployment, files_digest(&spec.files))),
            Action::CreateContainer { spec } => self.create(spec),
            Action::StartContainer { deployment, container } => {
                let wanted = |found: &&mut Container| match container {
                    Some(id) => found.id == *id,
                    None => found.deployment == *deployment && found.state == ContainerState::Created,
                };
                if let Some(found) = observed.containers.values_mut().find(wanted)
                    && found.running_since().is_none()
                {
                    found.state = ContainerState::Running { started_at: now };
                    let fresh = self.kernels.get(&found.id);
                    found.kernel = fresh.map(|kernel| {
                        Box::new(KernelView { group: ideal::group(&found.resources), ..kernel.clone() })
                    });
                }
            }
            Action::UpdateResources { container, resources } => {
                if let Some(found) = observed.containers.get_mut(container) {
                    found.resources = *resources;
                    if let Some(kernel) = &mut found.kernel {
                        kernel.group = ideal::group(resources);
                    }
                }
            }
            Action::StopContainer { container, .. } => self.exit(container, 0, now),
            Action::RemoveContainer { container } => drop(observed.containers.remove(container)),
            Action::RemoveFiles { deployment } => drop(observed.files.remove(deployment)),
            Action::RemoveVolume { deployment } => drop(observed.volumes.remove(deployment)),
            Action::RemoveNetwork { account } => {
                observed.networks.remove(account);
                observed.tenants.remove(account);
            }
            Action::BeginOperation { operation, ends } => {
                self.marks.operations.insert(*operation, OperationMark::Begun { ends: ends.clone() });
            }
            Action::FinishOperation { operation, refusal } => {
                let outcome = match refusal {
                    None => Outcome::Done { at: now },
                    Some(reason) => Outcome::Refused { reason: reason.clone() },
                };
                self.marks.operations.insert(*operation, OperationMark::Ended(outcome));
            }
            Action::Bury { tombstone } => drop(self.marks.buried.insert(*tombstone)),
        }
    }

    /// Ends a running container's process.
    pub fn exit(&mut self, container: &str, code: i32, now: Moment) {
        if let Some(found) = self.observed.containers.get_mut(container)
            && let Some(started_at) = found.running_since()
        {
            let output_tail = String::new();
            found.state =
                ContainerState::Exited(Exit { started_at, at: now, code, out_of_memory: false, output_tail });
        }
    }

    fn create(&mut self, spec: &InstanceSpec) {
        self.made += 1;
        let id = format!("{}-{}", spec.deployment, self.made);
        self.kernels.insert(id.clone(), ideal::kernel(spec));
        self.observed.containers.insert(id.clone(), ideal::container(spec, &id));
    }
}
