//! The report of a host: taken apart into messages on the agent, put together and checked on the coordinator.
//!
//! `wire/frame.rs` calls this. Whose report it is stands in the connection's certificate, never here; which instances
//! a host may speak for is for the coordinator's placement to say.
//!
//! ```text
//! HostReport ─ Capacity, Capability, InstanceReport ─ ContainerReport ─ KernelLimits
//!           └─ Orphan, Outcome, EventBatch ─ Event                    (and a Reason nearly everywhere)
//! Enforcement, VolumeReport, Denials and GateReport: wire/contract.rs
//! ```

use super::contract::{denials_in, denials_out, enforcement_in, enforcement_out};
use super::field::{
    WireError, at_most, digest, distinct, filled, known, list, malformed, map, optional, parse, parse_optional,
    positive, required, set, unspecified,
};
use super::v1;
use crate::generation::{Accepted, Epoch, Generation, Revision};
use crate::id::DeploymentId;
use crate::limits::{EVENTS_PER_REPORT_MAX, INSTANCES_PER_HOST_MAX};
use crate::reason::Reason;
use crate::report::{
    Capability, Capacity, ContainerReport, Event, EventBatch, HostReport, InstanceReport, KernelLimits, Orphan,
    Outcome, Phase,
};
use crate::time::Moment;

impl From<HostReport> for v1::HostReport {
    fn from(report: HostReport) -> Self {
        Self {
            boot_id: report.boot_id,
            agent_version: report.agent_version,
            wall_us: report.wall.micros(),
            accepted: report.accepted.map(Into::into),
            applied_generation: report.applied.0,
            capacity: Some(report.capacity.into()),
            capabilities: report.capabilities.into_iter().map(capability_out).collect(),
            instances: report.instances.into_iter().map(instance_out).collect(),
            orphans: report.orphans.into_iter().map(Into::into).collect(),
            buried: report.buried.iter().map(ToString::to_string).collect(),
            outcomes: report.outcomes.into_iter().map(|(id, outcome)| outcome_out(id.to_string(), outcome)).collect(),
            troubles: report.troubles.into_iter().map(Into::into).collect(),
            events: Some(report.events.into()),
            denials: report.denials.into_iter().map(denials_out).collect(),
            gate: report.gate.map(Into::into),
        }
    }
}

impl TryFrom<v1::HostReport> for HostReport {
    type Error = WireError;

    fn try_from(message: v1::HostReport) -> Result<Self, WireError> {
        at_most("instances", &message.instances, INSTANCES_PER_HOST_MAX)?;
        Ok(Self {
            boot_id: message.boot_id,
            agent_version: message.agent_version,
            wall: Moment::from_micros(message.wall_us),
            accepted: optional("accepted", message.accepted)?,
            applied: Generation(message.applied_generation),
            capacity: required("capacity", message.capacity)?,
            capabilities: map("capabilities", message.capabilities, capability_in)?,
            instances: map("instances", message.instances, instance_in)?,
            orphans: list("orphans", message.orphans)?,
            buried: distinct("buried", message.buried, |id| parse("", &id))?,
            outcomes: map("outcomes", message.outcomes, |entry| {
                Ok((parse("operation_id", &entry.operation_id)?, Outcome::try_from(entry)?))
            })?,
            troubles: list("troubles", message.troubles)?,
            events: required("events", message.events)?,
            denials: map("denials", message.denials, denials_in)?,
            gate: optional("gate", message.gate)?,
        })
    }
}

impl From<Reason> for v1::Reason {
    fn from(reason: Reason) -> Self {
        let Reason { code, sentence, cause, mend } = reason;
        Self { code, sentence, cause, mend }
    }
}

impl TryFrom<v1::Reason> for Reason {
    type Error = WireError;

    fn try_from(message: v1::Reason) -> Result<Self, WireError> {
        Ok(Self {
            code: filled("code", message.code)?,
            sentence: filled("sentence", message.sentence)?,
            cause: message.cause,
            mend: message.mend,
        })
    }
}

impl From<Accepted> for v1::AcceptedSpec {
    fn from(accepted: Accepted) -> Self {
        Self { generation: accepted.generation.0, digest: accepted.digest.as_bytes().to_vec() }
    }
}

impl TryFrom<v1::AcceptedSpec> for Accepted {
    type Error = WireError;

