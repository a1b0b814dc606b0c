//! Limits as the kernel has them, read back from the cgroup of a running process.
//!
//! `sight.rs` calls [`limits`] for each container that runs. Nothing is written here: the engine sets limits,
//! and a limit that the kernel does not show is reported as missing rather than assumed.
//!
//! ```text
//!          memory                     cpu                                  pids
//! v1       memory.limit_in_bytes      cpu.cfs_quota_us / cfs_period_us     pids.max
//! v2       memory.max                 cpu.max: "quota period"              pids.max
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use launchpad_protocol::id::AccountId;
use launchpad_protocol::report::KernelLimits;

/// Where the kernel shows cgroups.
const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup above those of all tenants, where the engine makes cgroups by their path.
pub const PARENT: &str = "launchpad";

/// Parts of a core that limits are counted in.
pub const MILLIS_PER_CORE: u32 = 1000;

/// From this many bytes on, a v1 memory limit means none: the kernel rounds the largest number down to a
/// page.
const V1_UNLIMITED_FROM: u64 = 1 << 62;

/// The limits of the cgroup that a process is in; none when it is gone or one of them is not set.
#[must_use]
pub fn limits(process_id: i64) -> Option<KernelLimits> {
    let membership = fs::read_to_string(format!("/proc/{process_id}/cgroup")).ok()?;
    read(&Cgroup::of(&membership, Path::new(ROOT))?)
}

/// Removes a tenant's own cgroup, which the engine leaves behind when the last container in it is gone. Under
/// systemd it is a slice, and goes by itself. One that is in use stays: the kernel refuses.
pub fn remove_parent(account: AccountId) {
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for hierarchy in hierarchies.chain([PathBuf::from(ROOT)]) {
        // Not there, or not empty: nothing to do in either case.
        let _ = fs::remove_dir(hierarchy.join(PARENT).join(account.to_string()));
    }
}

/// Where the three controllers of one cgroup are.
#[derive(Debug, PartialEq, Eq)]
enum Cgroup {
    V1 { memory: PathBuf, cpu: PathBuf, pids: PathBuf },
    V2(PathBuf),
}

impl Cgroup {
    /// From the text of `/proc/<pid>/cgroup`: `4:memory:/docker/…` per v1 hierarchy, `0::/…` for v2. A hybrid
    /// machine has both, and its controllers are in v1.
    fn of(membership: &str, root: &Path) -> Option<Self> {
        let lines = || membership.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let below = |dir: &Path, path: &str| dir.join(path.trim_start_matches('/'));
        let v1 = |controller: &str| {
            lines().find_map(|(controllers, path)| {
                let here = controllers.split(',').any(|one| one == controller);
                // Hierarchies of several controllers are mounted under their joint name, linked under each.
                here.then(|| below(&root.join(controller), path))
            })
        };
        if let (Some(memory), Some(cpu), Some(pids)) = (v1("memory"), v1("cpu"), v1("pids")) {
            return Some(Self::V1 { memory, cpu, pids });
        }
        lines().find_map(|(controllers, path)| controllers.is_empty().then(|| Self::V2(below(root, path))))
    }
}

fn read(cgroup: &Cgroup) -> Option<KernelLimits> {
    let text = |path: PathBuf| fs::read_to_string(path).ok();
    let number = |path: PathBuf| text(path)?.trim().parse::<u64>().ok();
    let (memory_bytes, cpu_millis, pids) = match cgroup {
        Cgroup::V1 { memory, cpu, pids } => (
            number(memory.join("memory.limit_in_bytes")).filter(|bytes| *bytes < V1_UNLIMITED_FROM)?,
            millis(number(cpu.join("cpu.cfs_quota_us"))?, number(cpu.join("cpu.cfs_period_us"))?)?,
            number(pids.join("pids.max"))?,
        ),
        Cgroup::V2(dir) => {
            let quota = text(dir.join("cpu.max"))?;
            let (quota, period) = quota.trim().split_once(' ')?;
            let cpu = millis(quota.parse().ok()?, period.parse().ok()?)?;
            (number(dir.join("memory.max"))?, cpu, number(dir.join("pids.max"))?)
        }
    };
    Some(KernelLimits { cpu_millis, memory_bytes, pids: u32::try_from(pids).ok()? })
}

/// A quota and its period as thousandths of a core.
fn millis(quota: u64, period: u64) -> Option<u32> {
    u32::try_from(quota.saturating_mul(u64::from(MILLIS_PER_CORE)).checked_div(period)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str =
        "9:name=systemd:/\n8:pids:/docker/c1\n4:memory:/docker/c1\n2:cpuacct:/x\n1:cpu:/docker/c1\n0::/\n";

    #[test]
    fn a_hybrid_machine_has_its_controllers_in_v1() {
        let root = Path::new("/cg");
        let expected = Cgroup::V1 {
            memory: "/cg/memory/docker/c1".into(),
            cpu: "/cg/cpu/docker/c1".into(),
            pids: "/cg/pids/docker/c1".into(),
        };
        assert_eq!(Cgroup::of(HYBRID, root), Some(expected));
        let slice = "0::/launchpad.slice/docker-c1.scope\n";
        assert_eq!(Cgroup::of(slice, root), Some(Cgroup::V2("/cg/launchpad.slice/docker-c1.scope".into())));
    }

    #[test]
    fn limits_of_both_versions_read_the_same_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        for (name, text) in [
            ("memory.limit_in_bytes", "1073741824\n"),
            ("cpu.cfs_quota_us", "50000\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("pids.max", "256\n"),
            ("memory.max", "1073741824\n"),
            ("cpu.max", "50000 100000\n"),
        ] {
            write(name, text);
        }
        let here = || dir.path().to_owned();
        let v1 = Cgroup::V1 { memory: here(), cpu: here(), pids: here() };
        let expected = Some(KernelLimits { cpu_millis: 500, memory_bytes: 1 << 30, pids: 256 });
        assert_eq!(read(&v1), expected);
        assert_eq!(read(&Cgroup::V2(here())), expected);
        write("pids.max", "max\n");
        assert_eq!(read(&Cgroup::V2(here())), None);
        write("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(read(&v1), None);
    }
}
