//! The complete desired state of one host.
//!
//! `domain::compile` on the coordinator makes it, [`crate::wire`] encodes it, the agent's ledger keeps those bytes, and
//! `plan` on the agent compares it with what is. It is never a delta, and it never deletes by leaving out: an
//! instance goes away only when a [`Tombstone`] names it.
//!
//! ```text
//! HostSpec ── instances ─► InstanceSpec ─► Resources, Isolation, Volume, Egress, Ingress, SealedFile, Probes, Restart
//!          └─ tombstones ► Tombstone      └ operations ► Operation (restart, snapshot, … : once each)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::egress::EgressRule;
use crate::feature::Feature;
use crate::generation::{Accepted, Epoch, Generation, Revision};
use crate::id::{AccountId, DeploymentId, HostId, IncarnationId, OperationId, TombstoneId};
use crate::image::ImageRef;
use crate::version::Version;

/// A spec as it travels and is ledgered: opaque bytes, so that re-encoding by another version changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecOffer {
    /// The generation in the bytes.
    pub generation: Generation,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// A protobuf-encoded [`HostSpec`].
    pub bytes: Vec<u8>,
}

impl SpecOffer {
    /// What identifies it.
    #[must_use]
    pub const fn accepted(&self) -> Accepted {
        Accepted { generation: self.generation, digest: self.digest }
    }
}

/// Everything that one host should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Whose spec this is: an agent refuses another host's.
    pub host: HostId,
    /// The store's life that made it.
    pub incarnation: IncarnationId,
    /// Rises with every change.
    pub generation: Generation,
    /// By deployment, each once.
    pub instances: BTreeMap<DeploymentId, InstanceSpec>,
    /// What is to be removed, until acknowledged.
    pub tombstones: BTreeMap<TombstoneId, Tombstone>,
    /// The version that the agent itself should be of; none: as it is.
    pub upgrade: Option<AgentUpgrade>,
}

/// The agent should be of another version. It is of no instance: no bot is touched for it, and no revision rises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUpgrade {
    /// Tried once under this id, and answered among the report's outcomes.
    pub operation: OperationId,
    /// The version.
    pub version: Version,
}

/// Everything that one bot should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Whose it is: the tenant.
    pub account: AccountId,
    /// What its owner calls it; a label for people.
    pub name: String,
    /// Rises with every wish for this deployment.
    pub revision: Revision,
    /// The lease under which it may be started here.
    pub epoch: Epoch,
    /// What happens when this host falls silent.
    pub lease: Lease,
    /// Whether it should run.
    pub power: Power,
    /// The profile's name; a label for people.
    pub profile: String,
    /// The image, by digest.
    pub image: ImageRef,
    /// What runs in it.
    pub process: ProcessSpec,
    /// What it may use.
    pub resources: Resources,
    /// What confines it.
    pub isolation: Isolation,
    /// Its state; none: it keeps nothing, and may start anywhere.
    pub volume: Option<Volume>,
    /// What it may reach.
    pub egress: EgressPolicy,
    /// What may reach it.
    pub ingress: Ingress,
    /// Config and secrets, sealed to the host.
    pub files: Vec<SealedFile>,
    /// Variables that take a secret: variable → the name of a secret among `files`. A profile lists these only where
    /// the workload takes it no other way.
    pub secret_environment: BTreeMap<String, String>,
    /// How to ask it whether it is well.
    pub probes: ProbeSet,
    /// What its exits mean.
    pub restart: RestartPolicy,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Duration,
    /// Without all of these the agent refuses the instance.
    pub requires: BTreeSet<Feature>,
    /// Digest of all that needs a new container when it changes. Pinned by the revision; the agent compares it and
    /// never computes it.
    pub recreate_hash: Digest,
    /// What must happen once, until answered.
    pub operations: Vec<Operation>,
}

/// What happens to an instance when its host falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "policy")]
pub enum Lease {
    /// It runs on; nobody starts it elsewhere.
    Keep,
    /// It stops itself when the lease has not been renewed for that long, on the boot clock.
    Failover {
        /// How long one renewal lasts.
        term: Duration,
    },
}

/// Whether an instance should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// It should.
    On,
    /// It should be stopped, its container and data kept.
    Off,
}

/// The process inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// User id in the container; never 0.
    pub uid: u32,
    /// Group id in the container; never 0.
    pub gid: u32,
    /// The command; empty: the image's own.
    pub command: Vec<String>,
    /// Plain environment; nothing secret.
    pub environment: BTreeMap<String, String>,
}

/// What an instance may use. All of it is changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes of memory; swap is not granted on top.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
}

impl Resources {
    /// Bytes of memory from which on the kernel slows it and takes back what it can, where it has such a bound: nine
    /// tenths, so that a bot that leaks is slow and seen before it is killed.
    #[must_use]
    pub const fn memory_high_bytes(&self) -> u64 {
        self.memory_bytes / 10 * 9
    }
}

