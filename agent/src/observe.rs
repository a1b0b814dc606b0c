//! What is on the host, read from the engine and the kernel: the plan's second argument.
//!
//! Only what carries this host's labels is ours; everything else on the machine is not even looked at. Nothing is
//! decided here. The types are what an observation holds; the reading is done by [`crate::execute::Eyes`], so that a
//! fake world can be observed just as well.

pub mod kernel;

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::Epoch;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Denials, GateReport, KernelLimits};
use launchpad_protocol::spec::{EgressPolicy, Ingress, Resources, SealedFile};
use launchpad_protocol::time::Moment;

use kernel::{KernelView, TenantGroup};

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
    /// Instances whose files are unsealed, with the digest of the set ([`files_digest`]).
    pub files: BTreeMap<DeploymentId, Digest>,
    /// The control groups above tenants' containers, where there are any.
    pub tenants: BTreeMap<AccountId, TenantGroup>,
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
    /// Bytes of its log that the engine keeps; none: without a bound.
    pub log_bytes: Option<u64>,
    /// The seccomp profile that the engine was given; none: its own.
    pub seccomp: Option<Digest>,
    /// Its first process, by the host's number, while it runs.
    pub process_id: Option<i64>,
    /// What the kernel shows of it, while it runs.
    pub kernel: Option<Box<KernelView>>,
    /// Its address on the tenant's network.
    pub address: Option<std::net::Ipv4Addr>,
    /// The digest of its image.
    pub image: Option<Digest>,
}

/// A volume's size is a whole number of these, and so up to one larger than asked: one group of blocks of an ext4, which
/// would leave a smaller rest unused and then never be as large as was asked.
pub const VOLUME_GRAIN_BYTES: u64 = 128 << 20;

/// A volume as its filesystem and the mount table show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSight {
    /// What keeps its quota.
    pub backend: String,
    /// Bytes that it may hold, as it was made for.
    pub bytes: u64,
    /// Bytes that it holds.
    pub used_bytes: u64,
    /// Bytes that its bot can still write; none where nobody knows.
    pub free_bytes: Option<u64>,
    /// Whether it is mounted where containers find it.
    pub mounted: bool,
    /// Whether it is mounted without devices and setuid.
    pub flags_right: bool,
    /// Whether it can be made larger while its bot runs.
    pub grows_in_use: bool,
    /// Its whole snapshots, by name.
    pub snapshots: BTreeMap<String, SnapshotSight>,
}

impl VolumeSight {
    /// Why it is smaller than was asked, where only a stop of its bot lets it grow; none: it is not, or it grows around
    /// the running bot.
    #[must_use]
    pub fn waits_for_a_stop(&self, asked_bytes: u64) -> Option<Reason> {
        (self.bytes < asked_bytes && !self.grows_in_use).then(grows_stopped)
    }
}

/// What is said of a volume that its bot must stop for.
#[must_use]
pub fn grows_stopped() -> Reason {
    Reason::new("volume-grows-stopped", "the volume can grow only while its bot is stopped").mend(
        "restart the bot, and it is grown before it starts: launchpad restart NAME; an agent with CAP_SYS_RESOURCE grows \
         it under the running bot",
    )
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
    /// What it was told ([`gate_digest`]).
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
    /// Its limits as the kernel has them, while it runs.
    #[must_use]
    pub fn limits(&self) -> Option<KernelLimits> {
        self.kernel.as_ref().and_then(|kernel| kernel.group.limits())
    }

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

/// What identifies what a gate was told of an instance: when it differs, the gate is told anew.
#[must_use]
pub fn gate_digest(egress: &EgressPolicy, ingress: &Ingress) -> Digest {
    // Rules, names and a number: none of it can fail to be JSON.
    Digest::of(&serde_json::to_vec(&(egress, ingress)).unwrap_or_default())
}

/// What identifies a set of sealed files: when it differs from what is written, they are written anew.
#[must_use]
pub fn files_digest(files: &[SealedFile]) -> Digest {
    let mut text = Vec::new();
    for file in files {
        for part in [file.dir.as_bytes(), file.name.as_bytes(), &file.ciphertext] {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
    }
    Digest::of(&text)
}
