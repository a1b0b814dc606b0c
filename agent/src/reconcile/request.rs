//! What somebody on the host may ask the running agent: the socket's side of `reconcile`.
//!
//! `local.rs` decodes a line from the root-only socket into one of these and waits for the answer.

use std::sync::Arc;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use tokio::sync::oneshot;

use crate::link::ports::LinkStatus;

/// Something asked for on the host itself.
#[derive(Debug)]
pub enum LocalRequest {
    /// Whether the coordinator answers, and what is: the same that it is told. None before the host was observed once.
    Status(oneshot::Sender<(LinkStatus, Option<Arc<HostReport>>)>),
    /// The plan as it stands, for people.
    Plan(oneshot::Sender<String>),
    /// Stop an instance until it is started here, or its revision changes.
    Stop(DeploymentId, oneshot::Sender<Result<(), Reason>>),
    /// Take such a stop back.
    Start(DeploymentId, oneshot::Sender<Result<(), Reason>>),
}
