//! Strategies of desired state: [`host_spec`], and the parts of it that properties want alone.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::{
    COUNTER_MAX, ENTRIES_MAX, SIZE_MAX_BYTES, deployments, digest, few, few_once, generation, id, maybe, name, path,
    pause, span, text,
};
use crate::feature::Feature;
use crate::generation::{Epoch, Revision};
use crate::id::{DeploymentId, OperationId};
use crate::image::ImageRef;
use crate::spec::{
    AgentUpgrade, EgressPolicy, FileKind, HostSpec, HttpProbe, Ingress, InstanceSpec, Isolation, Lease, Operation,
    OperationAction, Power, ProbeSet, ProcessSpec, Resources, RestartPolicy, SealedFile, Seccomp, Tmpfs, Tombstone,
    TombstoneScope, Transient, Volume,
};

/// Bytes of a drawn ciphertext, at most: its content never matters.
const CIPHERTEXT_MAX_BYTES: usize = 48;

/// A host's spec with instances and tombstones among the pool's first `most` deployments. A deployment may have both,
/// as one has whose container is being removed.
pub fn host_spec(most: usize) -> impl Strategy<Value = HostSpec> {
    let instances =
        deployments(most).prop_flat_map(|chosen| chosen.into_iter().map(instance_spec).collect::<Vec<_>>());
    let tombstones = deployments(most).prop_flat_map(|chosen| chosen.into_iter().map(tombstone).collect::<Vec<_>>());
    (id(), id(), generation(), instances, tombstones, maybe(agent_upgrade())).prop_map(
        |(host, incarnation, generation, instances, tombstones, upgrade)| HostSpec {
            host,
            incarnation,
            generation,
            instances: instances.into_iter().map(|instance| (instance.deployment, instance)).collect(),
            tombstones: tombstones.into_iter().map(|tombstone| (tombstone.id, tombstone)).collect(),
            upgrade,
        },
    )
}

fn agent_upgrade() -> impl Strategy<Value = AgentUpgrade> {
    let version = "[0-9]{1,2}(\\.[0-9]{1,2}){2}([~+-][a-z0-9]{1,6})?";
    (id(), version).prop_map(|(operation, version)| AgentUpgrade {
        operation,
        version: version.parse().expect("drawn as a version"),
    })
}

/// An instance of that deployment.
pub fn instance_spec(deployment: DeploymentId) -> impl Strategy<Value = InstanceSpec> {
    let wish = (id(), name(), revision(), (1..COUNTER_MAX).prop_map(Epoch), lease(), power(), name());
    let body = (image(), process(), resources(), isolation(), volume(), egress(), ingress());
    let delivery = (files(), variables());
    let conduct = (probes(), restart_policy(), span(), requires(), digest(), operations());
    (wish, body, delivery, conduct).prop_map(move |(wish, body, (mut files, secret_environment), conduct)| {
        let (account, name, revision, epoch, lease, power, profile) = wish;
        let (image, process, resources, mut isolation, mut volume, egress, ingress) = body;
        let (probes, restart, stop_grace, requires, recreate_hash, operations) = conduct;
        apart(&mut isolation.tmpfs, volume.as_mut(), &mut files);
        InstanceSpec {
            deployment,
            account,
            name,
            revision,
            epoch,
            lease,
            power,
            profile,
            image,
            process,
            resources,
            isolation,
            volume,
            egress,
            ingress,
            files,
            secret_environment,
            probes,
            restart,
            stop_grace,
            requires,
            recreate_hash,
            operations,
        }
    })
}

/// Limits that are changed in place.
pub fn resources() -> impl Strategy<Value = Resources> {
    (1..64_000_u32, 1..SIZE_MAX_BYTES, 1..u32::MAX).prop_map(|(cpu_millis, memory_bytes, pids)| Resources {
        cpu_millis,
        memory_bytes,
        pids,
    })
}

/// An order to remove that deployment's container, or all of it.
pub fn tombstone(deployment: DeploymentId) -> impl Strategy<Value = Tombstone> {
    let scope = prop_oneof![Just(TombstoneScope::Container), Just(TombstoneScope::Data)];
    (id(), id(), scope, span()).prop_map(move |(id, account, scope, stop_grace)| Tombstone {
        id,
        deployment,
        account,
        scope,
        stop_grace,
    })
}

fn revision() -> impl Strategy<Value = Revision> {
    (1..COUNTER_MAX).prop_map(Revision)
}

fn lease() -> impl Strategy<Value = Lease> {
    prop_oneof![Just(Lease::Keep), pause().prop_map(|term| Lease::Failover { term })]
}

fn power() -> impl Strategy<Value = Power> {
    prop_oneof![Just(Power::On), Just(Power::Off)]
}

fn image() -> impl Strategy<Value = ImageRef> {
    ("(registry\\.example(:5000)?/)?[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}", digest())
        .prop_map(|(repository, digest)| ImageRef { repository, digest })
}

fn process() -> impl Strategy<Value = ProcessSpec> {
    (1..=u32::MAX, 1..=u32::MAX, few(text()), variables()).prop_map(|(uid, gid, command, environment)| ProcessSpec {
        uid,
        gid,
        command,
        environment,
    })
}

fn variables() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[A-Z_]{1,8}", text(), 0..=ENTRIES_MAX)
}

