//! What the kernel shows of one running container, and of the group that its tenant's containers lie in: facts, without
//! a judgement. [`crate::execute::kernel`] reads them, [`crate::enforce`] judges them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use launchpad_protocol::report::KernelLimits;

/// The most bytes of a core dump that a bot may leave: none would do, and one means it. A kernel that hands dumps to a
/// program, as systemd and Ubuntu have it, hands them over whatever the limit is, zero as well, but for this one
/// (core(5), `fs/coredump.c`: `RLIMIT_CORE set to 1`); and a file of one byte it does not begin. So memory, and the secrets
/// in it, comes to rest on no disk of the host's, unless a bot lowers its own limit to let it.
pub const CORE_BYTES_MAX: u32 = 1;

/// What the kernel shows of one running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Its first process, which all others descend from.
    pub process: ProcessView,
    /// What is mounted where it looks, by mount point; of several on one point, the topmost.
    pub mounts: BTreeMap<String, MountView>,
    /// Its control group.
    pub group: GroupView,
}

/// One process, as `/proc` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessView {
    /// Its user ids on the host: real, effective, saved, of files. One, unless something is odd.
    pub users: BTreeSet<u32>,
    /// Its group ids on the host, likewise.
    pub groups: BTreeSet<u32>,
    /// Further groups that it is in, on the host.
    pub more_groups: BTreeSet<u32>,
    /// How user ids inside become those of the host.
    pub user_map: IdMap,
    /// How group ids do.
    pub group_map: IdMap,
    /// Its capabilities, by the kernel's bits.
    pub capabilities: Capabilities,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// 0: none, 1: strict, 2: filter.
    pub seccomp_mode: u32,
    /// How many filters it carries.
    pub seccomp_filters: u32,
    /// What the kernel's security module confines it by: `docker-default (enforce)`; none: there is no such module.
    pub confinement: Option<String>,
    /// Files that it may open: the hard limit.
    pub open_files: Ceiling,
    /// Bytes of a core dump: the hard limit.
    pub core_bytes: Ceiling,
    /// Kinds of namespace that it shares with the agent, and so with the host: `net`, `pid`.
    pub shared_namespaces: BTreeSet<String>,
}

/// The five sets of capabilities, a bit for each capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What a program that it executes may inherit.
    pub inheritable: u64,
    /// What it may take up.
    pub permitted: u64,
    /// What it has.
    pub effective: u64,
    /// What it could ever have.
    pub bounding: u64,
    /// What a program that it executes has.
    pub ambient: u64,
}

/// How ids inside a namespace become ids outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Ranges, as the kernel lists them.
    pub ranges: Vec<IdRange>,
}

/// Some ids in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first, inside.
    pub inside: u32,
    /// The same one, outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl Capabilities {
    /// The bits of capabilities by their names, with or without `CAP_`, in any case; a name of none has no bit.
    #[must_use]
    pub fn bits<'a>(names: impl IntoIterator<Item = &'a String>) -> u64 {
        let bit = |name: &String| {
            let name = name.to_ascii_lowercase();
            let name = name.strip_prefix("cap_").unwrap_or(&name).to_owned();
            CAPABILITIES.split_ascii_whitespace().position(|known| known == name).map_or(0, |bit| 1_u64 << bit)
        };
        names.into_iter().map(bit).fold(0, |all, bit| all | bit)
    }
}

/// The kernel's capabilities in the order of their bits (linux/capability.h).
const CAPABILITIES: &str = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable \
    net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace \
    sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control \
    setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore";

impl IdMap {
    /// Whether ids inside are those outside.
    #[must_use]
    pub fn is_the_hosts(&self) -> bool {
        self.ranges.iter().any(|range| range.inside == range.outside && range.count > 0)
    }

    /// Which id inside that id outside is; none: it is nobody's inside.
    #[must_use]
    pub fn inside(&self, outside: u32) -> Option<u32> {
        let within = |range: &IdRange| {
            let offset = outside.checked_sub(range.outside).filter(|offset| *offset < range.count)?;
            range.inside.checked_add(offset)
        };
        self.ranges.iter().find_map(within)
    }
}

/// As the kernel writes it: `0 200000 65536`.
impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, IdRange { inside, outside, count }) in self.ranges.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{inside} {outside} {count}")?;
        }
        Ok(())
    }
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountView {
    /// Its filesystem: `tmpfs`, `ext4`.
    pub filesystem: String,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// Programs do not gain their owner's rights.
    pub nosuid: bool,
    /// Device files are no devices.
    pub nodev: bool,
    /// Programs cannot be run.
    pub noexec: bool,
    /// Bytes that it can hold, where the filesystem says so (tmpfs).
    pub bytes: Option<u64>,
}

