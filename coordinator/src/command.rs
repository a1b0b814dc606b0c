//! What a caller may ask for, in types that cannot be wrong: construction *is* validation.
//!
//! `api` builds these from a decoded request, `app` carries them out without checking a field again. Every bad field
//! is listed, each with its mend, not only the first. Nothing here reads the store: whether a name is taken, or a plan
//! fits a host, is decided behind this door.

mod deployment;
mod domains;
mod egress;
mod field;
mod host;
mod logs;
mod page;
mod pki;
mod plan;
mod recovery;
mod secrets;
mod snapshots;
mod upgrades;

pub use deployment::{Catalogue, CreateDeployment, DeploymentDraft, DeploymentRef, Which};
pub use domains::DomainRef;
pub use egress::SetEgress;
pub use field::{FieldProblem, FieldProblems, Name, NameError, SecretName};
pub use host::{CreateJoinToken, JoinTokenDraft};
pub use logs::LogsWanted;
pub use page::{Page, PageRequest};
pub use pki::RotateCa;
pub use plan::SetPlan;
pub use recovery::ConfirmRecovery;
pub use secrets::{RemoveSecret, Secret, SecretRef, SetSecret};
pub use snapshots::{SnapshotRef, snapshot_name};
pub use upgrades::{StartUpgrade, UpgradeDraft, Whom, ring_name};

/// The pool of a host or a deployment that names none.
pub const DEFAULT_POOL: &str = "shared";
