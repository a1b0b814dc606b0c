//! What the agent can do to its host: the words in which a plan is written.
//!
//! `plan` makes actions, `execute` carries them out. Each is idempotent: done twice, or done again after a crash
//! half-way, it leaves what once would have left. [`Action::KINDS`] is also the list of places where the tests kill
//! the agent.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use launchpad_protocol::id::{AccountId, DeploymentId, OperationId, TombstoneId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{InstanceSpec, Resources};
use launchpad_protocol::time::Moment;

use crate::enforce::shape::TenantShape;
pub use crate::observe::{files_digest, gate_digest};

/// One thing to do. What it needs is in it: an executor looks nothing up and decides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fetch an image by digest.
    PullImage {
        /// Which.
        image: ImageRef,
    },
    /// See that a tenant's network, its bridge and its address translation are there.
    EnsureNetwork {
        /// Whose.
        account: AccountId,
    },
    /// See that the control group above a tenant's containers is as large as all its instances are granted together.
    ShapeTenant {
        /// Whose.
        account: AccountId,
        /// What it is to be.
        shape: TenantShape,
    },
    /// See that an instance's volume is there, owned by its user.
    PrepareVolume {
        /// Whose.
        spec: Box<InstanceSpec>,
    },
    /// Unseal an instance's files onto the tmpfs, and take away those that it has no more.
    WriteFiles {
        /// Whose.
        spec: Box<InstanceSpec>,
    },
    /// Let an instance out to what its policy allows and nowhere else, and its public names in to it.
    OpenGate {
        /// Whose.
        spec: Box<InstanceSpec>,
    },
    /// Make an instance's container, with all that cannot be changed later.
    CreateContainer {
        /// What it is to be.
        spec: Box<InstanceSpec>,
    },
    /// Start a container.
    StartContainer {
        /// Whose.
        deployment: DeploymentId,
        /// The engine's id; none: the one that this plan creates.
        container: Option<String>,
    },
    /// Change limits under a running container.
    UpdateResources {
        /// The engine's id.
        container: String,
        /// The new limits.
        resources: Resources,
    },
    /// Write down which starts an operation has found, so that it happens once: another start since, and it has happened.
    BeginOperation {
        /// Which operation.
        operation: OperationId,
        /// Every last start that is seen of its instance; none: nothing of it has ever run here.
        ends: BTreeSet<Moment>,
    },
    /// Copy a stopped instance's volume.
    SnapshotVolume {
        /// For which operation.
        operation: OperationId,
        /// Whose volume.
        spec: Box<InstanceSpec>,
        /// The copy's name.
        name: String,
        /// When, for people.
        at: Moment,
    },
    /// Put a copy in the place of a stopped instance's volume.
    RestoreVolume {
        /// For which operation.
        operation: OperationId,
        /// Whose volume.
        spec: Box<InstanceSpec>,
        /// The copy's name.
        name: String,
    },
    /// Delete a copy.
    DropSnapshot {
        /// For which operation.
        operation: OperationId,
        /// Of whose volume.
        deployment: DeploymentId,
        /// The copy's name.
        name: String,
    },
    /// Write down that an operation is done, or refused.
    FinishOperation {
        /// Which operation.
        operation: OperationId,
        /// Why it was refused, if it was.
        refusal: Option<Reason>,
    },
    /// Stop a container: ask, wait, kill.
    StopContainer {
        /// The engine's id.
        container: String,
        /// How long it may take.
        grace: Duration,
        /// Why: it becomes the story of the exit.
        why: StopCause,
    },
    /// Remove a stopped container.
    RemoveContainer {
        /// The engine's id.
        container: String,
    },
    /// Take an instance's rules and public names away.
    CloseGate {
        /// Whose.
        deployment: DeploymentId,
    },
    /// Remove an instance's unsealed files.
    RemoveFiles {
        /// Whose.
        deployment: DeploymentId,
    },
    /// Destroy an instance's data. Only a tombstone of scope `Data` makes this.
    RemoveVolume {
        /// Whose.
        deployment: DeploymentId,
    },
    /// Remove a tenant's network, when its last instance is gone.
    RemoveNetwork {
        /// Whose.
        account: AccountId,
    },
    /// Write down that a tombstone is carried out.
    Bury {
        /// Which.
        tombstone: TombstoneId,
    },
}

/// The kinds that are durable notes: the ledger carries them out, under names of its own.
pub const BY_LEDGER: [&str; 3] = ["begin_operation", "finish_operation", "bury"];

/// Why a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// Its spec says that it should not run.
    PowerOff,
    /// Somebody on the host said so.
    LocalStop,
    /// Its spec needs a new container.
    Replaced,
    /// An operation asked for a restart.
    Operation(OperationId),
    /// A tombstone names it.
    Tombstone(TombstoneId),
    /// Its probes failed.
    Unhealthy(Reason),
    /// A wall around it that held in this start does not any more, and only a new start makes it anew.
    Drift(Reason),
    /// The lease has ended under which it may run here.
    LeaseEnded,
}