/// As in the mount table: `tmpfs rw,nosuid,nodev,noexec,size=16777216`.
impl fmt::Display for MountView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.filesystem, if self.read_only { "ro" } else { "rw" })?;
        let flags = [("nosuid", self.nosuid), ("nodev", self.nodev), ("noexec", self.noexec)];
        flags.iter().filter(|(_, set)| *set).try_for_each(|(name, _)| write!(f, ",{name}"))?;
        self.bytes.map_or(Ok(()), |bytes| write!(f, ",size={bytes}"))
    }
}

/// A limit as the kernel has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ceiling {
    /// This much.
    At(u64),
    /// There is one, and it is open.
    Open,
    /// This kernel has no such limit.
    #[default]
    Unseen,
}

impl Ceiling {
    /// The number, if there is one.
    #[must_use]
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::At(number) => Some(number),
            Self::Open | Self::Unseen => None,
        }
    }
}

/// As cgroup v2 writes it.
impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(number) => write!(f, "{number}"),
            Self::Open => f.write_str("max"),
            Self::Unseen => f.write_str("not there"),
        }
    }
}

/// A container's control group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupView {
    /// Bytes of memory.
    pub memory_bytes: Ceiling,
    /// Bytes of memory from which on it is slowed. Only cgroup v2 has it.
    pub memory_high_bytes: Ceiling,
    /// Bytes of swap.
    pub swap_bytes: Ceiling,
    /// Thousandths of a core.
    pub cpu_millis: Ceiling,
    /// Processes and threads.
    pub pids: Ceiling,
    /// Processes that the kernel killed for its memory.
    pub oom_kills: u64,
    /// How long its processes stood still for want of something. Only cgroup v2 has it.
    pub pressure: Option<Pressure>,
}

impl GroupView {
    /// The limits that a plan grants, where all of them are set.
    #[must_use]
    pub fn limits(&self) -> Option<KernelLimits> {
        let small = |ceiling: Ceiling| u32::try_from(ceiling.number()?).ok();
        Some(KernelLimits {
            cpu_millis: small(self.cpu_millis)?,
            memory_bytes: self.memory_bytes.number()?,
            pids: small(self.pids)?,
        })
    }
}

/// Shares of the last minute in which processes stood still, in hundredths of a percent (`avg60`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// All of them waited for memory.
    pub memory_full: u32,
    /// Some of them waited for a processor.
    pub cpu_some: u32,
    /// All of them waited for a disk.
    pub io_full: u32,
}

/// The control group above a tenant's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantGroup {
    /// Its weight against other tenants, as cgroup v2 counts: from 1 to 10000.
    pub cpu_weight: Ceiling,
    /// Processes and threads of all its bots.
    pub pids: Ceiling,
    /// Bytes of memory from which on all of its bots are slowed. Only cgroup v2 has it.
    pub memory_high_bytes: Ceiling,
    /// Bytes of swap. Only cgroup v2 has it.
    pub swap_bytes: Ceiling,
    /// What it may ask of the disk that volumes lie on; none: cgroup v1, or a disk that the kernel does not limit.
    pub disk: Option<DiskShare>,
}

/// What a tenant may ask of a disk, per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskShare {
    /// Bytes read.
    pub read_bytes: Ceiling,
    /// Bytes written.
    pub write_bytes: Ceiling,
    /// Reads.
    pub reads: Ceiling,
    /// Writes.
    pub writes: Ceiling,
}

/// As cgroup v2 writes it.
impl fmt::Display for DiskShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rbps={} wbps={} riops={} wiops={}", self.read_bytes, self.write_bytes, self.reads, self.writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_bits_of_the_kernel() {
        let bits =
            |names: &[&str]| Capabilities::bits(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(bits(&["CAP_CHOWN", "net_raw"]), 1 | 1 << 13);
        assert_eq!(bits(&["CAP_SYS_ADMIN"]), 1 << 21);
        assert_eq!(bits(&["CAP_CHECKPOINT_RESTORE"]), 1 << 40);
        assert_eq!(bits(&["CAP_FLY"]), 0);
    }

    #[test]
    fn limits_are_told_only_where_all_are_set() {
        let group = GroupView {
            memory_bytes: Ceiling::At(1 << 30),
            cpu_millis: Ceiling::At(500),
            pids: Ceiling::At(64),
            ..GroupView::default()
        };
        assert_eq!(group.limits().map(|limits| limits.pids), Some(64));
        assert_eq!(GroupView { pids: Ceiling::Open, ..group.clone() }.limits(), None);
        assert_eq!(GroupView { memory_bytes: Ceiling::Unseen, ..group }.limits(), None);
    }
}
