//! What the kernel shows of a running container, read from `/proc` and from its control groups. Nothing is written.
//!
//! `sight.rs` calls [`Kernel::view`] for each container that runs. The readers below are pure: from a text to facts,
//! and a text that is not what it should be gives nothing rather than a guess.
//!
//! ```text
//! /proc/PID/{status,limits,uid_map,gid_map,attr/current,ns/*} ──process──► ProcessView ─┐
//! /proc/PID/mountinfo ────────────────────────────────────────mounts───► MountView … ───┼─► KernelView
//! /proc/PID/cgroup ─► its directories, v1 or v2 ──────────────group────► GroupView ─────┘
//! ```
//! A process id may be another process's by the time that it is read: what is read counts only if the process is in the
//! container's control group, and has the same start before and after.

mod disk;
mod group;
mod mounts;
mod pressure;
mod process;

use std::fs;
use std::path::{Path, PathBuf};

use launchpad_protocol::id::AccountId;

use super::cgroup;
use super::facts::CgroupDriver;
use crate::observe::kernel::{KernelView, TenantGroup};

pub use self::group::shares_of;

/// Where the kernel shows itself.
#[derive(Debug, Clone)]
pub struct Kernel {
    proc: PathBuf,
    cgroups: PathBuf,
    /// The disk whose traffic is limited: `8:0`.
    disk: Option<String>,
}

impl Kernel {
    /// The machine's own, and the disk that a directory lies on.
    #[must_use]
    pub fn beneath(data_dir: &Path) -> Self {
        Self { proc: "/proc".into(), cgroups: cgroup::ROOT.into(), disk: disk::beneath(data_dir) }
    }

    /// One that shows itself elsewhere, and a disk.
    #[cfg(test)]
    pub(super) fn at(proc: &Path, cgroups: &Path, disk: Option<&str>) -> Self {
        Self { proc: proc.to_owned(), cgroups: cgroups.to_owned(), disk: disk.map(str::to_owned) }
    }

    /// Where its control groups are.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.cgroups
    }

    /// The disk whose traffic is limited: `8:0`.
    #[must_use]
    pub fn disk(&self) -> Option<&str> {
        self.disk.as_deref()
    }

    /// Whether its control groups are those of version 2 alone.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        group::is_v2(&self.cgroups)
    }

    /// The control group of a process, on cgroup v2.
    #[must_use]
    pub fn group_of(&self, process_id: i64) -> Option<PathBuf> {
        let membership = text(&self.proc.join(process_id.to_string()), "cgroup")?;
        match group::Places::of(&membership, &self.cgroups)? {
            group::Places::V2(dir) => Some(dir),
            group::Places::V1 { .. } => None,
        }
    }

    /// What the kernel shows of a container by its first process; none when that is gone, or became so meanwhile.
    #[must_use]
    pub fn view(&self, process_id: i64, container: &str) -> Option<KernelView> {
        let process = self.proc.join(process_id.to_string());
        let started = process::started(&text(&process, "stat")?)?;
        let membership = text(&process, "cgroup")?;
        if !membership.contains(container) {
            return None;
        }
        let view = KernelView {
            process: process::read(&process, &self.proc.join("self"))?,
            mounts: mounts::parse(&text(&process, "mountinfo")?),
            group: group::Places::of(&membership, &self.cgroups)?.read(),
        };
        (process::started(&text(&process, "stat")?)? == started).then_some(view)
    }

    /// The control group above a tenant's containers, while there is one.
    #[must_use]
    pub fn tenant(&self, account: AccountId, driver: CgroupDriver) -> Option<TenantGroup> {
        group::tenant(&self.cgroups, &cgroup::below_root(account, driver)?, self.disk.as_deref())
    }
}

/// A file of the kernel's; none when it is not there, or what it is about is gone.
fn text(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

#[cfg(test)]
mod tests;