impl Action {
    /// The name of every kind, in the order in which a deployment meets them.
    pub const KINDS: [&'static str; 21] = [
        "pull_image",
        "ensure_network",
        "shape_tenant",
        "prepare_volume",
        "write_files",
        "open_gate",
        "create_container",
        "start_container",
        "update_resources",
        "begin_operation",
        "snapshot_volume",
        "restore_volume",
        "drop_snapshot",
        "finish_operation",
        "stop_container",
        "remove_container",
        "close_gate",
        "remove_files",
        "remove_volume",
        "remove_network",
        "bury",
    ];

    /// Which of [`Action::KINDS`] this is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        Self::KINDS[match self {
            Self::PullImage { .. } => 0,
            Self::EnsureNetwork { .. } => 1,
            Self::ShapeTenant { .. } => 2,
            Self::PrepareVolume { .. } => 3,
            Self::WriteFiles { .. } => 4,
            Self::OpenGate { .. } => 5,
            Self::CreateContainer { .. } => 6,
            Self::StartContainer { .. } => 7,
            Self::UpdateResources { .. } => 8,
            Self::BeginOperation { .. } => 9,
            Self::SnapshotVolume { .. } => 10,
            Self::RestoreVolume { .. } => 11,
            Self::DropSnapshot { .. } => 12,
            Self::FinishOperation { .. } => 13,
            Self::StopContainer { .. } => 14,
            Self::RemoveContainer { .. } => 15,
            Self::CloseGate { .. } => 16,
            Self::RemoveFiles { .. } => 17,
            Self::RemoveVolume { .. } => 18,
            Self::RemoveNetwork { .. } => 19,
            Self::Bury { .. } => 20,
        }]
    }
}

impl Action {
    /// The operation that fails, and nothing else, when this does: a copy of a volume that cannot be made keeps no bot
    /// from running.
    #[must_use]
    pub const fn operation(&self) -> Option<OperationId> {
        match self {
            Self::SnapshotVolume { operation, .. }
            | Self::RestoreVolume { operation, .. }
            | Self::DropSnapshot { operation, .. } => Some(*operation),
            Self::PullImage { .. }
            | Self::EnsureNetwork { .. }
            | Self::ShapeTenant { .. }
            | Self::PrepareVolume { .. }
            | Self::WriteFiles { .. }
            | Self::OpenGate { .. }
            | Self::CreateContainer { .. }
            | Self::StartContainer { .. }
            | Self::UpdateResources { .. }
            | Self::BeginOperation { .. }
            | Self::FinishOperation { .. }
            | Self::StopContainer { .. }
            | Self::RemoveContainer { .. }
            | Self::CloseGate { .. }
            | Self::RemoveFiles { .. }
            | Self::RemoveVolume { .. }
            | Self::RemoveNetwork { .. }
            | Self::Bury { .. } => None,
        }
    }
}

/// One line of a printed plan.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::PullImage { image } => write!(f, " {image}"),
            Self::EnsureNetwork { account } | Self::RemoveNetwork { account } => write!(f, " {account}"),
            Self::ShapeTenant { account, shape } => write!(f, " {account} {shape}"),
            Self::PrepareVolume { spec }
            | Self::WriteFiles { spec }
            | Self::OpenGate { spec }
            | Self::CreateContainer { spec } => {
                write!(f, " {}", spec.deployment)
            }
            Self::SnapshotVolume { spec, name, .. } | Self::RestoreVolume { spec, name, .. } => {
                write!(f, " {} `{name}`", spec.deployment)
            }
            Self::DropSnapshot { deployment, name, .. } => write!(f, " {deployment} `{name}`"),
            Self::StartContainer { deployment, .. } => write!(f, " {deployment}"),
            Self::CloseGate { deployment } | Self::RemoveFiles { deployment } | Self::RemoveVolume { deployment } => {
                write!(f, " {deployment}")
            }
            Self::UpdateResources { container, resources } => write!(
                f,
                " {container} cpu={}m memory={} pids={}",
                resources.cpu_millis, resources.memory_bytes, resources.pids
            ),
            Self::StopContainer { container, grace, why } => write!(f, " {container} within {grace:?}: {why}"),
            Self::RemoveContainer { container } => write!(f, " {container}"),
            Self::BeginOperation { operation, .. } => write!(f, " {operation}"),
            Self::FinishOperation { operation, refusal: None } => write!(f, " {operation}"),
            Self::FinishOperation { operation, refusal: Some(reason) } => write!(f, " {operation} refused: {reason}"),
            Self::Bury { tombstone } => write!(f, " {tombstone}"),
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("its spec turns it off"),
            Self::LocalStop => f.write_str("stopped by hand on the host"),
            Self::Replaced => f.write_str("its spec needs a new container"),
            Self::Operation(id) => write!(f, "asked for by {id}"),
            Self::Tombstone(id) => write!(f, "removed by {id}"),
            Self::Unhealthy(reason) | Self::Drift(reason) => write!(f, "{reason}"),
            Self::LeaseEnded => f.write_str("its lease has ended"),
        }
    }
}
