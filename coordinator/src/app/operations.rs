//! What must happen once on a deployment's host: it waits in the host's spec until the host has answered it.
//!
//! ```text
//!   restart, snapshot, … ──► order ──► operation in the next spec ──► agent ──► outcome in a report ──► fold
//! ```
//! The verbs are in `deployments.rs` and `snapshots.rs`; they authorise, and write the audit entry.

use launchpad_protocol::id::{HostId, OperationId};
use launchpad_protocol::limits::OPERATIONS_PER_INSTANCE_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{Operation, OperationAction};
use launchpad_protocol::time::Moment;

use super::{App, AppError};
use crate::domain::deployment::{Event, State, step};
use crate::domain::host::HostState;
use crate::domain::refusal::Refusal;
use crate::store::deployments::Deployment;
use crate::store::{StoreError, Tx, deployments, hosts, operations, outbox, revisions};

impl App {
    pub(super) async fn order_restart(
        &self,
        tx: &mut Tx,
        deployment: &mut Deployment,
        now: Moment,
    ) -> Result<OperationId, AppError> {
        let transition = step(deployment.state, Event::Restart)?;
        let operation = self.order(tx, deployment, OperationAction::Restart, now).await?;
        deployments::advance(tx, deployment, &transition, self.entropy.id(now), now).await?;
        Ok(operation)
    }

    /// Puts an operation into the next spec of a deployment's host.
    ///
    /// # Errors
    /// A refusal when it has no host that could answer, or too many operations wait; or the store failed.
    pub(super) async fn order(
        &self,
        tx: &mut Tx,
        deployment: &mut Deployment,
        action: OperationAction,
        now: Moment,
    ) -> Result<OperationId, AppError> {
        let host = deployment.host.ok_or_else(|| no_host(deployment))?;
        if is_retired(tx, host).await? {
            return Err(host_retired().into());
        }
        if operations::unanswered(tx, deployment.id).await?.len() >= OPERATIONS_PER_INSTANCE_MAX {
            return Err(too_many_operations().into());
        }
        if deployment.state == State::Failed {
            // What its host has given up on is not tried again until the revision changes.
            let next = deployment.revision.next();
            revisions::renumber(tx, deployment.id, deployment.revision, next, now).await?;
            deployment.revision = next;
            deployments::update(tx, deployment).await?;
        }
        let operation = Operation { id: self.entropy.id(now), action };
        operations::create(tx, deployment.account, deployment.id, &operation, now).await?;
        outbox::mark(tx, host).await?;
        Ok(operation.id)
    }
}

/// Whether a host was revoked, so that nothing can be asked of it.
pub(super) async fn is_retired(tx: &mut Tx, host: HostId) -> Result<bool, StoreError> {
    Ok(hosts::get(tx, host).await?.is_none_or(|host| host.state == HostState::Retired))
}

pub(super) fn host_retired() -> Refusal {
    let reason = Reason::new("host-retired", "its host was revoked, nothing can be asked of it any more")
        .mend("delete the deployment, and deploy it again on another host");
    Refusal::unavailable(reason)
}

fn no_host(deployment: &Deployment) -> Refusal {
    let reason = Reason::new("wrong-state", format!("a deployment that is {} has no host yet", deployment.state));
    Refusal::conflict(reason.mend("wait until it has a host; its status says what it waits for"))
}

fn too_many_operations() -> Refusal {
    let sentence = format!("{OPERATIONS_PER_INSTANCE_MAX} operations wait for its host already");
    Refusal::unavailable(Reason::new("too-many-operations", sentence).mend("see whether its host is connected"))
}