    fn try_from(message: v1::AcceptedSpec) -> Result<Self, WireError> {
        Ok(Self {
            generation: Generation(positive("generation", message.generation)?),
            digest: digest("digest", &message.digest)?,
        })
    }
}

impl From<Capacity> for v1::Capacity {
    fn from(capacity: Capacity) -> Self {
        let Capacity { cpu_millis, memory_bytes, storage_bytes } = capacity;
        Self { cpu_millis, memory_bytes, storage_bytes }
    }
}

impl TryFrom<v1::Capacity> for Capacity {
    type Error = WireError;

    fn try_from(message: v1::Capacity) -> Result<Self, WireError> {
        let v1::Capacity { cpu_millis, memory_bytes, storage_bytes } = message;
        Ok(Self { cpu_millis, memory_bytes, storage_bytes })
    }
}

fn capability_out((name, capability): (String, Capability)) -> v1::Capability {
    use v1::capability::{Present, State};
    let state = match capability {
        Capability::Present => State::Present(Present {}),
        Capability::Absent { reason } => State::Absent(reason.into()),
    };
    v1::Capability { name, state: Some(state) }
}

fn capability_in(message: v1::Capability) -> Result<(String, Capability), WireError> {
    use v1::capability::{Present, State};
    let capability = match set("state", message.state)? {
        State::Present(Present {}) => Capability::Present,
        State::Absent(reason) => Capability::Absent { reason: required("absent", Some(reason))? },
    };
    Ok((filled("name", message.name)?, capability))
}

fn instance_out((deployment, report): (DeploymentId, InstanceReport)) -> v1::InstanceReport {
    v1::InstanceReport {
        deployment_id: deployment.to_string(),
        phase: v1::Phase::from(report.phase).into(),
        reason: report.reason.map(Into::into),
        revision: report.revision.0,
        epoch: report.epoch.0,
        container: report.container.map(Into::into),
        restarts: report.restarts,
        ready_at_us: report.ready_at.map(Moment::micros),
        enforcement: report.enforcement.into_iter().map(enforcement_out).collect(),
        volume: report.volume.map(Into::into),
        oom_kills: report.oom_kills,
    }
}

fn instance_in(message: v1::InstanceReport) -> Result<(DeploymentId, InstanceReport), WireError> {
    let report = InstanceReport {
        phase: phase("phase", message.phase)?,
        reason: optional("reason", message.reason)?,
        revision: Revision(message.revision),
        epoch: Epoch(message.epoch),
        container: optional("container", message.container)?,
        restarts: message.restarts,
        ready_at: message.ready_at_us.map(Moment::from_micros),
        enforcement: map("enforcement", message.enforcement, enforcement_in)?,
        volume: optional("volume", message.volume)?,
        oom_kills: message.oom_kills,
    };
    Ok((parse("deployment_id", &message.deployment_id)?, report))
}

impl From<ContainerReport> for v1::ContainerReport {
    fn from(container: ContainerReport) -> Self {
        Self {
            container_id: container.id,
            image_digest: container.image.map(|digest| digest.as_bytes().to_vec()),
            started_at_us: container.started_at.map(Moment::micros),
            address: container.address,
            limits: container.limits.map(Into::into),
        }
    }
}

impl TryFrom<v1::ContainerReport> for ContainerReport {
    type Error = WireError;

    fn try_from(message: v1::ContainerReport) -> Result<Self, WireError> {
        Ok(Self {
            id: filled("container_id", message.container_id)?,
            image: message.image_digest.map(|bytes| digest("image_digest", &bytes)).transpose()?,
            started_at: message.started_at_us.map(Moment::from_micros),
            address: message.address,
            limits: optional("limits", message.limits)?,
        })
    }
}

impl From<KernelLimits> for v1::KernelLimits {
    fn from(limits: KernelLimits) -> Self {
        let KernelLimits { cpu_millis, memory_bytes, pids } = limits;
        Self { cpu_millis, memory_bytes, pids }
    }
}

impl TryFrom<v1::KernelLimits> for KernelLimits {
    type Error = WireError;

