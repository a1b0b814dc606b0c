//! One instance of a spec: what runs, what it may use, what confines it, what is sealed for it, what must happen once.
//!
//! `wire/spec.rs` calls this for each instance; probes, leases and restarts are `wire/policy.rs`. Numbers that Docker
//! reads as "no limit" when they are 0, users that are root when they are 0, and names that become paths on the host
//! are refused here, once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::field::{
    WireError, at_most, digest, distinct, distinct_list, file_name, filled, known, list, malformed, map, micros,
    mount_point, optional, parse, positive, required, set, unspecified,
};
use super::v1;
use crate::egress::is_host_name;
use crate::feature::Feature;
use crate::generation::{Epoch, Revision};
use crate::limits::{EGRESS_RULES_MAX, HOSTNAMES_MAX, OPERATIONS_PER_INSTANCE_MAX, SEALED_FILES_MAX};
use crate::names::{MODE_MAX, is_variable};
use crate::spec::{
    EgressPolicy, FileKind, Ingress, InstanceSpec, Isolation, Operation, OperationAction, Power, ProcessSpec,
    Resources, SealedFile, Seccomp, Tmpfs, Volume,
};

impl From<&InstanceSpec> for v1::InstanceSpec {
    fn from(spec: &InstanceSpec) -> Self {
        let power = match spec.power {
            Power::On => v1::Power::On,
            Power::Off => v1::Power::Off,
        };
        Self {
            deployment_id: spec.deployment.to_string(),
            account_id: spec.account.to_string(),
            name: spec.name.clone(),
            revision: spec.revision.0,
            epoch: spec.epoch.0,
            lease: Some(spec.lease.into()),
            power: power.into(),
            profile: spec.profile.clone(),
            image: spec.image.to_string(),
            process: Some((&spec.process).into()),
            resources: Some(spec.resources.into()),
            isolation: Some((&spec.isolation).into()),
            volume: spec.volume.as_ref().map(|one| v1::Volume { path: one.path.clone(), size_bytes: one.bytes }),
            egress: Some(v1::EgressPolicy { rules: spec.egress.rules.iter().map(ToString::to_string).collect() }),
            ingress: Some((&spec.ingress).into()),
            files: spec.files.iter().map(v1::SealedFile::from).collect(),
            secret_environment: variables(&spec.secret_environment),
            probes: Some((&spec.probes).into()),
            restart: Some((&spec.restart).into()),
            stop_grace_us: micros(spec.stop_grace),
            requires: spec.requires.iter().map(|feature| feature.0.clone()).collect(),
            recreate_hash: spec.recreate_hash.as_bytes().to_vec(),
            operations: spec.operations.iter().map(v1::Operation::from).collect(),
        }
    }
}

impl TryFrom<v1::InstanceSpec> for InstanceSpec {
    type Error = WireError;

    fn try_from(message: v1::InstanceSpec) -> Result<Self, WireError> {
        at_most("files", &message.files, SEALED_FILES_MAX)?;
        at_most("operations", &message.operations, OPERATIONS_PER_INSTANCE_MAX)?;
        Ok(Self {
            deployment: parse("deployment_id", &message.deployment_id)?,
            account: parse("account_id", &message.account_id)?,
            name: message.name,
            revision: Revision(message.revision),
            epoch: Epoch(message.epoch),
            lease: required("lease", message.lease)?,
            power: match known("power", message.power)? {
                v1::Power::Unspecified => return Err(unspecified("power")),
                v1::Power::On => Power::On,
                v1::Power::Off => Power::Off,
            },
            profile: message.profile,
            image: parse("image", &message.image)?,
            process: required("process", message.process)?,
            resources: required("resources", message.resources)?,
            isolation: required("isolation", message.isolation)?,
            volume: optional("volume", message.volume)?,
            egress: required("egress", message.egress)?,
            ingress: required("ingress", message.ingress)?,
            files: distinct_list("files", message.files, |file: &SealedFile| format!("{}/{}", file.dir, file.name))?,
            secret_environment: variables_in("secret_environment", message.secret_environment)?,
            probes: required("probes", message.probes)?,
            restart: required("restart", message.restart)?,
            stop_grace: Duration::from_micros(message.stop_grace_us),
            requires: distinct("requires", message.requires, |name| filled("", name).map(Feature))?,
            recreate_hash: digest("recreate_hash", &message.recreate_hash)?,
            operations: distinct_list("operations", message.operations, |operation: &Operation| {
                operation.id.to_string()
            })?,
        })
    }
}