fn isolation() -> impl Strategy<Value = Isolation> {
    let seccomp = prop_oneof![Just(Seccomp::EngineDefault), text().prop_map(Seccomp::Profile)];
    let flags = (any::<bool>(), any::<bool>());
    let sizes = (1..=u32::MAX, 1..SIZE_MAX_BYTES, 1..SIZE_MAX_BYTES);
    (flags, few_once("CAP_[A-Z]{1,6}"), seccomp, maybe(name()), few(tmpfs()), sizes).prop_map(
        |((read_only_root, no_new_privileges), capabilities, seccomp, apparmor, tmpfs, sizes)| {
            let (open_files, shm_bytes, log_bytes) = sizes;
            Isolation {
                read_only_root,
                no_new_privileges,
                capabilities,
                seccomp,
                apparmor,
                tmpfs,
                open_files,
                shm_bytes,
                log_bytes,
            }
        },
    )
}

/// Gives each kind of mount a directory of its own, and each tmpfs: of two mounts at one place the upper hides the
/// lower, and no host can keep both promises. Files may share theirs.
fn apart(tmpfs: &mut [Tmpfs], volume: Option<&mut Volume>, files: &mut [SealedFile]) {
    for (nth, tmpfs) in tmpfs.iter_mut().enumerate() {
        tmpfs.path.insert_str(0, &format!("/tmpfs{nth}"));
    }
    if let Some(volume) = volume {
        volume.path.insert_str(0, "/volume");
    }
    for file in files {
        file.dir.insert_str(0, "/files");
    }
}

fn tmpfs() -> impl Strategy<Value = Tmpfs> {
    (path(), 1..SIZE_MAX_BYTES, 0..=0o7777_u32, any::<bool>()).prop_map(|(path, bytes, mode, exec)| Tmpfs {
        path,
        bytes,
        mode,
        exec,
    })
}

fn volume() -> impl Strategy<Value = Option<Volume>> {
    option::of((path(), 1..SIZE_MAX_BYTES).prop_map(|(path, bytes)| Volume { path, bytes }))
}

fn egress() -> impl Strategy<Value = EgressPolicy> {
    few_once("(\\*\\.)?[a-z]{1,8}\\.example(:(80|443|8443,9000))?").prop_map(|texts| EgressPolicy {
        // The pattern writes rules only; two texts may be one rule.
        rules: texts.iter().filter_map(|text: &String| text.parse().ok()).collect(),
    })
}

fn ingress() -> impl Strategy<Value = Ingress> {
    (1..=u16::MAX, few_once("[a-z]{1,8}\\.bots\\.example")).prop_map(|(port, hostnames)| Ingress { port, hostnames })
}

/// Files whose names differ, in any order of directories.
fn files() -> impl Strategy<Value = Vec<SealedFile>> {
    let kind = prop_oneof![Just(FileKind::Config), Just(FileKind::Secret)];
    let rest = (path(), kind, revision(), vec(any::<u8>(), 0..=CIPHERTEXT_MAX_BYTES));
    btree_map(name(), rest, 0..=ENTRIES_MAX).prop_map(|files| {
        let file = |(name, (dir, kind, version, ciphertext))| SealedFile { name, dir, kind, version, ciphertext };
        files.into_iter().map(file).collect()
    })
}

fn probes() -> impl Strategy<Value = ProbeSet> {
    (probe(), probe(), probe()).prop_map(|(startup, readiness, liveness)| ProbeSet { startup, readiness, liveness })
}

fn probe() -> impl Strategy<Value = HttpProbe> {
    (path(), pause(), pause(), 1..=u32::MAX, maybe(text())).prop_map(
        |(path, period, timeout, failures, body_contains)| HttpProbe {
            path,
            period,
            timeout,
            failures,
            body_contains,
        },
    )
}

fn restart_policy() -> impl Strategy<Value = RestartPolicy> {
    (few_once(any::<i32>()), few(transient()), pause(), span(), span()).prop_map(
        |(terminal, transient, backoff_initial, longer, forgiven_after)| RestartPolicy {
            terminal,
            transient,
            backoff_initial,
            backoff_cap: backoff_initial + longer,
            forgiven_after,
        },
    )
}

fn transient() -> impl Strategy<Value = Transient> {
    (any::<i32>(), maybe(text()), span(), pause()).prop_map(|(code, output_contains, believed_for, retry)| {
        Transient { code, output_contains, believed_for, retry }
    })
}

/// Any of the features that this version has, or none.
fn requires() -> impl Strategy<Value = std::collections::BTreeSet<Feature>> {
    let all: Vec<Feature> = Feature::all().into_iter().collect();
    proptest::sample::subsequence(all.clone(), 0..=all.len()).prop_map(|chosen| chosen.into_iter().collect())
}

/// Operations in any order, their ids differing.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let action = prop_oneof![
        Just(OperationAction::Restart),
        name().prop_map(|name| OperationAction::Snapshot { name }),
        name().prop_map(|name| OperationAction::Restore { name }),
        name().prop_map(|name| OperationAction::DropSnapshot { name }),
        Just(OperationAction::ClearLocalStop),
    ];
    btree_map(id::<OperationId>(), action, 0..=ENTRIES_MAX)
        .prop_map(|operations| {
            operations.into_iter().map(|(id, action)| Operation { id, action }).collect::<Vec<_>>()
        })
        .prop_shuffle()
}
