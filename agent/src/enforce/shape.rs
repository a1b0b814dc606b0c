//! What the control group above a tenant's containers should be: the sum of what its bots are granted. Pure.

use std::fmt;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::spec::{HostSpec, InstanceSpec};

use super::group::is_bytes;
use crate::observe::kernel::{Ceiling, DiskShare, TenantGroup};

/// Thousandths of a core that stand for one unit of weight: a tenant with one core weighs 100, the kernel's default.
const MILLIS_PER_WEIGHT: u64 = 10;
/// The kernel's bounds of a weight.
const WEIGHTS: (u64, u64) = (1, 10_000);

/// Bytes a second that one bot may read from the disk: openclaw was seen to read 650 MB in the 20 s of its start.
const READ_BYTES_PER_BOT: u64 = 64 << 20;
/// Bytes a second that one bot may write: a quarter of the 125 MB/s that the usual cloud disk is rented with.
const WRITE_BYTES_PER_BOT: u64 = 32 << 20;
/// Reads a second of one bot: a third of the 3000 operations of such a disk.
const READS_PER_BOT: u64 = 1000;
/// Writes a second of one bot: SQLite syncs a few times for each message.
const WRITES_PER_BOT: u64 = 500;

/// What a tenant's group should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantShape {
    /// Its weight against other tenants, as cgroup v2 counts.
    pub cpu_weight: u64,
    /// Processes and threads of all its bots.
    pub pids: u64,
    /// Bytes of memory from which on all of its bots are slowed.
    pub memory_high_bytes: u64,
    /// Bytes a second read from the disk.
    pub read_bytes: u64,
    /// Bytes a second written.
    pub write_bytes: u64,
    /// Reads a second.
    pub reads: u64,
    /// Writes a second.
    pub writes: u64,
}

impl TenantShape {
    /// What all of a tenant's instances on a host are granted together, whether they should run now or not.
    #[must_use]
    pub fn of(desired: &HostSpec, account: AccountId) -> Self {
        let add = |shape: Self, spec: &InstanceSpec| Self {
            cpu_weight: shape.cpu_weight.saturating_add(spec.resources.cpu_millis.into()),
            pids: shape.pids.saturating_add(spec.resources.pids.into()),
            memory_high_bytes: shape.memory_high_bytes.saturating_add(spec.resources.memory_high_bytes()),
            read_bytes: shape.read_bytes + READ_BYTES_PER_BOT,
            write_bytes: shape.write_bytes + WRITE_BYTES_PER_BOT,
            reads: shape.reads + READS_PER_BOT,
            writes: shape.writes + WRITES_PER_BOT,
        };
        let sum = desired.instances.values().filter(|spec| spec.account == account).fold(Self::default(), add);
        let (least, most) = WEIGHTS;
        Self { cpu_weight: (sum.cpu_weight / MILLIS_PER_WEIGHT).clamp(least, most), ..sum }
    }

    /// Its share of the disk.
    #[must_use]
    pub const fn disk(&self) -> DiskShare {
        DiskShare {
            read_bytes: Ceiling::At(self.read_bytes),
            write_bytes: Ceiling::At(self.write_bytes),
            reads: Ceiling::At(self.reads),
            writes: Ceiling::At(self.writes),
        }
    }

    /// Whether a group is so, in all that its kernel has.
    #[must_use]
    pub fn fits(&self, group: &TenantGroup) -> bool {
        let is = |found: Ceiling, asked: u64| found == Ceiling::Unseen || found == Ceiling::At(asked);
        let high = group.memory_high_bytes;
        is(group.cpu_weight, self.cpu_weight)
            && is(group.pids, self.pids)
            && is(group.swap_bytes, 0)
            && (high == Ceiling::Unseen || is_bytes(high, self.memory_high_bytes))
            && group.disk.is_none_or(|disk| disk == self.disk())
    }
}

/// In a printed plan.
impl fmt::Display for TenantShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight={} pids={} high={}", self.cpu_weight, self.pids, self.memory_high_bytes)
    }
}
