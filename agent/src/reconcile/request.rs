//! What somebody on the host may ask the running agent: the socket's side of `reconcile`.
//!
//! `local.rs` decodes a line from the root-only socket into one of these and waits for the answer. What is only shown it
//! finds in a [`Windows`]: the loop fills it at every turn, and it is there to read while the loop waits for a slow engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::Moment;
use tokio::sync::{oneshot, watch};

use crate::link::ports::LinkStatus;
use crate::plan::record::Past;

/// Something asked for on the host itself.
#[derive(Debug)]
pub enum LocalRequest {
    /// Where all is found that is shown.
    Watch(oneshot::Sender<Windows>),
    /// The plan as it stands, for people.
    Plan(oneshot::Sender<String>),
    /// Stop an instance until it is started here, or its revision changes.
    Stop(DeploymentId, oneshot::Sender<Result<(), Reason>>),
    /// Take such a stop, or an eviction, back.
    Start(DeploymentId, oneshot::Sender<Result<(), Reason>>),
    /// Stop an instance and start it again, once.
    Restart(DeploymentId, oneshot::Sender<Result<(), Reason>>),
    /// Have these gone from the host. The answer is what of them is still here: asked again until nothing is.
    Evict(Evict, oneshot::Sender<Result<BTreeSet<DeploymentId>, Reason>>),
}

/// What is to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evict {
    /// Which; none: everything that is here.
    pub deployments: BTreeSet<DeploymentId>,
    /// Whether their data goes, too.
    pub data: bool,
}

/// What there is to see.
#[derive(Debug, Clone)]
pub struct Windows {
    /// Whether the coordinator answers.
    pub link: watch::Receiver<LinkStatus>,
    /// The rest, as of the loop's last turn.
    pub shown: watch::Receiver<Shown>,
}

/// What the loop knew at the end of its last turn.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The same that the coordinator is told. None before the host was observed once.
    pub report: Option<Arc<HostReport>>,
    /// The accepted spec, as it was accepted.
    pub spec: Option<Arc<HostSpec>>,
    /// What the report does not say of each instance.
    pub insides: BTreeMap<DeploymentId, Inside>,
    /// All of which anything is on the host, whether a spec lists it or not.
    pub present: BTreeSet<DeploymentId>,
}

/// What people on the host are shown of an instance, besides the report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Where it stood, the latest last.
    pub past: Vec<Past>,
    /// When it is tried again, if it waits.
    pub retry_at: Option<Moment>,
    /// What is being done about it, and then.
    pub doing: Vec<String>,
}