/// Files over which Docker rotates one container's log: with fewer than two a rotation would empty it.
pub const LOG_FILES: u32 = 4;

/// What confines an instance. None of it can change under a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The root filesystem is read-only.
    pub read_only_root: bool,
    /// `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// Capabilities kept; all others are dropped.
    pub capabilities: BTreeSet<String>,
    /// The seccomp profile.
    pub seccomp: Seccomp,
    /// The AppArmor profile, where the kernel has AppArmor.
    pub apparmor: Option<String>,
    /// Writable tmpfs mounts.
    pub tmpfs: Vec<Tmpfs>,
    /// Open files per process.
    pub open_files: u32,
    /// Bytes of `/dev/shm`; they count against the container's memory.
    pub shm_bytes: u64,
    /// Bytes of the container's log kept by Docker, over [`LOG_FILES`] files.
    pub log_bytes: u64,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Docker's default profile.
    EngineDefault,
    /// A profile of ours, as the JSON that Docker takes.
    Profile(String),
}

/// A writable tmpfs mount: always nosuid and nodev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Mount point in the container.
    pub path: String,
    /// Size; it counts against the container's memory.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether programs may be run from it.
    pub exec: bool,
}

/// An instance's state on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Mount point in the container.
    pub path: String,
    /// What the plan grants.
    pub bytes: u64,
}

/// What an instance may reach; anything else is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressPolicy {
    /// Each rule once; a union.
    pub rules: BTreeSet<EgressRule>,
}

/// What may reach an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// The port on which the instance serves and is probed.
    pub port: u16,
    /// Public host names that lead to it.
    pub hostnames: BTreeSet<String>,
}

/// A config or a secret, sealed to the host's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFile {
    /// The file's name in `dir`.
    pub name: String,
    /// The directory in the container, mounted read-only and whole.
    pub dir: String,
    /// What it is.
    pub kind: FileKind,
    /// Which version; part of what the seal binds.
    pub version: Revision,
    /// HPKE ciphertext (`launchpad-pki`, `sealing.rs`).
    #[serde(with = "hex::serde")]
    pub ciphertext: Vec<u8>,
}

/// What a sealed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// The bot's config.
    Config,
    /// A secret.
    Secret,
}

/// The three probes of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSet {
    /// Asked from the start until it first succeeds; the others wait for it.
    pub startup: HttpProbe,
    /// Decides whether the instance is ready.
    pub readiness: HttpProbe,
    /// Decides whether it must be restarted.
    pub liveness: HttpProbe,
}

/// One HTTP GET that must answer 200 in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Path of the GET, on the ingress port.
    pub path: String,
    /// Between asks.
    pub period: Duration,
    /// To a full answer.
    pub timeout: Duration,
    /// Failures in a row until the verdict turns.
    pub failures: u32,
    /// A text that the body must contain.
    pub body_contains: Option<String>,
}

/// What exits mean, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Exit codes that no restart mends.
    pub terminal: BTreeSet<i32>,
    /// Exits that pass by themselves and are no crash.
    pub transient: Vec<Transient>,
    /// Before the first restart; doubled each time.
    pub backoff_initial: Duration,
    /// Never exceeded.
    pub backoff_cap: Duration,
    /// Time of readiness after which earlier crashes are forgotten.
    pub forgiven_after: Duration,
}

/// An exit that passes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transient {
    /// The exit code.
    pub code: i32,
    /// If given, a text that must stand in the last [`OUTPUT_TAIL_BYTES`] of output.
    pub output_contains: Option<String>,
    /// For how long it is believed, from the first such exit.
    pub believed_for: Duration,
    /// Between retries.
    pub retry: Duration,
}

/// How much of the last output a transient exit's pattern is looked for in.
pub const OUTPUT_TAIL_BYTES: usize = 4096;

/// Something that must happen once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Answered by an outcome of the same id.
    pub id: OperationId,
    /// What.
    pub action: OperationAction,
}

/// What must happen once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum OperationAction {
    /// Stop it with its grace and start it again.
    Restart,
    /// Copy its volume under that name, while stopped.
    Snapshot {
        /// The snapshot's name on this host.
        name: String,
    },
    /// Put that copy in its volume's place, while stopped.
    Restore {
        /// The snapshot's name on this host.
        name: String,
    },
    /// Delete that copy.
    DropSnapshot {
        /// The snapshot's name on this host.
        name: String,
    },
    /// Forget that somebody on the host stopped it by hand.
    ClearLocalStop,
}

/// An order to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Answered in the report by this id.
    pub id: TombstoneId,
    /// Whose remains.
    pub deployment: DeploymentId,
    /// The tenant; what is removed must carry its label.
    pub account: AccountId,
    /// How much.
    pub scope: TombstoneScope,
    /// How long the bot may take to stop.
    pub stop_grace: Duration,
}

/// How much a tombstone removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TombstoneScope {
    /// The container and what is sealed for it; the data stays.
    Container,
    /// All of it.
    Data,
}