    fn try_from(message: v1::KernelLimits) -> Result<Self, WireError> {
        let v1::KernelLimits { cpu_millis, memory_bytes, pids } = message;
        Ok(Self { cpu_millis, memory_bytes, pids })
    }
}

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Absent => Self::Absent,
            Phase::Pulling => Self::Pulling,
            Phase::Preparing => Self::Preparing,
            Phase::Starting => Self::Starting,
            Phase::Ready => Self::Ready,
            Phase::Unready => Self::Unready,
            Phase::Backoff => Self::Backoff,
            Phase::Stopping => Self::Stopping,
            Phase::Stopped => Self::Stopped,
            Phase::Refused => Self::Refused,
        }
    }
}

fn phase(field: &str, value: i32) -> Result<Phase, WireError> {
    Ok(match known(field, value)? {
        v1::Phase::Unspecified => return Err(unspecified(field)),
        v1::Phase::Absent => Phase::Absent,
        v1::Phase::Pulling => Phase::Pulling,
        v1::Phase::Preparing => Phase::Preparing,
        v1::Phase::Starting => Phase::Starting,
        v1::Phase::Ready => Phase::Ready,
        v1::Phase::Unready => Phase::Unready,
        v1::Phase::Backoff => Phase::Backoff,
        v1::Phase::Stopping => Phase::Stopping,
        v1::Phase::Stopped => Phase::Stopped,
        v1::Phase::Refused => Phase::Refused,
    })
}

impl From<Orphan> for v1::Orphan {
    fn from(orphan: Orphan) -> Self {
        Self {
            container_id: orphan.container,
            deployment_id: orphan.deployment.map(|id| id.to_string()),
            account_id: orphan.account.map(|id| id.to_string()),
            running: orphan.running,
        }
    }
}

impl TryFrom<v1::Orphan> for Orphan {
    type Error = WireError;

    fn try_from(message: v1::Orphan) -> Result<Self, WireError> {
        Ok(Self {
            container: filled("container_id", message.container_id)?,
            deployment: parse_optional("deployment_id", message.deployment_id)?,
            account: parse_optional("account_id", message.account_id)?,
            running: message.running,
        })
    }
}

fn outcome_out(operation_id: String, outcome: Outcome) -> v1::Outcome {
    use v1::outcome::{Done, Result};
    let result = match outcome {
        Outcome::Done { at } => Result::Done(Done { at_us: at.micros() }),
        Outcome::Refused { reason } => Result::Refused(reason.into()),
    };
    v1::Outcome { operation_id, result: Some(result) }
}

impl TryFrom<v1::Outcome> for Outcome {
    type Error = WireError;

    fn try_from(message: v1::Outcome) -> Result<Self, WireError> {
        Ok(match set("result", message.result)? {
            v1::outcome::Result::Done(done) => Self::Done { at: Moment::from_micros(done.at_us) },
            v1::outcome::Result::Refused(reason) => Self::Refused { reason: required("refused", Some(reason))? },
        })
    }
}

impl From<EventBatch> for v1::EventBatch {
    fn from(batch: EventBatch) -> Self {
        Self {
            journal_id: batch.journal.to_string(),
            dropped: batch.dropped,
            events: batch.events.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::EventBatch> for EventBatch {
    type Error = WireError;

    fn try_from(message: v1::EventBatch) -> Result<Self, WireError> {
        at_most("events", &message.events, EVENTS_PER_REPORT_MAX)?;
        // The coordinator folds in this order and remembers the last number: one out of order would be lost.
        if let Some(pair) = message.events.windows(2).find(|pair| pair[0].seq >= pair[1].seq) {
            return Err(malformed("events", format!("number {} comes after {}", pair[1].seq, pair[0].seq)));
        }
        Ok(Self {
            journal: parse("journal_id", &message.journal_id)?,
            dropped: message.dropped,
            events: list("events", message.events)?,
        })
    }
}

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        Self {
            seq: event.seq,
            at_us: event.at.micros(),
            deployment_id: event.deployment.to_string(),
            phase: v1::Phase::from(event.phase).into(),
            reason: event.reason.map(Into::into),
        }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = WireError;

    fn try_from(message: v1::Event) -> Result<Self, WireError> {
        Ok(Self {
            seq: message.seq,
            at: Moment::from_micros(message.at_us),
            deployment: parse("deployment_id", &message.deployment_id)?,
            phase: phase("phase", message.phase)?,
            reason: optional("reason", message.reason)?,
        })
    }
}
