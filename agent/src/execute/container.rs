//! From a spec to what Docker is asked for: pure, and the one place that knows both.
//!
//! `create.rs` calls [`body`]. Everything that confines a bot is set here and only here; what the engine
//! cannot apply (AppArmor on a kernel without it) is left out, and `doctor.rs` reports it as absent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointIpamConfig, EndpointSettings, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType, NetworkingConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use launchpad_protocol::id::{AccountId, HostId};
use launchpad_protocol::spec::{InstanceSpec, Isolation, LOG_FILES, Resources, Seccomp, Tmpfs};
use zeroize::Zeroizing;

use super::cgroup;
use super::facts::EngineFacts;
use super::places::{Places, network_name};
use crate::observe::kernel::CORE_BYTES_MAX;
use crate::observe::{LABEL_ACCOUNT, LABEL_DEPLOYMENT, LABEL_EPOCH, LABEL_HOST, LABEL_RECREATE_HASH, LABEL_REVISION};

/// Docker counts a core in billionths, a spec in thousandths.
pub(super) const NANOS_PER_MILLI: i64 = 1_000_000;

/// What is not in the spec.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The host, for the label that makes the container ours.
    pub host: HostId,
    /// Where its mounts come from.
    pub places: &'a Places,
    /// What the engine can apply.
    pub facts: &'a EngineFacts,
    /// Its address on the tenant's network.
    pub address: Ipv4Addr,
    /// Variables that take a secret.
    pub secrets: &'a BTreeMap<String, Zeroizing<String>>,
}

/// What Docker is asked to make.
#[must_use]
pub fn body(spec: &InstanceSpec, around: &Surroundings<'_>) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.to_string()),
        hostname: Some(spec.name.clone()),
        user: Some(format!("{}:{}", spec.process.uid, spec.process.gid)),
        cmd: (!spec.process.command.is_empty()).then(|| spec.process.command.clone()),
        env: Some(environment(spec, around.secrets)),
        labels: Some(labels(spec, around.host)),
        host_config: Some(host_config(spec, around)),
        networking_config: Some(networking(spec.account, around.address)),
        ..ContainerCreateBody::default()
    }
}

/// What Docker is asked to change under a running container. Memory and memory+swap go in one request: Docker
/// orders the two writes so that neither is ever below the other.
#[must_use]
pub fn update(resources: &Resources) -> ContainerUpdateBody {
    let limits = limits(resources);
    ContainerUpdateBody {
        memory: limits.memory,
        memory_swap: limits.memory_swap,
        nano_cpus: limits.nano_cpus,
        pids_limit: limits.pids_limit,
        ..ContainerUpdateBody::default()
    }
}

/// The labels that prove whose a container is, and what it was made for.
fn labels(spec: &InstanceSpec, host: HostId) -> HashMap<String, String> {
    let pairs = [
        (LABEL_HOST, host.to_string()),
        (LABEL_DEPLOYMENT, spec.deployment.to_string()),
        (LABEL_ACCOUNT, spec.account.to_string()),
        (LABEL_REVISION, spec.revision.to_string()),
        (LABEL_EPOCH, spec.epoch.to_string()),
        (LABEL_RECREATE_HASH, spec.recreate_hash.to_string()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn environment(spec: &InstanceSpec, secrets: &BTreeMap<String, Zeroizing<String>>) -> Vec<String> {
    let plain = spec.process.environment.iter().filter(|(name, _)| !secrets.contains_key(*name));
    let plain = plain.map(|(name, value)| format!("{name}={value}"));
    plain.chain(secrets.iter().map(|(name, value)| format!("{name}={}", value.as_str()))).collect()
}

fn host_config(spec: &InstanceSpec, around: &Surroundings<'_>) -> HostConfig {
    let isolation = &spec.isolation;
    HostConfig {
        network_mode: Some(network_name(spec.account)),
        mounts: Some(mounts(spec, around.places)),
        tmpfs: Some(isolation.tmpfs.iter().map(|tmpfs| (tmpfs.path.clone(), tmpfs_options(tmpfs))).collect()),
        shm_size: Some(signed(isolation.shm_bytes)),
        readonly_rootfs: Some(isolation.read_only_root),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(isolation.capabilities.iter().cloned().collect()),
        security_opt: Some(security_options(isolation, around.facts)),
        ulimits: Some(vec![ulimit("nofile", isolation.open_files), ulimit("core", CORE_BYTES_MAX)]),
        log_config: Some(log_config(isolation.log_bytes)),
        // The agent decides who starts again; Docker would do it after a tombstone, too.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        // One group per tenant above those of its containers, so that a tenant can be weighed as a whole.
        cgroup_parent: cgroup::name(spec.account, around.facts.cgroup_driver),
        // On cgroup v1 an engine's own choice is the host's, which shows a bot its tenant, and its neighbours' names.
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        init: Some(false),
        ..limits(&spec.resources)
    }
}

fn ulimit(name: &str, limit: u32) -> ResourcesUlimits {
    let limit = Some(i64::from(limit));
    ResourcesUlimits { name: Some(name.to_owned()), soft: limit, hard: limit }
}

fn limits(resources: &Resources) -> HostConfig {
    HostConfig {
        memory: Some(signed(resources.memory_bytes)),
        // The sum of memory and swap: as much as memory is no swap at all.
        memory_swap: Some(signed(resources.memory_bytes)),
        nano_cpus: Some(i64::from(resources.cpu_millis) * NANOS_PER_MILLI),
        pids_limit: Some(i64::from(resources.pids)),
        ..HostConfig::default()
    }
}

/// Mounts, not binds: a bind whose source is missing would be made as an empty directory, a mount is refused.
fn mounts(spec: &InstanceSpec, places: &Places) -> Vec<Mount> {
    let bind = |source: &Path, target: &str, read_only: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let dirs: BTreeSet<&str> = spec.files.iter().map(|file| file.dir.as_str()).collect();
    let volume = spec.volume.iter().map(|volume| bind(&places.volume_data(spec.deployment), &volume.path, false));
    let mut mounts: Vec<Mount> = volume.collect();
    mounts.push(bind(&places.resolv_conf(spec.deployment), "/etc/resolv.conf", true));
    mounts.extend(dirs.into_iter().map(|dir| bind(&places.files_at(spec.deployment, dir), dir, true)));
    mounts
}

fn tmpfs_options(tmpfs: &Tmpfs) -> String {
    let exec = if tmpfs.exec { "exec" } else { "noexec" };
    format!("rw,nosuid,nodev,{exec},size={},mode={:o}", tmpfs.bytes, tmpfs.mode)
}

fn security_options(isolation: &Isolation, facts: &EngineFacts) -> Vec<String> {
    let mut options = Vec::new();
    if isolation.no_new_privileges {
        options.push("no-new-privileges=true".to_owned());
    }
    match &isolation.seccomp {
        Seccomp::EngineDefault => {}
        Seccomp::Profile(json) => options.push(format!("seccomp={json}")),
    }
    if let Some(profile) = isolation.apparmor.as_ref().filter(|_| facts.apparmor) {
        options.push(format!("apparmor={profile}"));
    }
    options
}

fn log_config(bytes: u64) -> HostConfigLogConfig {
    let options = [("max-size", (bytes / u64::from(LOG_FILES)).max(1)), ("max-file", u64::from(LOG_FILES))];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(options.into_iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect()),
    }
}

fn networking(account: AccountId, address: Ipv4Addr) -> NetworkingConfig {
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    NetworkingConfig { endpoints_config: Some(HashMap::from([(network_name(account), endpoint)])) }
}

/// Docker counts bytes with a sign. What does not fit is more than any machine has.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
