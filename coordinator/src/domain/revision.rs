//! One revision of a deployment: everything that it was made from, pinned when it was made.
//!
//! ```text
//! profile (TOML) ─┐
//! plan           ─┼─► blueprint: an InstanceSpec without what only a host or the moment decides
//! customer's wish ┘              (epoch, power, operations, ciphertext)
//! ```
//! The blueprint itself is stored, not only its ingredients: neither an edited profile nor a newer coordinator with
//! other defaults changes a bot that runs. `compile` completes it for a host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::egress::EgressRule;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::profile::{Probe, Profile, TmpfsMount};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::seccomp;
use launchpad_protocol::spec::{
    EgressPolicy, FileKind, HttpProbe, Ingress, InstanceSpec, Isolation, Lease, Power, ProbeSet, ProcessSpec,
    Resources, RestartPolicy, SealedFile, Seccomp, Tmpfs, Transient, Volume,
};
use serde::Serialize;

use super::amend::allowed;
use super::plan_table::Plan;
use super::refusal::Refusal;

/// Open files per process: Node.js and its SQLite files take a few hundred, and inotify-heavy plugins some thousand.
const OPEN_FILES: u32 = 16_384;
/// Bytes of `/dev/shm`, Docker's own default.
const SHM_BYTES: u64 = 64 * MIB_BYTES;
/// Bytes of a container's log that Docker keeps: an hour of a chatty bot, while the coordinator is away.
const LOG_BYTES: u64 = 32 * MIB_BYTES;
/// Bytes of a mebibyte.
const MIB_BYTES: u64 = 1 << 20;

/// What a blueprint is made from.
#[derive(Debug, Clone, Copy)]
pub struct Ingredients<'a> {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Whose.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: &'a str,
    /// Which revision this becomes.
    pub revision: Revision,
    /// The workload.
    pub profile: &'a Profile,
    /// The limits.
    pub plan: &'a Plan,
    /// What runs.
    pub image: &'a ImageRef,
    /// What its owner lets it reach beyond the profile.
    pub egress: &'a BTreeSet<EgressRule>,
    /// The public names that lead to it.
    pub hostnames: &'a BTreeSet<String>,
    /// The names of its secrets, those that are generated included.
    pub secrets: &'a BTreeSet<String>,
    /// Under which lease it runs.
    pub lease: Lease,
}

/// Makes the blueprint of a revision, its recreate hash included.
///
/// # Errors
/// A refusal when the plan is below the workload's needs, there are more egress rules than a spec holds, or the profile's
/// tmpfs mode is no octal number.
pub fn blueprint(from: Ingredients<'_>) -> Result<InstanceSpec, Refusal> {
    let Ingredients { profile, plan, .. } = from;
    above_the_floor(profile, plan)?;
    let secret_environment: BTreeMap<_, _> = profile
        .secrets
        .environment
        .iter()
        .filter(|(_, secret)| from.secrets.contains(*secret))
        .map(|(variable, secret)| (variable.clone(), secret.clone()))
        .collect();
    let mut spec = InstanceSpec {
        deployment: from.deployment,
        account: from.account,
        name: from.name.to_owned(),
        revision: from.revision,
        epoch: Epoch::default(),
        lease: from.lease,
        power: Power::On,
        profile: profile.name.clone(),
        image: from.image.clone(),
        process: ProcessSpec {
            uid: profile.process.uid,
            gid: profile.process.gid,
            command: profile.process.command.clone(),
            environment: profile.process.env.clone(),
        },
        resources: resources(profile, plan),
        isolation: isolation(profile)?,
        volume: profile.state_path.clone().map(|path| Volume { path, bytes: plan.storage_bytes }),
        egress: EgressPolicy { rules: allowed(profile, from.egress)? },
        ingress: Ingress { port: profile.port, hostnames: from.hostnames.clone() },
        files: files(&from),
        requires: required(&from, !secret_environment.is_empty()),
        secret_environment,
        probes: probes(profile),
        restart: restart(profile),
        stop_grace: Duration::from_secs(profile.stop_grace_s.into()),
        recreate_hash: Digest::of(b""),
        operations: Vec::new(),
    };
    spec.recreate_hash = recreate_hash(&spec);
    Ok(spec)
}

/// The digest of all that Docker fixes when it creates a container. Limits, probes, the restart policy, names and what
/// is inside the sealed files are changed in place and are no part of it, but for a secret that is handed over in the
/// environment: that is fixed at creation too, and its version stands for it.
#[must_use]
pub fn recreate_hash(spec: &InstanceSpec) -> Digest {
    #[derive(Serialize)]
    struct Fixed<'a> {
        version: &'static str,
        image: &'a ImageRef,
        process: &'a ProcessSpec,
        isolation: &'a Isolation,
        volume_path: Option<&'a str>,
        port: u16,
        secret_environment: BTreeMap<&'a str, (&'a str, Option<Revision>)>,
        dirs: BTreeSet<&'a str>,
    }
    let fixed = Fixed {
        version: "launchpad recreate v1",
        image: &spec.image,
        process: &spec.process,
        isolation: &spec.isolation,
        volume_path: spec.volume.as_ref().map(|volume| volume.path.as_str()),
        port: spec.ingress.port,
        secret_environment: versioned_environment(spec),
        dirs: spec.files.iter().map(|file| file.dir.as_str()).collect(),
    };
    // Strings, numbers and ordered maps with string keys: none of it can fail to be JSON.
    Digest::of(&serde_json::to_vec(&fixed).unwrap_or_default())
}

