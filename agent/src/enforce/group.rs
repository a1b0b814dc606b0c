//! What a bot may use: the limits of its control group, and of its tenant's.

use launchpad_protocol::capability::CGROUP_V2;
use launchpad_protocol::enforcement::Item;
use launchpad_protocol::reason::Reason;

use super::{Case, Finding, Mend, PAGE_MAX_BYTES};
use crate::observe::kernel::{Ceiling, TenantGroup};

/// Whether a limit is that many bytes, rounded down to whole pages.
pub(super) fn is_bytes(found: Ceiling, asked: u64) -> bool {
    found.number().is_some_and(|found| found <= asked && asked - found < PAGE_MAX_BYTES)
}

impl Case<'_> {
    /// What the kernel has of its tenant's group.
    fn tenant(&self) -> Option<&TenantGroup> {
        self.host.observed.tenants.get(&self.spec.account)
    }

    pub(super) fn memory(&self) -> Finding {
        let (found, asked) = (self.kernel.group.memory_bytes, self.spec.resources.memory_bytes);
        Finding::compare(Item::Memory, is_bytes(found, asked), bytes(found), bytes(Ceiling::At(asked)), Mend::Limits)
    }

    /// Its own bound, and that of all its tenant's bots together.
    pub(super) fn memory_high(&self) -> Finding {
        let found = self.kernel.group.memory_high_bytes;
        if let Some(reason) = self.host.absent(CGROUP_V2) {
            return Finding::lacks(bytes(found), reason.clone());
        }
        let asked = self.spec.resources.memory_high_bytes();
        if !is_bytes(found, asked) {
            return Finding::compare(Item::MemoryHigh, false, bytes(found), bytes(Ceiling::At(asked)), Mend::Limits);
        }
        let tenants = self.tenant().map_or(Ceiling::Unseen, |tenant| tenant.memory_high_bytes);
        let asked = self.shape.memory_high_bytes;
        let seen = format!("{}, its tenant {}", bytes(found), bytes(tenants));
        let wanted = format!("its tenant {}", bytes(Ceiling::At(asked)));
        Finding::compare(Item::MemoryHigh, is_bytes(tenants, asked), seen, wanted, Mend::Tenant)
    }

    pub(super) fn swap(&self) -> Finding {
        let found = self.kernel.group.swap_bytes;
        match found {
            Ceiling::Unseen => {
                let unknown = || Reason::new("no-swap-limit", "the kernel does not limit its swap");
                let reason = self.host.absent("swap-limit").cloned().unwrap_or_else(unknown);
                Finding::lacks(bytes(found), reason)
            }
            Ceiling::At(_) | Ceiling::Open => {
                Finding::compare(Item::Swap, found == Ceiling::At(0), bytes(found), "0 bytes", Mend::Limits)
            }
        }
    }

    pub(super) fn cpu(&self) -> Finding {
        let (found, asked) = (self.kernel.group.cpu_millis, u64::from(self.spec.resources.cpu_millis));
        let seen = format!("{found} thousandths of a core");
        Finding::compare(Item::Cpu, found == Ceiling::At(asked), seen, asked.to_string(), Mend::Limits)
    }

    pub(super) fn pids(&self) -> Finding {
        if let Some(shared) = self.shares(Item::Pids, "pid") {
            return shared;
        }
        let (found, asked) = (self.kernel.group.pids, u64::from(self.spec.resources.pids));
        let seen = format!("pids.max {found}");
        Finding::compare(Item::Pids, found == Ceiling::At(asked), seen, asked.to_string(), Mend::Limits)
    }

    pub(super) fn cpu_weight(&self) -> Finding {
        let found = self.tenant().map_or(Ceiling::Unseen, |tenant| tenant.cpu_weight);
        let asked = self.shape.cpu_weight;
        let seen = format!("cpu.weight {found}");
        Finding::compare(Item::CpuWeight, found == Ceiling::At(asked), seen, asked.to_string(), Mend::Tenant)
    }

    pub(super) fn io(&self) -> Finding {
        if let Some(reason) = self.host.absent(CGROUP_V2) {
            return Finding::lacks("not there", reason.clone());
        }
        match self.tenant().map(|tenant| tenant.disk) {
            Some(None) => Finding::lacks("no io.max", no_disk_limit()),
            Some(Some(found)) => {
                let asked = self.shape.disk();
                Finding::compare(Item::Io, found == asked, format!("io.max {found}"), asked.to_string(), Mend::Tenant)
            }
            None => {
                Finding::compare(Item::Io, false, "no group".to_owned(), self.shape.disk().to_string(), Mend::Tenant)
            }
        }
    }
}

fn no_disk_limit() -> Reason {
    Reason::new("no-disk-limit", "nothing limits what its tenant asks of the disk")
        .because("the kernel has no io controller, or the data directory lies on no single disk")
        .mend("keep the agent's data directory on a disk or a partition of its own")
}

fn bytes(ceiling: Ceiling) -> String {
    match ceiling {
        Ceiling::At(bytes) => format!("{bytes} bytes"),
        Ceiling::Open => "without a limit".to_owned(),
        Ceiling::Unseen => "not there".to_owned(),
    }
}
