//! Whether each promise of a spec holds, judged from what was observed. Pure.
//!
//! `reconcile` calls [`judge`] for every instance whenever it looks; the plan reads what would mend it, the report what
//! was found. Nothing is read or mended here, and nothing that was asked of the engine counts as proof, where the kernel
//! can be asked instead.
//!
//! ```text
//! InstanceSpec ─┐
//! KernelView ───┤                      ┌─ enforced
//! gate, volume ─┼─► judge ─► Finding ──┼─ degraded: this host cannot; the reason is the one that `doctor` gives
//! capabilities ─┘                      └─ failed: it should hold, and does not ─► Mend
//! ```

mod around;
mod group;
mod mounts;
mod process;
pub mod shape;

use std::collections::BTreeMap;

use launchpad_protocol::enforcement::{Enforcement, Item};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capability;
use launchpad_protocol::spec::{HostSpec, InstanceSpec, Resources};

use crate::observe::kernel::{Ceiling, GroupView, KernelView};
use crate::observe::{Container, Observed};
use shape::TenantShape;

/// What is seen of the volume of a bot that keeps nothing.
const NO_VOLUME: &str = "none asked for";

/// The kernel counts memory in pages, and rounds what it is told to whole ones; the largest that we know has 64 KiB.
const PAGE_MAX_BYTES: u64 = 64 * 1024;

/// How one promise stands, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub enforcement: Enforcement,
    /// What would mend it, where it does not hold.
    pub mend: Mend,
}

/// What would make a promise hold again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mend {
    /// It holds, or nothing that the agent does to a container that is there would: its reason says who can.
    Nothing,
    /// Setting the container's limits again.
    Limits,
    /// Setting those of its tenant's group again.
    Tenant,
    /// Putting right what stands around it: network, gate, volume, files.
    Around,
    /// A new start: the kernel fixes it when a process begins.
    Start,
}

impl Finding {
    fn holds(seen: impl Into<String>) -> Self {
        Self { enforcement: Enforcement::enforced(seen), mend: Mend::Nothing }
    }

    fn lacks(seen: impl Into<String>, reason: Reason) -> Self {
        Self { enforcement: Enforcement::degraded(seen, reason), mend: Mend::Nothing }
    }

    fn broken(seen: impl Into<String>, reason: Reason, mend: Mend) -> Self {
        Self { enforcement: Enforcement::failed(seen, reason), mend }
    }

    /// It does not hold, and the engine fixes it when it makes a container: limits and new starts leave it as it is. The
    /// agent asks for the right thing, so this is no container of its making, and not its to remove.
    fn made_otherwise(item: Item, seen: String, asked: &str) -> Self {
        let reason = differs(item, &seen, asked).mend(
            "remove its container on its host, `docker rm --force ID`: the agent makes it anew, as the spec says",
        );
        Self::broken(seen, reason, Mend::Nothing)
    }

    /// It holds if what was seen is right; if not, what was asked for stands in the reason.
    fn compare(item: Item, is_right: bool, seen: String, asked: impl Into<String>, mend: Mend) -> Self {
        if is_right {
            return Self::holds(seen);
        }
        let reason = differs(item, &seen, &asked.into());
        Self::broken(seen, reason, mend)
    }
}

/// Something differs from the spec.
fn differs(item: Item, seen: &str, asked: &str) -> Reason {
    Reason::new(&format!("{item}-differs"), format!("its {item} is not as its spec says"))
        .because(format!("asked for {asked}, found {seen}"))
        .mend("the agent mends it by itself; if that lasts, somebody else on the host sets it: find out who")
}

/// The host on which an instance is judged.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// What should be on it: a tenant's group serves all of its instances.
    pub desired: &'a HostSpec,
    /// What is.
    pub observed: &'a Observed,
    /// What it can enforce, and why not.
    pub capabilities: &'a BTreeMap<String, Capability>,
}

impl<'a> Host<'a> {
    /// Why the host cannot do that; none: it can.
    fn absent(&self, capability: &str) -> Option<&'a Reason> {
        match self.capabilities.get(capability)? {
            Capability::Absent { reason } => Some(reason),
            Capability::Present => None,
        }
    }
}

/// One running container, and all that it is judged by.
struct Case<'a> {
    spec: &'a InstanceSpec,
    container: &'a Container,
    kernel: &'a KernelView,
    host: Host<'a>,
    shape: TenantShape,
}

/// How every promise of a spec stands that can be judged now: all of them, once its container runs and the kernel has
/// shown it whole. A container that was made for another spec is not judged by this one.
#[must_use]
pub fn judge(spec: &InstanceSpec, container: Option<&Container>, host: Host<'_>) -> BTreeMap<Item, Finding> {
    let mut found = BTreeMap::from([(Item::ProcessEnvironment, around::environment(spec))]);
    let current = container
        .filter(|container| container.running_since().is_some() && container.recreate_hash == spec.recreate_hash);
    if let Some(container) = current
        && let Some(kernel) = &container.kernel
    {
        let shape = TenantShape::of(host.desired, spec.account);
        let case = Case { spec, container, kernel, host, shape };
        found.extend(Item::ALL.iter().map(|item| (*item, case.judge(*item))));
    }
    found
}

/// Whether a control group has the limits that the engine sets.
#[must_use]
pub fn limits_hold(group: &GroupView, resources: &Resources) -> bool {
    group::is_bytes(group.memory_bytes, resources.memory_bytes)
        && group.cpu_millis == Ceiling::At(resources.cpu_millis.into())
        && group.pids == Ceiling::At(resources.pids.into())
        && matches!(group.swap_bytes, Ceiling::At(0) | Ceiling::Unseen)
}

/// The same, as it is reported.
#[must_use]
pub fn told(findings: &BTreeMap<Item, Finding>) -> BTreeMap<Item, Enforcement> {
    findings.iter().map(|(item, finding)| (*item, finding.enforcement.clone())).collect()
}

impl Case<'_> {
    fn judge(&self, item: Item) -> Finding {
        match item {
            Item::User => self.user(),
            Item::UserNamespace => self.user_namespace(),
            Item::Capabilities => self.capabilities(),
            Item::NoNewPrivileges => self.no_new_privileges(),
            Item::Seccomp => self.seccomp(),
            Item::Apparmor => self.apparmor(),
            Item::OpenFiles => self.open_files(),
            Item::RootFilesystem => self.root_filesystem(),
            Item::SharedMemory => self.shared_memory(),
            Item::Tmpfs => self.tmpfs(),
            Item::VolumeMount => self.volume_mount(),
            Item::Files => self.files(),
            Item::Memory => self.memory(),
            Item::MemoryHigh => self.memory_high(),
            Item::Swap => self.swap(),
            Item::Cpu => self.cpu(),
            Item::CpuWeight => self.cpu_weight(),
            Item::Io => self.io(),
            Item::Pids => self.pids(),
            Item::Log => self.log(),
            Item::VolumeQuota => self.volume_quota(),
            Item::ProcessEnvironment => around::environment(self.spec),
            Item::Network => self.network(),
            Item::Egress => self.egress(),
            Item::Ingress => self.ingress(),
        }
    }

    /// Whether it has a namespace of that kind for itself.
    fn is_apart(&self, kind: &str) -> bool {
        !self.kernel.process.shared_namespaces.contains(kind)
    }

    /// A namespace that it should have for itself and does not; none: it has.
    fn shares(&self, item: Item, kind: &str) -> Option<Finding> {
        let seen = format!("the host's {kind} namespace");
        (!self.is_apart(kind)).then(|| Finding::compare(item, false, seen, "one of its own", Mend::Start))
    }
}
