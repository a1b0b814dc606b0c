//! The limits that the kernel itself holds for a process, from cgroup v1 or v2.
//!
//! Called by the demo's check and by scenarios, which compare them with what the API says: Docker's answer is what
//! Docker was asked for, this is what is enforced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// v1 writes "no limit" as the largest multiple of a page below 2^63.
const V1_UNLIMITED_BYTES: u64 = 1 << 62;

/// What the kernel enforces on one process; `None` is "no limit".
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelLimits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Reads the limits of the process `pid`.
///
/// # Errors
/// When the process has ended, or its cgroups cannot be read.
pub fn limits(pid: u64) -> Result<KernelLimits> {
    let path = format!("/proc/{pid}/cgroup");
    let table = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let folders = cgroup_folders(&table);
    match folders.get("memory") {
        Some(memory) => v1(&folders, memory),
        None => v2(folders.get("").with_context(|| format!("no cgroup that we know in {path}"))?),
    }
}

/// Controller → folder, for every line of a `/proc/PID/cgroup` that is not a root group. The v2 group is "".
pub fn cgroup_folders(table: &str) -> BTreeMap<String, PathBuf> {
    let mut folders = BTreeMap::new();
    for line in table.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if path == "/" {
            continue;
        }
        let mount = match controllers {
            "" if Path::new(CGROUP_ROOT).join("unified").exists() => "unified",
            "" => "",
            named => named.trim_start_matches("name="),
        };
        let folder = Path::new(CGROUP_ROOT).join(mount).join(path.trim_start_matches('/'));
        for controller in controllers.split(',') {
            folders.insert(controller.to_owned(), folder.clone());
        }
    }
    folders
}

/// Removes the group `path` (as in `/launchpad/acct_1`) of every controller, where nothing is in it any more; the
/// kernel refuses to remove one in use.
pub fn remove_empty_cgroups(path: &str) {
    let relative = path.trim_start_matches('/');
    if relative.is_empty() {
        return;
    }
    let mounts = fs::read_dir(CGROUP_ROOT).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for mount in mounts.chain([PathBuf::from(CGROUP_ROOT)]) {
        let _ = fs::remove_dir(mount.join(relative));
    }
}

fn v1(folders: &BTreeMap<String, PathBuf>, memory: &Path) -> Result<KernelLimits> {
    let cpu = folders.get("cpu").context("no cpu cgroup")?;
    let pids = folders.get("pids").context("no pids cgroup")?;
    let bytes = |name: &str| -> Result<Option<u64>> {
        Ok(number(&memory.join(name))?.filter(|bytes| *bytes < V1_UNLIMITED_BYTES))
    };
    let quota = number(&cpu.join("cpu.cfs_quota_us"))?;
    let period = number(&cpu.join("cpu.cfs_period_us"))?;
    // A kernel without swap accounting has no such file, and then there is nothing to enforce it.
    let swap_file = "memory.memsw.limit_in_bytes";
    Ok(KernelLimits {
        memory_bytes: bytes("memory.limit_in_bytes")?,
        memory_and_swap_bytes: if memory.join(swap_file).exists() { bytes(swap_file)? } else { None },
        cpu_millis: quota.zip(period).map(|(quota, period)| quota * 1000 / period),
        pids: number(&pids.join("pids.max"))?,
    })
}

fn v2(folder: &Path) -> Result<KernelLimits> {
    let memory_bytes = number(&folder.join("memory.max"))?;
    let swap = number(&folder.join("memory.swap.max"))?;
    let path = folder.join("cpu.max");
    let cpu = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (quota, period) = cpu.trim().split_once(' ').context("cpu.max holds two words")?;
    let period: u64 = period.parse().context("read the period in cpu.max")?;
    Ok(KernelLimits {
        memory_bytes,
        memory_and_swap_bytes: memory_bytes.zip(swap).map(|(memory, swap)| memory + swap),
        cpu_millis: quota.parse::<u64>().ok().map(|quota| quota * 1000 / period),
        pids: number(&folder.join("pids.max"))?,
    })
}

/// A limit file's number; "max" and -1 are "no limit".
fn number(path: &Path) -> Result<Option<u64>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_groups_are_left_out_and_joint_controllers_share_a_folder() {
        let folders = cgroup_folders("5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n3:pids:/\n");
        assert_eq!(folders.len(), 3);
        assert_eq!(folders["cpu"], folders["cpuacct"]);
        assert_eq!(folders["memory"], Path::new("/sys/fs/cgroup/memory/docker/ab"));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        // Above the largest pid that Linux hands out (2^22).
        assert!(limits(1 << 30).is_err());
    }
}
