//! A control group's limits and counts, in the files of either version.
//!
//! ```text
//!              v1, a directory for each controller               v2
//! memory       memory.limit_in_bytes                             memory.max
//! swap         memory.memsw.limit_in_bytes, less memory          memory.swap.max
//! high         –                                                 memory.high
//! cpu          cpu.cfs_quota_us / cpu.cfs_period_us              cpu.max: "quota period"
//! pids         pids.max                                          pids.max
//! OOM kills    memory.oom_control: oom_kill                      memory.events: oom_kill
//! ```

use std::path::{Path, PathBuf};

use super::{pressure, text};
use crate::execute::cgroup::MILLIS_PER_CORE;
use crate::observe::kernel::{Ceiling, DiskShare, GroupView, TenantGroup};

/// From this many bytes on, a v1 memory limit means none: the kernel rounds the largest number down to a page.
const V1_UNLIMITED_FROM: u64 = 1 << 62;

/// Where this file is, the root is cgroup v2's: v1 has a directory for each controller there, and nothing else.
const V2_MARK: &str = "cgroup.controllers";

/// The default weight of a group on v2, and the default shares on v1.
const V2_WEIGHT: u64 = 100;
const V1_SHARES: u64 = 1024;

/// A disk without a limit, as `io.max` would write it.
const OPEN: &str = "rbps=max wbps=max riops=max wiops=max";

/// Whether that root is cgroup v2's.
pub(super) fn is_v2(root: &Path) -> bool {
    root.join(V2_MARK).exists()
}

/// Where the controllers of one group are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Places {
    V1 { memory: PathBuf, cpu: PathBuf, pids: PathBuf },
    V2(PathBuf),
}

impl Places {
    /// From the text of `/proc/PID/cgroup`: `4:memory:/docker/…` per v1 hierarchy, `0::/…` for v2. A hybrid machine
    /// has both, and its controllers are in v1.
    pub(super) fn of(membership: &str, root: &Path) -> Option<Self> {
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

    /// What the group's files say now. A file that is not there, or says what no kernel says, is a limit not seen.
    pub(super) fn read(&self) -> GroupView {
        match self {
            Self::V1 { memory, cpu, pids } => v1(memory, cpu, pids),
            Self::V2(dir) => v2(dir),
        }
    }
}

fn v1(memory: &Path, cpu: &Path, pids: &Path) -> GroupView {
    let bytes = |name: &str| match ceiling(memory, name) {
        Ceiling::At(bytes) if bytes >= V1_UNLIMITED_FROM => Ceiling::Open,
        found @ (Ceiling::At(_) | Ceiling::Open | Ceiling::Unseen) => found,
    };
    let memory_bytes = bytes("memory.limit_in_bytes");
    let swap_bytes = match (bytes("memory.memsw.limit_in_bytes"), memory_bytes) {
        (Ceiling::At(both), Ceiling::At(memory)) => Ceiling::At(both.saturating_sub(memory)),
        (Ceiling::Open, _) => Ceiling::Open,
        (Ceiling::At(_) | Ceiling::Unseen, _) => Ceiling::Unseen,
    };
    GroupView {
        memory_bytes,
        memory_high_bytes: Ceiling::Unseen,
        swap_bytes,
        cpu_millis: match ceiling(cpu, "cpu.cfs_quota_us") {
            Ceiling::At(quota) => {
                ceiling(cpu, "cpu.cfs_period_us").number().map_or(Ceiling::Unseen, |period| millis(quota, period))
            }
            found @ (Ceiling::Open | Ceiling::Unseen) => found,
        },
        pids: ceiling(pids, "pids.max"),
        oom_kills: count(memory, "memory.oom_control", "oom_kill"),
        pressure: None,
    }
}

fn v2(dir: &Path) -> GroupView {
    GroupView {
        memory_bytes: ceiling(dir, "memory.max"),
        memory_high_bytes: ceiling(dir, "memory.high"),
        swap_bytes: ceiling(dir, "memory.swap.max"),
        cpu_millis: text(dir, "cpu.max").map_or(Ceiling::Unseen, |text| cpu_max(&text)),
        pids: ceiling(dir, "pids.max"),
        oom_kills: count(dir, "memory.events", "oom_kill"),
        pressure: pressure::read(dir),
    }
}

/// The group above a tenant's containers, below the root of all hierarchies; none while there is none. `disk` is the
/// number of the disk that is limited.
pub(super) fn tenant(root: &Path, below: &Path, disk: Option<&str>) -> Option<TenantGroup> {
    if is_v2(root) {
        let dir = root.join(below);
        return dir.is_dir().then(|| tenant_v2(&dir, disk));
    }
    let cpu = root.join("cpu").join(below);
    let seen = || TenantGroup {
        cpu_weight: match ceiling(&cpu, "cpu.shares") {
            Ceiling::At(shares) => Ceiling::At(weight_of(shares)),
            found @ (Ceiling::Open | Ceiling::Unseen) => found,
        },
        pids: ceiling(&root.join("pids").join(below), "pids.max"),
        ..TenantGroup::default()
    };
    cpu.is_dir().then(seen)
}

fn tenant_v2(dir: &Path, disk: Option<&str>) -> TenantGroup {
    TenantGroup {
        cpu_weight: ceiling(dir, "cpu.weight"),
        pids: ceiling(dir, "pids.max"),
        memory_high_bytes: ceiling(dir, "memory.high"),
        swap_bytes: ceiling(dir, "memory.swap.max"),
        disk: disk.and_then(|disk| share(&text(dir, "io.max")?, disk)),
    }
}

/// cgroup v2's weight of 100 is v1's 1024 shares, the default of either.
fn weight_of(shares: u64) -> u64 {
    (shares.saturating_mul(V2_WEIGHT) + V1_SHARES / 2) / V1_SHARES
}

/// The v1 shares that stand for a weight.
#[must_use]
pub const fn shares_of(weight: u64) -> u64 {
    weight.saturating_mul(V1_SHARES) / V2_WEIGHT
}

/// A file with one number in it, `max`, or, for v1's quota, -1.
fn ceiling(dir: &Path, name: &str) -> Ceiling {
    text(dir, name).map_or(Ceiling::Unseen, |text| number(text.trim()))
}

fn number(text: &str) -> Ceiling {
    match text {
        "max" | "-1" => Ceiling::Open,
        number => number.parse().map_or(Ceiling::Unseen, Ceiling::At),
    }
}

fn cpu_max(text: &str) -> Ceiling {
    let Some((quota, period)) = text.trim().split_once(' ') else { return Ceiling::Unseen };
    match (number(quota), period.parse()) {
        (Ceiling::At(quota), Ok(period)) => millis(quota, period),
        (Ceiling::Open, _) => Ceiling::Open,
        (Ceiling::At(_) | Ceiling::Unseen, _) => Ceiling::Unseen,
    }
}

/// A quota and its period as thousandths of a core.
fn millis(quota: u64, period: u64) -> Ceiling {
    quota.saturating_mul(u64::from(MILLIS_PER_CORE)).checked_div(period).map_or(Ceiling::Unseen, Ceiling::At)
}

/// One count of a file that has several, each behind its name; 0 where there is none.
fn count(dir: &Path, file: &str, name: &str) -> u64 {
    let text = text(dir, file).unwrap_or_default();
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(key, _)| *key == name).and_then(|(_, count)| count.trim().parse().ok()).unwrap_or(0)
}

