//! What is on the host, read from the engine and the kernel: the plan's second argument.
//!
//! Only what carries this host's labels is ours; everything else on the machine is not even looked at. Nothing is
//! decided here. The types are what an observation holds; the reading is done by [`crate::execute::Eyes`], so that a
//! fake world can be observed just as well.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::Epoch;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Denials, GateReport, KernelLimits};
use launchpad_protocol::spec::Resources;
use launchpad_protocol::time::Moment;

/// Label that proves a container or network to be this host's: its value is the host's id.
pub const LABEL_HOST: &str = "launchpad.host";
/// Label with the deployment's id.
pub const LABEL_DEPLOYMENT: &str = "launchpad.deployment";
/// Label with the account's id.
pub const LABEL_ACCOUNT: &str = "launchpad.account";
/// Label with the revision under which the container was made.
pub const LABEL_REVISION: &str = "launchpad.revision";
/// Label with the epoch under which the container was made.
pub const LABEL_EPOCH: &str = "launchpad.epoch";
/// Label with the recreate hash that the container was made for.
pub const LABEL_RECREATE_HASH: &str = "launchpad.recreate-hash";

/// Everything of ours on the host, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Containers with our label, by the engine's id.
    pub containers: BTreeMap<String, Container>,
    /// Tenants whose network, bridge and address translation are all in place.
    pub networks: BTreeSet<AccountId>,
    /// Images, among those asked about, that the engine holds.
    pub images: BTreeSet<ImageRef>,
    /// Instances that have a volume, and how it stands.
    pub volumes: BTreeMap<DeploymentId, VolumeSight>,
    /// Instances that the gate knows, and how their rules stand.
    pub gates: BTreeMap<DeploymentId, GateSight>,
    /// What tenants' bots were kept from.
    pub denials: BTreeMap<AccountId, Denials>,
    /// The gate's own story; none: it does not answer.
    pub gate: Option<GateReport>,
    /// Instances whose files are unsealed, with the digest of the set ([`crate::plan::action::files_digest`]).
    pub files: BTreeMap<DeploymentId, Digest>,
}

/// One container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// From its labels.
    pub deployment: DeploymentId,
    /// From its labels.
    pub account: AccountId,
    /// From its labels.
    pub epoch: Epoch,
    /// From its labels.
    pub recreate_hash: Digest,
    /// Whether it runs.
    pub state: ContainerState,
    /// Its limits as the engine has them.
    pub resources: Resources,
    /// Its limits as the kernel has them, while it runs.
    pub limits: Option<KernelLimits>,
    /// What the kernel shows of its process, while it runs.
    pub kernel: Option<Box<KernelView>>,
    /// Its address on the tenant's network.
    pub address: Option<std::net::Ipv4Addr>,
    /// The digest of its image.
    pub image: Option<Digest>,
}

/// A volume as its filesystem and the mount table show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSight {
    /// What keeps its quota.
    pub backend: String,
    /// Bytes that it may hold, as it was made for.
    pub bytes: u64,
    /// Bytes that it holds.
    pub used_bytes: u64,
    /// Whether it is mounted where containers find it.
    pub mounted: bool,
    /// Whether it is mounted without devices and setuid.
    pub flags_right: bool,
    /// Its whole snapshots, by name.
    pub snapshots: BTreeMap<String, SnapshotSight>,
}

/// One snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSight {
    /// Bytes that it takes on the host.
    pub bytes: u64,
    /// When it was taken.
    pub taken_at: Moment,
    /// SHA-256 of its content.
    pub digest: Digest,
}

/// What the gate says of one instance, from the kernel and from Caddy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSight {
    /// What it was told ([`crate::plan::action::gate_digest`]).
    pub told: Digest,
    /// What is wrong with the way out; none: it is what it was told.
    pub egress_fault: Option<Reason>,
    /// What is wrong with the way in.
    pub ingress_fault: Option<Reason>,
    /// What was read back, for people: `12 rules, 7 addresses`.
    pub egress_seen: String,
    /// Likewise.
    pub ingress_seen: String,
}

/// What the kernel shows of one running container: facts, without a judgement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Processes in its cgroup that were killed for its memory.
    pub oom_kills: u64,
}

/// Whether a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running {
        /// Since when.
        started_at: Moment,
    },
    /// Its process has ended.
    Exited(Exit),
}

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When it had been started.
    pub started_at: Moment,
    /// When it ended, as far as the engine knows.
    pub at: Moment,
    /// The exit code; 128 and a signal's number where one ended it.
    pub code: i32,
    /// Whether the kernel killed it for its memory.
    pub out_of_memory: bool,
    /// The last of its output, where the exit was not clean
    /// (at most [`launchpad_protocol::spec::OUTPUT_TAIL_BYTES`]).
    pub output_tail: String,
}

impl Container {
    /// When its process started last, whether it runs or has ended.
    #[must_use]
    pub const fn last_start(&self) -> Option<Moment> {
        match &self.state {
            ContainerState::Running { started_at } => Some(*started_at),
            ContainerState::Exited(exit) => Some(exit.started_at),
            ContainerState::Created => None,
        }
    }

    /// When the running process started.
    #[must_use]
    pub const fn running_since(&self) -> Option<Moment> {
        match &self.state {
            ContainerState::Running { started_at } => Some(*started_at),
            ContainerState::Created | ContainerState::Exited(_) => None,
        }
    }
}
