//! What the coordinator does when somebody asks: authorise, load, decide, commit, wake whoever goes on from there.
//!
//! ```text
//!   api ── Command, Actor ──► app::{deployments, hosts, recovery} ──► domain (may they? can it?)
//!                                     │                                 │
//!                                     └── one transaction: effect, timeline, audit, kept answer
//!                                                       └─► signals: placer, compiler
//! ```
//! [`App`] is the handle; each resource adds its verbs in a file of its own. A verb that changes something writes its
//! audit entry in the transaction of the change. Nothing here knows HTTP, and nothing here waits for a host: that a
//! wish comes true is the work of `jobs` and `fleet`.

pub mod ca_rotation;
pub mod idempotency;
pub mod init;
pub mod restore;
pub mod sign_in;

mod candidates;
pub mod denials;
mod deployment_create;
pub mod deployments;
pub mod domains;
pub mod egress;
pub mod failover;
pub mod hosts;
pub mod keys;
pub mod logs;
mod operations;
pub mod pki;
pub mod plan;
mod public_names;
pub mod recovery;
mod revise;
pub mod secrets;
pub mod snapshots;
mod staff_view;
pub mod upgrades;

use std::collections::BTreeMap;
use std::sync::Arc;

use launchpad_pki::envelope::{EnvelopeError, KeyProvider};
use launchpad_pki::serial::NoEntropy;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::profile::Profile;
use launchpad_protocol::time::Clock;

use crate::dns::{DnsLookup, DnsProvider};
use crate::domain::lease::Patience;
use crate::domain::plan_table::PlanTable;
use crate::domain::pool_table::PoolTable;
use crate::domain::public_name::IngressDomain;
use crate::domain::refusal::Refusal;
use crate::fleet::Fleet;
use crate::signals::Signals;
use crate::store::{Store, StoreError, meta};

pub use staff_view::StaffViews;

pub(crate) use candidates::candidates;

/// The coordinator, as its API and its jobs hold it. Clones are the same coordinator.
#[derive(Debug, Clone)]
pub struct App {
    /// Everything durable.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// Ids and jitter.
    pub entropy: Entropy,
    /// The workloads, by name.
    pub profiles: Arc<BTreeMap<String, Profile>>,
    /// The plans.
    pub plans: Arc<PlanTable>,
    /// The pools of hosts.
    pub pools: Arc<PoolTable>,
    /// What encrypts configs and secrets in the store.
    pub keys: Arc<dyn KeyProvider>,
    /// The connected hosts.
    pub fleet: Fleet,
    /// How long hosts that are not heard are waited for.
    pub patience: Patience,
    /// Who wakes whom.
    pub signals: Signals,
    /// What a join token tells its host.
    pub joining: Joining,
    /// The domain below which every bot has a public name; none: bots have none of their own.
    pub ingress_domain: Option<Arc<IngressDomain>>,
    /// Where proofs of domains are looked for.
    pub dns: Arc<dyn DnsLookup>,
    /// Who sets the records of public names.
    pub dns_provider: Arc<dyn DnsProvider>,
    /// Which looks of staff beyond their account are written down.
    pub staff_views: StaffViews,
}

/// What a host must know to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// SHA-256 of the root certificate (DER), which the host pins.
    pub root: Digest,
    /// Where the enrolment listener is reached, `HOST:PORT`.
    pub endpoint: String,
}

/// Why a wish was not granted.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// It may not, or cannot, be; the asker is told why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed; the asker is told only that.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A config or a secret was not encrypted or decrypted.
    #[error("a deployment's files: {0}")]
    Files(#[from] EnvelopeError),
    /// No random bytes.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl AppError {
    /// Whether somebody else was faster: the same wish may be granted the next time.
    #[must_use]
    pub const fn is_race(&self) -> bool {
        matches!(self, Self::Store(StoreError::Raced { .. }))
    }
}

impl App {
    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn is_well(&self) -> Result<(), StoreError> {
        self.store.read(async |tx| meta::incarnation(tx).await).await.map(drop)
    }
}

#[cfg(test)]
pub(crate) mod lab;
