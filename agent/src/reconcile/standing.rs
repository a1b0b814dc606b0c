//! From plans and records to what the report says of each instance. Pure.

use std::collections::BTreeMap;

use launchpad_protocol::enforcement::Item;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{ContainerReport, InstanceReport, Phase, SnapshotReport, VolumeReport};
use launchpad_protocol::spec::{HostSpec, InstanceSpec};

use crate::enforce::{self, Finding};
use crate::observe::{Container, Observed, SnapshotSight, VolumeSight};
use crate::plan::Standing;
use crate::plan::action::{Action, StopCause};
use crate::plan::instance::current_container;
use crate::plan::lease;
use crate::plan::record::Record;

/// Where an instance stands while an action is being carried out for it.
#[must_use]
pub fn during(action: Option<&Action>, planned: &Standing) -> Standing {
    let in_place = matches!(planned.phase, Phase::Ready | Phase::Unready);
    match action {
        Some(Action::PullImage { .. }) => Standing { phase: Phase::Pulling, ..planned.clone() },
        Some(
            Action::EnsureNetwork { .. }
            | Action::ShapeTenant { .. }
            | Action::PrepareVolume { .. }
            | Action::WriteFiles { .. }
            | Action::OpenGate { .. }
            | Action::CreateContainer { .. }
            | Action::RemoveContainer { .. },
        ) if !in_place => Standing { phase: Phase::Preparing, ..planned.clone() },
        Some(Action::SnapshotVolume { name, .. }) => copying(format!("its volume is copied as `{name}`")),
        Some(Action::RestoreVolume { name, .. }) => copying(format!("its volume is put back as `{name}` was")),
        Some(Action::StartContainer { .. }) => Standing { phase: Phase::Starting, ..planned.clone() },
        Some(Action::StopContainer { why, .. }) => stopping(why),
        Some(_) | None => planned.clone(),
    }
}

/// It stands still for this, whatever it was planned to be.
fn copying(sentence: String) -> Standing {
    Standing::because(Phase::Preparing, Reason::new("volume-work", sentence))
}

fn stopping(why: &StopCause) -> Standing {
    match why {
        StopCause::Unhealthy(reason) | StopCause::Drift(reason) => Standing::because(Phase::Stopping, reason.clone()),
        StopCause::LeaseEnded => Standing::because(Phase::Stopping, lease::ended()),
        StopCause::PowerOff
        | StopCause::LocalStop
        | StopCause::Replaced
        | StopCause::Operation(_)
        | StopCause::Tombstone(_) => Standing::because(Phase::Stopping, Reason::new("stopping", why.to_string())),
    }
}

/// What the report says of every instance of the spec.
#[must_use]
pub fn instances(
    spec: Option<&HostSpec>,
    observed: Option<&Observed>,
    records: &BTreeMap<DeploymentId, Record>,
    findings: &BTreeMap<DeploymentId, BTreeMap<Item, Finding>>,
    mut standings: BTreeMap<DeploymentId, Standing>,
) -> BTreeMap<DeploymentId, InstanceReport> {
    let blank = Record::default();
    let tell = |instance: &InstanceSpec| {
        let container = observed.and_then(|observed| current_container(instance, observed));
        let record = records.get(&instance.deployment).unwrap_or(&blank);
        let standing = standings.remove(&instance.deployment).unwrap_or_else(unobserved);
        let report = InstanceReport {
            phase: standing.phase,
            reason: standing.reason,
            revision: instance.revision,
            epoch: instance.epoch,
            container: container.map(container_report),
            restarts: record.restarts,
            ready_at: record.ready_at,
            enforcement: findings.get(&instance.deployment).map(enforce::told).unwrap_or_default(),
            volume: observed.and_then(|observed| observed.volumes.get(&instance.deployment)).map(volume_report),
            oom_kills: container
                .and_then(|container| container.kernel.as_ref())
                .map_or(0, |kernel| kernel.group.oom_kills),
        };
        (instance.deployment, report)
    };
    spec.into_iter().flat_map(|spec| spec.instances.values()).map(tell).collect()
}

fn unobserved() -> Standing {
    Standing::because(Phase::Absent, Reason::new("not-observed", "the agent has not been able to look at it yet"))
}

fn container_report(container: &Container) -> ContainerReport {
    ContainerReport {
        id: container.id.clone(),
        image: container.image,
        started_at: container.running_since(),
        address: container.address.map(|address| address.to_string()),
        limits: container.limits(),
    }
}

fn volume_report(volume: &VolumeSight) -> VolumeReport {
    let snapshot = |(name, sight): (&String, &SnapshotSight)| {
        let SnapshotSight { bytes, taken_at, digest } = sight.clone();
        (name.clone(), SnapshotReport { bytes, taken_at, digest })
    };
    VolumeReport {
        backend: volume.backend.clone(),
        bytes: volume.bytes,
        used_bytes: volume.used_bytes,
        snapshots: volume.snapshots.iter().map(snapshot).collect(),
    }
}
