//! What a host is, as its agent saw it: the answer to a [`crate::spec::HostSpec`].
//!
//! A report is complete, never a delta: the newest replaces the one before. Only [`Event`]s are cumulative: the agent
//! repeats them until the coordinator has stored them, and their numbers make repeats harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::enforcement::{Enforcement, Item};
use crate::generation::{Accepted, Epoch, Generation, Revision};
use crate::id::{AccountId, DeploymentId, JournalId, OperationId, TombstoneId};
use crate::reason::Reason;
use crate::time::Moment;

/// Everything that one host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The kernel's boot id: it changes with a reboot.
    pub boot_id: String,
    /// The agent's version.
    pub agent_version: String,
    /// The host's wall clock when this was written.
    pub wall: Moment,
    /// The spec in the ledger.
    pub accepted: Option<Accepted>,
    /// The generation whose every instance is as desired, or has said why not.
    pub applied: Generation,
    /// The host's size.
    pub capacity: Capacity,
    /// What the host can enforce, each with its reason where it cannot.
    pub capabilities: BTreeMap<String, Capability>,
    /// What became of each instance.
    pub instances: BTreeMap<DeploymentId, InstanceReport>,
    /// Containers with our labels that no spec and no tombstone names: left running, and told.
    pub orphans: Vec<Orphan>,
    /// Tombstones carried out.
    pub buried: BTreeSet<TombstoneId>,
    /// Operations carried out or refused.
    pub outcomes: BTreeMap<OperationId, Outcome>,
    /// What is wrong with the host itself.
    pub troubles: Vec<Reason>,
    /// What its tenants' bots were kept from.
    pub denials: BTreeMap<AccountId, Denials>,
    /// The gate; none: it does not answer.
    pub gate: Option<GateReport>,
    /// What happened since the coordinator last confirmed.
    pub events: EventBatch,
}

/// A host's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes of memory that tenants may be given: the host's, less a reserve for itself.
    pub memory_bytes: u64,
    /// Bytes of storage that tenants may be given.
    pub storage_bytes: u64,
}

/// Whether a host can do something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Capability {
    /// It can.
    Present,
    /// It cannot, and why.
    Absent {
        /// Why not, and what would mend it.
        reason: Reason,
    },
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Where it stands.
    pub phase: Phase,
    /// Why, where the phase alone does not say.
    pub reason: Option<Reason>,
    /// The revision that is being, or has been, applied.
    pub revision: Revision,
    /// The epoch under which it was started.
    pub epoch: Epoch,
    /// Its container.
    pub container: Option<ContainerReport>,
    /// Times that it was started again since it was placed here, by anyone.
    pub restarts: u32,
    /// When it last became ready.
    pub ready_at: Option<Moment>,
    /// How each promise of its spec stands in the kernel, while it runs.
    pub enforcement: BTreeMap<Item, Enforcement>,
    /// Its volume; none: there is none yet.
    pub volume: Option<VolumeReport>,
    /// Processes of it that the kernel killed for its memory, in this start.
    pub oom_kills: u64,
}

/// A volume as its filesystem shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// What keeps its quota: `loop-ext4`, `xfs-quota`.
    pub backend: String,
    /// Bytes that it may hold.
    pub bytes: u64,
    /// Bytes that it holds.
    pub used_bytes: u64,
    /// Its whole snapshots, by name.
    pub snapshots: BTreeMap<String, SnapshotReport>,
}

/// One snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Bytes that it takes on the host.
    pub bytes: u64,
    /// When it was taken.
    pub taken_at: Moment,
    /// SHA-256 of its content.
    pub digest: Digest,
}

/// What a tenant's bots were kept from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denials {
    /// Packets denied and names refused since the gate started.
    pub count: u64,
    /// The latest, oldest first; at most [`crate::limits::DENIALS_SAMPLED_MAX`].
    pub samples: Vec<Denial>,
}

/// Something that a bot tried to reach and may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// When it was last tried.
    pub at: Moment,
    /// Which bot; none: its address was not known any more.
    pub deployment: Option<DeploymentId>,
    /// The name that it asked for, or the address that it sent to, with protocol and port: `tcp 203.0.113.5:25`.
    pub target: String,
    /// How often.
    pub count: u64,
}

