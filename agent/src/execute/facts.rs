//! What the engine is: read once per connection, believed until the engine goes away.
//!
//! `create.rs` needs to know what it may ask for; `doctor.rs` turns the same facts into capabilities.

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum};

use super::ExecuteError;
use super::engine::{CALL_TIMEOUT, Engine};

/// What the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// `20.10.24`.
    pub version: String,
    /// The API that both speak: `1.41`.
    pub api: String,
    /// Containers outlive the daemon.
    pub live_restore: bool,
    /// Who makes cgroups.
    pub cgroup_driver: CgroupDriver,
    /// Cgroups are those of version 2.
    pub cgroup_v2: bool,
    /// Memory limits are enforced.
    pub memory_limit: bool,
    /// Swap is limited with memory.
    pub swap_limit: bool,
    /// CPU quotas are enforced.
    pub cpu_quota: bool,
    /// Process limits are enforced.
    pub pids_limit: bool,
    /// Seccomp filters are applied.
    pub seccomp: bool,
    /// AppArmor profiles are applied.
    pub apparmor: bool,
    /// The first user and group id of containers on the host, where they are remapped.
    pub remapped: Option<(u32, u32)>,
}

/// Who makes the cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The engine writes the files: parents are paths.
    Cgroupfs,
    /// systemd does: parents are slices.
    Systemd,
    /// Nobody: there are no limits.
    None,
}

impl EngineFacts {
    /// Asks the engine.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn read(engine: &Engine) -> Result<Self, ExecuteError> {
        let api = engine.client().await?.client_version();
        let told = engine.ask(CALL_TIMEOUT, |docker| async move { docker.info().await }).await?;
        let info = told.map_err(|error| engine.failed("describe itself", &error))?;
        Ok(Self::from_info(&info, format!("{}.{}", api.major_version, api.minor_version)))
    }

    /// The user and group on the host of that user and group in a container.
    #[must_use]
    pub fn owner(&self, uid: u32, gid: u32) -> (u32, u32) {
        let (first_uid, first_gid) = self.remapped.unwrap_or((0, 0));
        (first_uid.saturating_add(uid), first_gid.saturating_add(gid))
    }

    fn from_info(info: &SystemInfo, api: String) -> Self {
        let options = info.security_options.as_deref().unwrap_or_default();
        let has =
            |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
        let yes = |flag: Option<bool>| flag.unwrap_or(false);
        Self {
            version: info.server_version.clone().unwrap_or_default(),
            api,
            live_restore: yes(info.live_restore_enabled),
            cgroup_driver: match info.cgroup_driver {
                Some(SystemInfoCgroupDriverEnum::SYSTEMD) => CgroupDriver::Systemd,
                Some(SystemInfoCgroupDriverEnum::CGROUPFS) => CgroupDriver::Cgroupfs,
                Some(SystemInfoCgroupDriverEnum::NONE | SystemInfoCgroupDriverEnum::EMPTY) | None => {
                    CgroupDriver::None
                }
            },
            cgroup_v2: info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2),
            memory_limit: yes(info.memory_limit),
            swap_limit: yes(info.swap_limit),
            cpu_quota: yes(info.cpu_cfs_quota),
            pids_limit: yes(info.pids_limit),
            seccomp: has("seccomp"),
            apparmor: has("apparmor"),
            remapped: has("userns").then(|| remapped(info.docker_root_dir.as_deref().unwrap_or_default())).flatten(),
        }
    }
}

/// A remapping engine keeps its things in a directory named after the first ids:
/// `/var/lib/docker/200000.200000`.
fn remapped(docker_root_dir: &str) -> Option<(u32, u32)> {
    let (uid, gid) = docker_root_dir.rsplit('/').next()?.split_once('.')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An engine that can do everything, on cgroup v2 under systemd.
    pub(crate) fn capable() -> EngineFacts {
        EngineFacts {
            version: "29.0.0".to_owned(),
            api: "1.52".to_owned(),
            live_restore: true,
            cgroup_driver: CgroupDriver::Systemd,
            cgroup_v2: true,
            memory_limit: true,
            swap_limit: true,
            cpu_quota: true,
            pids_limit: true,
            seccomp: true,
            apparmor: true,
            remapped: None,
        }
    }

    #[test]
    fn a_remapping_engine_shows_whose_a_volume_must_be() {
        let info = SystemInfo {
            security_options: Some(vec!["name=seccomp,profile=default".to_owned(), "name=userns".to_owned()]),
            docker_root_dir: Some("/var/lib/docker/200000.300000".to_owned()),
            ..SystemInfo::default()
        };
        let facts = EngineFacts::from_info(&info, "1.41".to_owned());
        assert!(facts.seccomp && !facts.apparmor);
        assert_eq!(facts.owner(1000, 1000), (201_000, 301_000));
        assert_eq!(capable().owner(1000, 1000), (1000, 1000));
    }
}