/// One disk's share in `io.max`, a line for each disk that has a limit:
/// `8:0 rbps=1048576 wbps=max riops=max wiops=max`.
fn share(io_max: &str, disk: &str) -> Option<DiskShare> {
    let line = io_max.lines().find_map(|line| line.strip_prefix(disk)?.strip_prefix(' ')).unwrap_or(OPEN);
    let part = |name: &str| line.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(number);
    Some(DiskShare {
        read_bytes: part("rbps")?,
        write_bytes: part("wbps")?,
        reads: part("riops")?,
        writes: part("wiops")?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HYBRID: &str =
        "9:name=systemd:/\n8:pids:/docker/c1\n4:memory:/docker/c1\n2:cpuacct:/x\n1:cpu:/docker/c1\n0::/\n";

    fn write(dir: &Path, files: &[(&str, &str)]) {
        files.iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
    }

    #[test]
    fn a_hybrid_machine_has_its_controllers_in_v1() {
        let root = Path::new("/cg");
        let expected = Places::V1 {
            memory: "/cg/memory/docker/c1".into(),
            cpu: "/cg/cpu/docker/c1".into(),
            pids: "/cg/pids/docker/c1".into(),
        };
        assert_eq!(Places::of(HYBRID, root), Some(expected));
        let slice = "0::/launchpad.slice/docker-c1.scope\n";
        assert_eq!(Places::of(slice, root), Some(Places::V2("/cg/launchpad.slice/docker-c1.scope".into())));
        assert_eq!(Places::of("", root), None);
    }

    #[test]
    fn a_v1_group_shows_memory_swap_cpu_and_pids_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let here = || dir.path().to_owned();
        write(
            dir.path(),
            &[
                ("memory.limit_in_bytes", "1073741824\n"),
                ("memory.memsw.limit_in_bytes", "1073741824\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                ("cpu.cfs_quota_us", "50000\n"),
                ("cpu.cfs_period_us", "100000\n"),
                ("pids.max", "256\n"),
            ],
        );
        let group = Places::V1 { memory: here(), cpu: here(), pids: here() };
        let seen = group.read();
        let expected = GroupView {
            memory_bytes: Ceiling::At(1 << 30),
            memory_high_bytes: Ceiling::Unseen,
            swap_bytes: Ceiling::At(0),
            cpu_millis: Ceiling::At(500),
            pids: Ceiling::At(256),
            oom_kills: 3,
            pressure: None,
        };
        assert_eq!(seen, expected);
        write(
            dir.path(),
            &[
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
                ("cpu.cfs_quota_us", "-1\n"),
                ("pids.max", "max\n"),
            ],
        );
        let open = group.read();
        assert_eq!([open.memory_bytes, open.swap_bytes, open.cpu_millis, open.pids], [Ceiling::Open; 4]);
        fs::remove_file(dir.path().join("memory.memsw.limit_in_bytes")).unwrap();
        assert_eq!(group.read().swap_bytes, Ceiling::Unseen, "a kernel that does not count swap");
        assert_eq!(group.read().limits(), None);
    }

    #[test]
    fn a_v2_group_shows_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let line = |full: &str| {
            format!(
                "some avg10=0.00 avg60=1.00 avg300=0.00 total=9\nfull avg10=0.00 avg60={full} avg300=0.00 total=9\n"
            )
        };
        write(
            dir.path(),
            &[
                ("memory.max", "1073741824\n"),
                ("memory.high", "966367641\n"),
                ("memory.swap.max", "0\n"),
                ("memory.events", "low 0\nhigh 7\nmax 2\noom 1\noom_kill 4\noom_group_kill 0\n"),
                ("memory.pressure", &line("11.50")),
                ("cpu.max", "50000 100000\n"),
                ("cpu.pressure", &line("0.00")),
                ("io.pressure", &line("2.00")),
                ("pids.max", "256\n"),
            ],
        );
        let seen = Places::V2(dir.path().to_owned()).read();
        assert_eq!(
            (seen.memory_high_bytes, seen.swap_bytes, seen.oom_kills),
            (Ceiling::At(966_367_641), Ceiling::At(0), 4)
        );
        let pressure = seen.pressure.unwrap();
        assert_eq!((pressure.memory_full, pressure.cpu_some, pressure.io_full), (1150, 100, 200));
        let limits = seen.limits().unwrap();
        assert_eq!((limits.cpu_millis, limits.memory_bytes, limits.pids), (500, 1 << 30, 256));
        write(dir.path(), &[("cpu.max", "max 100000\n"), ("memory.max", "max\n")]);
        let open = Places::V2(dir.path().to_owned()).read();
        assert_eq!((open.cpu_millis, open.memory_bytes), (Ceiling::Open, Ceiling::Open));
    }

    #[test]
    fn odd_figures_are_limits_not_seen() {
        for odd in ["", "max", "100000", "a b", "1 0", "50000 100000 3"] {
            assert_eq!(cpu_max(odd), Ceiling::Unseen, "`{odd}`");
        }
        assert_eq!(number("a lot"), Ceiling::Unseen);
        assert_eq!(share("8:0 rbps=1", "8:0"), None);
    }

    #[test]
    fn a_tenants_group_on_v2_shows_its_weight_and_its_share_of_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let below = Path::new("launchpad/acct_1");
        write(root.path(), &[("cgroup.controllers", "cpu io memory pids\n")]);
        assert_eq!(tenant(root.path(), below, Some("8:0")), None, "there is none yet");
        let dir = root.path().join(below);
        fs::create_dir_all(&dir).unwrap();
        write(
            &dir,
            &[("cpu.weight", "50\n"), ("memory.high", "max\n"), ("memory.swap.max", "0\n"), ("pids.max", "512\n")],
        );
        write(
            &dir,
            &[("io.max", "8:0 rbps=1048576 wbps=max riops=max wiops=120\n254:0 rbps=1 wbps=2 riops=3 wiops=4\n")],
        );
        let seen = |disk| tenant(root.path(), below, disk).unwrap();
        assert_eq!((seen(None).cpu_weight, seen(None).memory_high_bytes), (Ceiling::At(50), Ceiling::Open));
        let shown = |disk| seen(Some(disk)).disk.unwrap().to_string();
        assert_eq!(shown("8:0"), "rbps=1048576 wbps=max riops=max wiops=120");
        assert_eq!(shown("254:0"), "rbps=1 wbps=2 riops=3 wiops=4");
        assert_eq!(shown("8:1"), OPEN, "a disk that nobody limits");
        assert_eq!(seen(None).disk, None);
        fs::remove_file(dir.join("io.max")).unwrap();
        assert_eq!(seen(Some("8:0")).disk, None, "a kernel that does not limit disks");
    }

    #[test]
    fn a_tenants_group_on_v1_has_a_weight_and_a_number_of_processes() {
        let root = tempfile::tempdir().unwrap();
        let below = Path::new("launchpad/acct_1");
        assert_eq!(tenant(root.path(), below, Some("8:0")), None);
        for controller in ["cpu", "pids"] {
            fs::create_dir_all(root.path().join(controller).join(below)).unwrap();
        }
        write(&root.path().join("cpu").join(below), &[("cpu.shares", "512\n")]);
        write(&root.path().join("pids").join(below), &[("pids.max", "64\n")]);
        let expected = TenantGroup { cpu_weight: Ceiling::At(50), pids: Ceiling::At(64), ..TenantGroup::default() };
        assert_eq!(tenant(root.path(), below, Some("8:0")), Some(expected));
    }

    #[test]
    fn every_weight_survives_its_way_through_v1s_shares() {
        assert!((1..=10_000).all(|weight| weight_of(shares_of(weight)) == weight));
    }
}