fn variables(map: &BTreeMap<String, String>) -> Vec<v1::Variable> {
    map.iter().map(|(name, value)| v1::Variable { name: name.clone(), value: value.clone() }).collect()
}

fn variables_in(field: &str, entries: Vec<v1::Variable>) -> Result<BTreeMap<String, String>, WireError> {
    map(field, entries, |entry| {
        if !is_variable(&entry.name) {
            return Err(malformed("name", format!("`{}` is no name of a variable", entry.name)));
        }
        Ok((entry.name, entry.value))
    })
}

impl From<&ProcessSpec> for v1::ProcessSpec {
    fn from(process: &ProcessSpec) -> Self {
        Self {
            uid: process.uid,
            gid: process.gid,
            command: process.command.clone(),
            environment: variables(&process.environment),
        }
    }
}

impl TryFrom<v1::ProcessSpec> for ProcessSpec {
    type Error = WireError;

    fn try_from(message: v1::ProcessSpec) -> Result<Self, WireError> {
        Ok(Self {
            uid: positive("uid", message.uid)?,
            gid: positive("gid", message.gid)?,
            command: message.command,
            environment: variables_in("environment", message.environment)?,
        })
    }
}

impl From<Resources> for v1::Resources {
    fn from(resources: Resources) -> Self {
        let Resources { cpu_millis, memory_bytes, pids } = resources;
        Self { cpu_millis, memory_bytes, pids }
    }
}

impl TryFrom<v1::Resources> for Resources {
    type Error = WireError;

    fn try_from(message: v1::Resources) -> Result<Self, WireError> {
        Ok(Self {
            cpu_millis: positive("cpu_millis", message.cpu_millis)?,
            memory_bytes: positive("memory_bytes", message.memory_bytes)?,
            pids: positive("pids", message.pids)?,
        })
    }
}

impl From<&Isolation> for v1::Isolation {
    fn from(isolation: &Isolation) -> Self {
        let choice = match &isolation.seccomp {
            Seccomp::EngineDefault => v1::seccomp::Choice::EngineDefault(v1::seccomp::EngineDefault {}),
            Seccomp::Profile(json) => v1::seccomp::Choice::ProfileJson(json.clone()),
        };
        Self {
            writable_root: !isolation.read_only_root,
            new_privileges: !isolation.no_new_privileges,
            capabilities: isolation.capabilities.iter().cloned().collect(),
            seccomp: Some(v1::Seccomp { choice: Some(choice) }),
            apparmor: isolation.apparmor.clone(),
            tmpfs: isolation.tmpfs.iter().map(v1::Tmpfs::from).collect(),
            open_files: isolation.open_files,
            shm_bytes: isolation.shm_bytes,
            log_bytes: isolation.log_bytes,
        }
    }
}

impl TryFrom<v1::Isolation> for Isolation {
    type Error = WireError;

    fn try_from(message: v1::Isolation) -> Result<Self, WireError> {
        Ok(Self {
            read_only_root: !message.writable_root,
            no_new_privileges: !message.new_privileges,
            capabilities: distinct("capabilities", message.capabilities, |name| filled("", name))?,
            seccomp: required("seccomp", message.seccomp)?,
            apparmor: message.apparmor,
            tmpfs: list("tmpfs", message.tmpfs)?,
            open_files: positive("open_files", message.open_files)?,
            shm_bytes: positive("shm_bytes", message.shm_bytes)?,
            log_bytes: positive("log_bytes", message.log_bytes)?,
        })
    }
}

impl TryFrom<v1::Seccomp> for Seccomp {
    type Error = WireError;

    fn try_from(message: v1::Seccomp) -> Result<Self, WireError> {
        Ok(match set("choice", message.choice)? {
            v1::seccomp::Choice::EngineDefault(v1::seccomp::EngineDefault {}) => Self::EngineDefault,
            v1::seccomp::Choice::ProfileJson(json) => Self::Profile(json),
        })
    }
}

impl From<&Tmpfs> for v1::Tmpfs {
    fn from(tmpfs: &Tmpfs) -> Self {
        Self { path: tmpfs.path.clone(), size_bytes: tmpfs.bytes, mode: tmpfs.mode, exec: tmpfs.exec }
    }
}

impl TryFrom<v1::Tmpfs> for Tmpfs {
    type Error = WireError;

    fn try_from(message: v1::Tmpfs) -> Result<Self, WireError> {
        if message.mode > MODE_MAX {
            return Err(malformed("mode", format!("{:o} is above {MODE_MAX:o}", message.mode)));
        }
        Ok(Self {
            path: mount_point("path", message.path)?,
            bytes: positive("size_bytes", message.size_bytes)?,
            mode: message.mode,
            exec: message.exec,
        })
    }
}