/// How the walls between bots and the world did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// How often somebody else took our rules away since the gate started.
    pub flushes: u64,
    /// The longest time until they were back. Nothing was routed meanwhile; ports of the host itself were open to bots.
    pub longest_exposure: Duration,
    /// Addresses at which this host takes traffic for its bots' public names, as its owner gave them.
    pub ingress_addresses: BTreeSet<String>,
}

/// One container as the engine and the kernel show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// The engine's id.
    pub id: String,
    /// The image's digest, as the engine has it.
    pub image: Option<Digest>,
    /// When its process started.
    pub started_at: Option<Moment>,
    /// Its address on the tenant's network.
    pub address: Option<String>,
    /// The limits in its cgroup.
    pub limits: Option<KernelLimits>,
}

/// Limits as the kernel has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLimits {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
}

/// The code of the reason for an exit that passes by itself: the bot is tried again, and has not crashed.
pub const EXIT_TRANSIENT: &str = "exit-transient";

/// The code of the reason for which a failover bot waits: it is started again once its lease is renewed.
pub const LEASE_ENDED: &str = "lease-ended";

/// The code of the reason with which a ready bot's volume is full.
pub const VOLUME_FULL: &str = "volume-full";
/// The code of the reason with which a ready bot stands still for want of memory.
pub const MEMORY_PRESSURE: &str = "under-memory-pressure";
/// The code of the reason with which a ready bot has lost processes for want of memory.
pub const MEMORY_KILLS: &str = "processes-killed-for-memory";

/// Whether a reason beside `ready` is about what strains the bot: that begins and ends in its timeline. Any other is about
/// what its host tries to do, and passes.
#[must_use]
pub fn is_strain(reason: &Reason) -> bool {
    [VOLUME_FULL, MEMORY_PRESSURE, MEMORY_KILLS].contains(&reason.code.as_str())
}

/// Why a bot that should run is stopped: somebody stopped it on its host, and that is kept until it is taken back there
/// or the revision changes, which a restart of a failed bot sees to. Both sides say the same.
#[must_use]
pub fn stopped_on_host() -> Reason {
    Reason::new("stopped-on-host", "it was stopped on its host, although it should run")
        .because("somebody with access to the host stopped it: `launchpad-agent stop`")
        .mend("`launchpad restart`, or `launchpad-agent start DEPLOYMENT` on its host")
}

/// Where an instance stands.
///
/// ```text
/// absent → pulling → preparing → starting → ready ⇄ unready → stopping → stopped
///             │          │          └────────┴───► backoff (crash loop) → starting
///             └──────────┴──────────────────────► refused (nothing retries until the revision changes)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing of it is here.
    Absent,
    /// Its image is being fetched.
    Pulling,
    /// Network, volume, files and container are being made.
    Preparing,
    /// Its process runs and has not been ready yet.
    Starting,
    /// It answers.
    Ready,
    /// It answered once, and does not now.
    Unready,
    /// It exited, and waits to be started again.
    Backoff,
    /// It is being stopped.
    Stopping,
    /// It is stopped, as desired.
    Stopped,
    /// It will not be tried again until its revision changes.
    Refused,
}

/// A container of ours that nothing names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The engine's id.
    pub container: String,
    /// From its labels.
    pub deployment: Option<DeploymentId>,
    /// From its labels.
    pub account: Option<AccountId>,
    /// Whether it runs.
    pub running: bool,
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It was carried out.
    Done {
        /// When.
        at: Moment,
    },
    /// It was not, and will not be.
    Refused {
        /// Why.
        reason: Reason,
    },
}

/// Events in order, from one journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBatch {
    /// Which journal: numbers of another one start anew.
    pub journal: JournalId,
    /// Events dropped, oldest first, before the first of these: nobody was there to take them.
    pub dropped: u64,
    /// The events, their numbers rising.
    pub events: Vec<Event>,
}

/// Something that happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one in its journal.
    pub seq: u64,
    /// When, by the host's clock.
    pub at: Moment,
    /// To whom.
    pub deployment: DeploymentId,
    /// Where the instance stood then.
    pub phase: Phase,
    /// Why.
    pub reason: Option<Reason>,
}