/// The variables that take a secret: which, and which version of it.
fn versioned_environment(spec: &InstanceSpec) -> BTreeMap<&str, (&str, Option<Revision>)> {
    let version = |secret: &str| spec.files.iter().find(|file| file.name == secret).map(|file| file.version);
    let given = spec.secret_environment.iter();
    given.map(|(variable, secret)| (variable.as_str(), (secret.as_str(), version(secret)))).collect()
}

/// The files, still without ciphertext: the config first, then the secrets by name.
fn files(from: &Ingredients<'_>) -> Vec<SealedFile> {
    let file = |name: &str, dir: &str, kind| SealedFile {
        name: name.to_owned(),
        dir: dir.to_owned(),
        kind,
        version: from.revision,
        ciphertext: Vec::new(),
    };
    let config = file(&from.profile.config.file, &from.profile.config.dir, FileKind::Config);
    let secrets = from.secrets.iter().map(|name| file(name, &from.profile.secrets.dir, FileKind::Secret));
    std::iter::once(config).chain(secrets).collect()
}

fn isolation(profile: &Profile) -> Result<Isolation, Refusal> {
    Ok(Isolation {
        read_only_root: true,
        no_new_privileges: true,
        capabilities: BTreeSet::new(),
        seccomp: seccomp(profile)?,
        apparmor: None,
        tmpfs: profile.tmpfs.iter().map(|mount| tmpfs(profile, mount)).collect::<Result<_, _>>()?,
        open_files: OPEN_FILES,
        shm_bytes: SHM_BYTES,
        log_bytes: LOG_BYTES,
    })
}

fn seccomp(profile: &Profile) -> Result<Seccomp, Refusal> {
    let json = seccomp::compile(&profile.seccomp.allow).map_err(|error| {
        let sentence = format!("profile `{}`: seccomp.allow: {error}", profile.name);
        Refusal::impossible(Reason::new("profile-broken", sentence))
    })?;
    Ok(Seccomp::Profile(json))
}

fn tmpfs(profile: &Profile, mount: &TmpfsMount) -> Result<Tmpfs, Refusal> {
    let mode = u32::from_str_radix(&mount.mode, 8).map_err(|_| {
        let sentence = format!("profile `{}`: tmpfs mode `{}` is not octal", profile.name, mount.mode);
        Refusal::impossible(Reason::new("profile-broken", sentence).mend("write permission bits such as 1777"))
    })?;
    Ok(Tmpfs { path: mount.path.clone(), bytes: u64::from(mount.size_mb) * MIB_BYTES, mode, exec: mount.exec })
}

fn required(from: &Ingredients<'_>, secret_in_environment: bool) -> BTreeSet<Feature> {
    let mut features = BTreeSet::from([
        Feature::limits(),
        Feature::tenant_network(),
        Feature::sealed_files(),
        Feature::http_probes(),
        Feature::restart_policy(),
        if from.profile.state_path.is_some() { Feature::volume() } else { Feature::no_volume() },
        Feature::egress(),
        Feature::ingress(),
        Feature::seccomp(),
    ]);
    if secret_in_environment {
        features.insert(Feature::sealed_environment());
    }
    if let Lease::Failover { .. } = from.lease {
        features.insert(Feature::failover());
    }
    features
}

fn probes(profile: &Profile) -> ProbeSet {
    let http = |probe: &Probe| HttpProbe {
        path: probe.path.clone(),
        period: Duration::from_millis(probe.period_ms.into()),
        timeout: Duration::from_millis(probe.timeout_ms.into()),
        failures: probe.failures,
        body_contains: probe.body_contains.clone(),
    };
    ProbeSet {
        startup: http(&profile.probes.startup),
        readiness: http(&profile.probes.readiness),
        liveness: http(&profile.probes.liveness),
    }
}

fn restart(profile: &Profile) -> RestartPolicy {
    let exits = &profile.exits;
    RestartPolicy {
        terminal: exits.terminal.iter().copied().collect(),
        transient: exits
            .transient
            .iter()
            .map(|exit| Transient {
                code: exit.code,
                output_contains: exit.output_contains.clone(),
                believed_for: Duration::from_secs(exit.for_s.into()),
                retry: Duration::from_millis(exit.retry_ms.into()),
            })
            .collect(),
        backoff_initial: Duration::from_millis(exits.backoff_initial_ms.into()),
        backoff_cap: Duration::from_millis(exits.backoff_cap_ms.into()),
        forgiven_after: Duration::from_secs(exits.forgiven_after_s.into()),
    }
}

/// What a workload may use on a plan.
pub(super) const fn resources(profile: &Profile, plan: &Plan) -> Resources {
    Resources { cpu_millis: plan.cpu_millis, memory_bytes: plan.memory_bytes, pids: profile.needs.pids_max }
}

/// Whether a plan grants the memory below which a workload does not start.
///
/// # Errors
/// A refusal in numbers when it does not.
pub(super) fn above_the_floor(profile: &Profile, plan: &Plan) -> Result<(), Refusal> {
    let floor_bytes = u64::from(profile.needs.memory_floor_mb) * MIB_BYTES;
    if plan.memory_bytes >= floor_bytes { Ok(()) } else { Err(below_the_floor(profile, plan, floor_bytes)) }
}

fn below_the_floor(profile: &Profile, plan: &Plan, floor_bytes: u64) -> Refusal {
    let (has, needs) = (plan.memory_bytes / MIB_BYTES, floor_bytes / MIB_BYTES);
    let sentence = format!("plan `{}` grants {has} MiB of memory, `{}` needs {needs} MiB", plan.name, profile.name);
    Refusal::impossible(Reason::new("plan-too-small", sentence).mend("choose a larger plan"))
}

#[cfg(test)]
#[path = "revision_tests.rs"]
pub(crate) mod tests;