impl TryFrom<v1::Volume> for Volume {
    type Error = WireError;

    fn try_from(message: v1::Volume) -> Result<Self, WireError> {
        Ok(Self { path: mount_point("path", message.path)?, bytes: positive("size_bytes", message.size_bytes)? })
    }
}

impl TryFrom<v1::EgressPolicy> for EgressPolicy {
    type Error = WireError;

    fn try_from(message: v1::EgressPolicy) -> Result<Self, WireError> {
        at_most("rules", &message.rules, EGRESS_RULES_MAX)?;
        Ok(Self { rules: distinct("rules", message.rules, |rule| parse("", &rule))? })
    }
}

impl From<&Ingress> for v1::Ingress {
    fn from(ingress: &Ingress) -> Self {
        Self { port: ingress.port.into(), hostnames: ingress.hostnames.iter().cloned().collect() }
    }
}

impl TryFrom<v1::Ingress> for Ingress {
    type Error = WireError;

    fn try_from(message: v1::Ingress) -> Result<Self, WireError> {
        at_most("hostnames", &message.hostnames, HOSTNAMES_MAX)?;
        let port = u16::try_from(message.port)
            .map_err(|_| malformed("port", format!("{} is above {}", message.port, u16::MAX)))?;
        Ok(Self { port: positive("port", port)?, hostnames: distinct("hostnames", message.hostnames, host_name)? })
    }
}

/// A name that becomes a question to our own name server, and a certificate: lower case, so that each is one name.
fn host_name(name: String) -> Result<String, WireError> {
    if is_host_name(&name) && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(name);
    }
    Err(malformed("", format!("`{name}` is no host name in lower case")))
}

impl From<&SealedFile> for v1::SealedFile {
    fn from(file: &SealedFile) -> Self {
        let kind = match file.kind {
            FileKind::Config => v1::FileKind::Config,
            FileKind::Secret => v1::FileKind::Secret,
        };
        Self {
            name: file.name.clone(),
            dir: file.dir.clone(),
            kind: kind.into(),
            version: file.version.0,
            ciphertext: file.ciphertext.clone(),
        }
    }
}

impl TryFrom<v1::SealedFile> for SealedFile {
    type Error = WireError;

    fn try_from(message: v1::SealedFile) -> Result<Self, WireError> {
        Ok(Self {
            name: file_name("name", message.name)?,
            dir: mount_point("dir", message.dir)?,
            kind: match known("kind", message.kind)? {
                v1::FileKind::Unspecified => return Err(unspecified("kind")),
                v1::FileKind::Config => FileKind::Config,
                v1::FileKind::Secret => FileKind::Secret,
            },
            version: Revision(message.version),
            ciphertext: message.ciphertext,
        })
    }
}

impl From<&Operation> for v1::Operation {
    fn from(operation: &Operation) -> Self {
        use v1::operation::{Action, ClearLocalStop, DropSnapshot, Restart, Restore, Snapshot};
        let action = match &operation.action {
            OperationAction::Restart => Action::Restart(Restart {}),
            OperationAction::Snapshot { name } => Action::Snapshot(Snapshot { name: name.clone() }),
            OperationAction::Restore { name } => Action::Restore(Restore { name: name.clone() }),
            OperationAction::DropSnapshot { name } => Action::DropSnapshot(DropSnapshot { name: name.clone() }),
            OperationAction::ClearLocalStop => Action::ClearLocalStop(ClearLocalStop {}),
        };
        Self { operation_id: operation.id.to_string(), action: Some(action) }
    }
}

impl TryFrom<v1::Operation> for Operation {
    type Error = WireError;

    fn try_from(message: v1::Operation) -> Result<Self, WireError> {
        use v1::operation::{Action, ClearLocalStop, Restart};
        let action = match set("action", message.action)? {
            Action::Restart(Restart {}) => OperationAction::Restart,
            Action::Snapshot(snapshot) => {
                OperationAction::Snapshot { name: file_name("snapshot.name", snapshot.name)? }
            }
            Action::Restore(restore) => OperationAction::Restore { name: file_name("restore.name", restore.name)? },
            Action::DropSnapshot(dropped) => {
                OperationAction::DropSnapshot { name: file_name("drop_snapshot.name", dropped.name)? }
            }
            Action::ClearLocalStop(ClearLocalStop {}) => OperationAction::ClearLocalStop,
        };
        Ok(Self { id: parse("operation_id", &message.operation_id)?, action })
    }
}
