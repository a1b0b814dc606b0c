//! Strategies of observed state: [`host_report`], and the parts of it that properties want alone.

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::{
    COUNTER_MAX, ENTRIES_MAX, SIZE_MAX_BYTES, accepted, deployment_at, deployments, digest, few, few_once, id, maybe,
    moment, name, reason, text,
};
use crate::generation::{Epoch, Generation, Revision};
use crate::report::{
    Capability, Capacity, ContainerReport, Event, EventBatch, HostReport, InstanceReport, KernelLimits, Orphan,
    Outcome, Phase,
};

/// A host's report with instances among the pool's first `most` deployments.
pub fn host_report(most: usize) -> impl Strategy<Value = HostReport> {
    let instances = deployments(most).prop_flat_map(|chosen| {
        chosen.into_iter().map(|deployment| (Just(deployment), instance_report())).collect::<Vec<_>>()
    });
    let host = (name(), name(), moment(), maybe(accepted()), 0..COUNTER_MAX, capacity());
    let found = (btree_map(name(), capability(), 0..=ENTRIES_MAX), instances, few(orphan()));
    let done = (few_once(id()), btree_map(id(), outcome(), 0..=ENTRIES_MAX), few(reason()), event_batch(most));
    (host, found, done).prop_map(|(host, (capabilities, instances, orphans), done)| {
        let (boot_id, agent_version, wall, accepted, applied, capacity) = host;
        let (buried, outcomes, troubles, events) = done;
        HostReport {
            boot_id,
            agent_version,
            wall,
            accepted,
            applied: Generation(applied),
            capacity,
            capabilities,
            instances: instances.into_iter().collect(),
            orphans,
            buried,
            outcomes,
            troubles,
            events,
        }
    })
}

/// What became of an instance.
pub fn instance_report() -> impl Strategy<Value = InstanceReport> {
    let stand = (phase(), maybe(reason()), 0..COUNTER_MAX, 0..COUNTER_MAX);
    (stand, maybe(container()), any::<u32>(), maybe(moment()), few(reason())).prop_map(
        |((phase, reason, revision, epoch), container, restarts, ready_at, degraded)| InstanceReport {
            phase,
            reason,
            revision: Revision(revision),
            epoch: Epoch(epoch),
            container,
            restarts,
            ready_at,
            degraded,
        },
    )
}

/// Any phase.
pub fn phase() -> impl Strategy<Value = Phase> {
    proptest::sample::select(vec![
        Phase::Absent,
        Phase::Pulling,
        Phase::Preparing,
        Phase::Starting,
        Phase::Ready,
        Phase::Unready,
        Phase::Backoff,
        Phase::Stopping,
        Phase::Stopped,
        Phase::Refused,
    ])
}

/// What became of an operation.
pub fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![moment().prop_map(|at| Outcome::Done { at }), reason().prop_map(|reason| Outcome::Refused { reason })]
}

/// Events of one journal, their numbers rising without a gap, of the pool's first `most` deployments.
pub fn event_batch(most: usize) -> impl Strategy<Value = EventBatch> {
    let event = (moment(), (0..most.max(1)).prop_map(deployment_at), phase(), maybe(reason()));
    (id(), 0..COUNTER_MAX, 1..COUNTER_MAX, few(event)).prop_map(|(journal, dropped, first, events)| EventBatch {
        journal,
        dropped,
        events: (first..)
            .zip(events)
            .map(|(seq, (at, deployment, phase, reason))| Event { seq, at, deployment, phase, reason })
            .collect(),
    })
}

fn capacity() -> impl Strategy<Value = Capacity> {
    (any::<u32>(), 0..SIZE_MAX_BYTES, 0..SIZE_MAX_BYTES)
        .prop_map(|(cpu_millis, memory_bytes, storage_bytes)| Capacity { cpu_millis, memory_bytes, storage_bytes })
}

fn capability() -> impl Strategy<Value = Capability> {
    prop_oneof![Just(Capability::Present), reason().prop_map(|reason| Capability::Absent { reason })]
}

fn container() -> impl Strategy<Value = ContainerReport> {
    ("[0-9a-f]{12}", maybe(digest()), maybe(moment()), maybe(text()), maybe(limits())).prop_map(
        |(id, image, started_at, address, limits)| ContainerReport { id, image, started_at, address, limits },
    )
}

fn limits() -> impl Strategy<Value = KernelLimits> {
    (any::<u32>(), any::<u64>(), any::<u32>()).prop_map(|(cpu_millis, memory_bytes, pids)| KernelLimits {
        cpu_millis,
        memory_bytes,
        pids,
    })
}

fn orphan() -> impl Strategy<Value = Orphan> {
    ("[0-9a-f]{12}", maybe(id()), maybe(id()), any::<bool>())
        .prop_map(|(container, deployment, account, running)| Orphan { container, deployment, account, running })
}
