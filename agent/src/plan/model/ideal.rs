//! What a host shows of an instance for which every promise holds: what [`crate::enforce`] finds nothing wrong with.

use std::collections::BTreeMap;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::spec::{InstanceSpec, LOG_FILES, Resources, Seccomp, Volume};

use crate::enforce::shape::TenantShape;
use crate::observe::kernel::{
    CORE_BYTES_MAX, Capabilities, Ceiling, GroupView, IdMap, IdRange, KernelView, MountView, ProcessView, TenantGroup,
};
use crate::observe::{Container, ContainerState, GateSight, VolumeSight, gate_digest};

/// How far ids of containers are from those of a host that maps them.
const ID_DISTANCE: u32 = 200_000;

/// Its volume, where it has one.
#[must_use]
pub fn volume(asked: &Volume) -> VolumeSight {
    VolumeSight {
        backend: "ideal".to_owned(),
        bytes: asked.bytes,
        used_bytes: 0,
        free_bytes: Some(asked.bytes),
        mounted: true,
        flags_right: true,
        grows_in_use: true,
        snapshots: BTreeMap::new(),
    }
}

/// Its gate.
#[must_use]
pub fn gate(spec: &InstanceSpec) -> GateSight {
    GateSight {
        told: gate_digest(&spec.egress, &spec.ingress),
        egress_fault: None,
        ingress_fault: None,
        egress_seen: "as told".to_owned(),
        ingress_seen: "as told".to_owned(),
    }
}

/// Its container, made and never started.
#[must_use]
pub fn container(spec: &InstanceSpec, id: &str) -> Container {
    let log_file_bytes = (spec.isolation.log_bytes / u64::from(LOG_FILES)).max(1);
    Container {
        id: id.to_owned(),
        deployment: spec.deployment,
        account: spec.account,
        epoch: spec.epoch,
        recreate_hash: spec.recreate_hash,
        state: ContainerState::Created,
        resources: spec.resources,
        log_bytes: Some(log_file_bytes * u64::from(LOG_FILES)),
        seccomp: match &spec.isolation.seccomp {
            Seccomp::EngineDefault => None,
            Seccomp::Profile(json) => Some(Digest::of(json.as_bytes())),
        },
        process_id: None,
        kernel: None,
        address: None,
        image: Some(spec.image.digest),
    }
}

/// What the kernel shows of its container.
#[must_use]
pub fn kernel(spec: &InstanceSpec) -> KernelView {
    KernelView { process: process(spec), mounts: mounts(spec), group: group(&spec.resources) }
}

fn process(spec: &InstanceSpec) -> ProcessView {
    let isolation = &spec.isolation;
    let map = |id: u32| IdRange { inside: id, outside: id.wrapping_add(ID_DISTANCE), count: 1 };
    let (user, group) = (map(spec.process.uid), map(spec.process.gid));
    let bits = Capabilities::bits(&isolation.capabilities);
    ProcessView {
        users: [user.outside].into(),
        groups: [group.outside].into(),
        user_map: IdMap { ranges: vec![user] },
        group_map: IdMap { ranges: vec![group] },
        capabilities: Capabilities { bounding: bits, ..Capabilities::default() },
        no_new_privileges: isolation.no_new_privileges,
        seccomp_mode: 2,
        seccomp_filters: 1,
        confinement: Some(isolation.apparmor.clone().unwrap_or_else(|| "docker-default".to_owned()) + " (enforce)"),
        open_files: Ceiling::At(isolation.open_files.into()),
        core_bytes: Ceiling::At(u64::from(CORE_BYTES_MAX)),
        ..ProcessView::default()
    }
}

fn mounts(spec: &InstanceSpec) -> BTreeMap<String, MountView> {
    let isolation = &spec.isolation;
    let tmpfs = MountView { filesystem: "tmpfs".to_owned(), nosuid: true, nodev: true, ..MountView::default() };
    let root =
        MountView { filesystem: "overlay".to_owned(), read_only: isolation.read_only_root, ..MountView::default() };
    let shm = MountView { noexec: true, bytes: Some(isolation.shm_bytes), ..tmpfs.clone() };
    let volume = MountView { filesystem: "ext4".to_owned(), ..tmpfs.clone() };
    let mut mounts = BTreeMap::from([("/".to_owned(), root), ("/dev/shm".to_owned(), shm)]);
    mounts.extend(spec.volume.iter().map(|asked| (asked.path.clone(), volume.clone())));
    mounts.extend(isolation.tmpfs.iter().map(|asked| {
        (asked.path.clone(), MountView { noexec: !asked.exec, bytes: Some(asked.bytes), ..tmpfs.clone() })
    }));
    mounts.extend(spec.files.iter().map(|file| (file.dir.clone(), MountView { read_only: true, ..tmpfs.clone() })));
    mounts
}

/// The group above its tenant's containers.
#[must_use]
pub fn tenant(shape: &TenantShape) -> TenantGroup {
    TenantGroup {
        cpu_weight: Ceiling::At(shape.cpu_weight),
        pids: Ceiling::At(shape.pids),
        memory_high_bytes: Ceiling::At(shape.memory_high_bytes),
        swap_bytes: Ceiling::At(0),
        disk: Some(shape.disk()),
    }
}

/// Its control group.
#[must_use]
pub fn group(resources: &Resources) -> GroupView {
    GroupView {
        memory_bytes: Ceiling::At(resources.memory_bytes),
        memory_high_bytes: Ceiling::At(resources.memory_high_bytes()),
        swap_bytes: Ceiling::At(0),
        cpu_millis: Ceiling::At(resources.cpu_millis.into()),
        pids: Ceiling::At(resources.pids.into()),
        oom_kills: 0,
        pressure: Some(Default::default()),
    }
}
