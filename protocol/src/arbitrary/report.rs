//! Strategies of observed state: [`host_report`], and the parts of it that properties want alone.

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::{
    COUNTER_MAX, ENTRIES_MAX, SIZE_MAX_BYTES, accepted, deployment_at, deployments, digest, few, few_once, id, maybe,
    moment, name, reason, text,
};
use std::collections::BTreeMap;

use crate::enforcement::{Enforcement, Item, Verdict};
use crate::generation::{Epoch, Generation, Revision};
use crate::report::{
    Capability, Capacity, ContainerReport, Denial, Denials, Event, EventBatch, GateReport, HostReport,
    InstanceReport, KernelLimits, Orphan, Outcome, Phase, SnapshotReport, VolumeReport,
};

/// A host's report with instances among the pool's first `most` deployments.
pub fn host_report(most: usize) -> impl Strategy<Value = HostReport> {
    let instances = deployments(most).prop_flat_map(|chosen| {
        chosen.into_iter().map(|deployment| (Just(deployment), instance_report())).collect::<Vec<_>>()
    });
    let host = (name(), name(), moment(), maybe(accepted()), 0..COUNTER_MAX, capacity());
    let found = (btree_map(name(), capability(), 0..=ENTRIES_MAX), instances, few(orphan()));
    let done = (few_once(id()), btree_map(id(), outcome(), 0..=ENTRIES_MAX), few(reason()), event_batch(most));
    let done = (done, btree_map(id(), denials(), 0..=ENTRIES_MAX), maybe(gate()));
    (host, found, done).prop_map(|(host, (capabilities, instances, orphans), done)| {
        let (boot_id, agent_version, wall, accepted, applied, capacity) = host;
        let ((buried, outcomes, troubles, events), denials, gate) = done;
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
            denials,
            gate,
        }
    })
}

/// What became of an instance.
pub fn instance_report() -> impl Strategy<Value = InstanceReport> {
    let stand = (phase(), maybe(reason()), 0..COUNTER_MAX, 0..COUNTER_MAX);
    let walls = (enforcement(), maybe(volume()), 0..COUNTER_MAX);
    (stand, maybe(container()), any::<u32>(), maybe(moment()), walls).prop_map(
        |((phase, reason, revision, epoch), container, restarts, ready_at, walls)| InstanceReport {
            phase,
            reason,
            revision: Revision(revision),
            epoch: Epoch(epoch),
            container,
            restarts,
            ready_at,
            enforcement: walls.0,
            volume: walls.1,
            oom_kills: walls.2,
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

fn enforcement() -> impl Strategy<Value = BTreeMap<Item, Enforcement>> {
    let verdict = prop_oneof![
        Just(Verdict::Enforced),
        reason().prop_map(|reason| Verdict::Degraded { reason }),
        reason().prop_map(|reason| Verdict::Failed { reason }),
    ];
    let enforcement = (verdict, text()).prop_map(|(verdict, seen)| Enforcement { verdict, seen });
    btree_map(proptest::sample::select(Item::ALL), enforcement, 0..=ENTRIES_MAX)
}

fn volume() -> impl Strategy<Value = VolumeReport> {
    let snapshot = (0..SIZE_MAX_BYTES, moment(), digest()).prop_map(|(bytes, taken_at, digest)| SnapshotReport {
        bytes,
        taken_at,
        digest,
    });
    (name(), 0..SIZE_MAX_BYTES, 0..SIZE_MAX_BYTES, btree_map(name(), snapshot, 0..=ENTRIES_MAX))
        .prop_map(|(backend, bytes, used_bytes, snapshots)| VolumeReport { backend, bytes, used_bytes, snapshots })
}

fn denials() -> impl Strategy<Value = Denials> {
    let sample = (moment(), maybe(id()), name(), 0..COUNTER_MAX).prop_map(|(at, deployment, target, count)| Denial {
        at,
        deployment,
        target,
        count,
    });
    (0..COUNTER_MAX, few(sample)).prop_map(|(count, samples)| Denials { count, samples })
}

fn gate() -> impl Strategy<Value = GateReport> {
    (0..COUNTER_MAX, 0..COUNTER_MAX, few_once(name())).prop_map(|(flushes, exposure_us, ingress_addresses)| {
        GateReport { flushes, longest_exposure: std::time::Duration::from_micros(exposure_us), ingress_addresses }
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
