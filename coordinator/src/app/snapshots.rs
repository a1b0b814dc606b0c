//! Snapshots of a bot's volume: take, put back, delete, and what became of it.
//!
//! Each is an operation of the deployment's host, which stops the bot for the time that it takes. What is there is what
//! the host reports; what was asked for is in the store until the host has answered.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::id::OperationId;
use launchpad_protocol::report::{Outcome, SnapshotReport};
use launchpad_protocol::spec::OperationAction;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::deployments::{find, find_to_change, record};
use super::idempotency::Once;
use super::{App, AppError};
use crate::command::{DeploymentRef, Name, SnapshotRef};
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::deployment::{Event, step};
use crate::domain::snapshots::{expected, may_take, may_use, name_at};
use crate::store::deployments::Deployment;
use crate::store::operations::Asked;
use crate::store::timeline::TimelineEntry;
use crate::store::{Commit, StoreError, Tx, operations, reports, timeline};

/// Operations that are shown: those of some days, for anybody who asks what became of one.
const OPERATIONS_SHOWN: u32 = 50;

/// The snapshots of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotsView {
    /// Those that its host keeps.
    pub kept: BTreeMap<String, SnapshotReport>,
    /// What was asked for, newest first.
    pub asked: Vec<SnapshotOperation>,
}

/// Something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOperation {
    /// Which operation.
    pub id: OperationId,
    /// What.
    pub kind: SnapshotVerb,
    /// Of which snapshot.
    pub name: String,
    /// When.
    pub asked_at: Moment,
    /// What became of it; none: its host has not answered.
    pub outcome: Option<Outcome>,
}

/// What is done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotVerb {
    /// It is taken.
    Create,
    /// It is put in the volume's place.
    Restore,
    /// It is deleted.
    Delete,
}

/// An operation that was just asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAsked {
    /// Which operation.
    pub operation: OperationId,
    /// Of which snapshot.
    pub name: String,
}

impl SnapshotVerb {
    /// What a host is asked to do.
    fn action(self, name: String) -> OperationAction {
        match self {
            Self::Create => OperationAction::Snapshot { name },
            Self::Restore => OperationAction::Restore { name },
            Self::Delete => OperationAction::DropSnapshot { name },
        }
    }

    /// As the audit log calls it.
    const fn deed(self) -> &'static str {
        match self {
            Self::Create => "snapshot.create",
            Self::Restore => "snapshot.restore",
            Self::Delete => "snapshot.delete",
        }
    }

    /// As a timeline calls it.
    const fn cause(self) -> &'static str {
        match self {
            Self::Create => "a snapshot was asked for",
            Self::Restore => "a restore was asked for",
            Self::Delete => "the deletion of a snapshot was asked for",
        }
    }
}

impl App {
    /// The snapshots of a deployment's volume, and what became of those that were asked for.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may see; or the store failed.
    pub async fn snapshots(&self, actor: &Actor, target: &DeploymentRef) -> Result<SnapshotsView, AppError> {
        let read = async |tx: &mut Tx| {
            let deployment = find(tx, actor, target).await?;
            authorise(actor, Action::ReadDeployments(deployment.account))?;
            let kept = kept(tx, &deployment).await?;
            let asked = operations::latest(tx, deployment.id, OPERATIONS_SHOWN).await?;
            let asked = asked.into_iter().filter_map(snapshot_operation).collect();
            Ok::<_, AppError>((deployment, SnapshotsView { kept, asked }))
        };
        let (deployment, view) = self.store.read(read).await?;
        self.note_view(actor, "snapshot.list", Some(deployment.account), deployment.id.to_string()).await?;
        Ok(view)
    }

    /// Asks for a snapshot, named after the time unless it is given a name.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may change, it has no host, there is a snapshot of that
    /// name or there are too many; or the store failed.
    pub async fn take_snapshot(
        &self,
        actor: &Actor,
        target: &DeploymentRef,
        name: Option<Name>,
        once: &Once,
    ) -> Result<SnapshotAsked, AppError> {
        let name = name.map_or_else(|| name_at(self.clock.wall()), |name| name.to_string());
        self.ask_for(actor, target, SnapshotVerb::Create, name, once).await
    }

    /// Asks for a snapshot to be put in its volume's place. What the volume holds now is lost.
    ///
    /// # Errors
    /// A refusal when there is no such snapshot that the actor may use; or the store failed.
    pub async fn restore_snapshot(
        &self,
        actor: &Actor,
        snapshot: &SnapshotRef,
        once: &Once,
    ) -> Result<SnapshotAsked, AppError> {
        let name = snapshot.name.to_string();
        self.ask_for(actor, &snapshot.deployment, SnapshotVerb::Restore, name, once).await
    }

    /// Asks for a snapshot to be deleted.
    ///
    /// # Errors
    /// A refusal when there is no such snapshot that the actor may delete; or the store failed.
    pub async fn delete_snapshot(&self, actor: &Actor, snapshot: &SnapshotRef) -> Result<SnapshotAsked, AppError> {
        let name = snapshot.name.to_string();
        self.ask_for(actor, &snapshot.deployment, SnapshotVerb::Delete, name, &Once::unclaimed()).await
    }

    async fn ask_for(
        &self,
        actor: &Actor,
        target: &DeploymentRef,
        verb: SnapshotVerb,
        name: String,
        once: &Once,
    ) -> Result<SnapshotAsked, AppError> {
        let now = self.clock.wall();
        let ask = async |tx: &mut Tx| {
            if let Some(asked) = once.earlier(tx, actor.user, now).await? {
                return Ok(asked);
            }
            let mut deployment = find_to_change(tx, actor, target).await?;
            step(deployment.state, Event::Update)?;
            let names = expected_of(tx, &deployment).await?;
            match verb {
                SnapshotVerb::Create => may_take(&name, &names)?,
                SnapshotVerb::Restore | SnapshotVerb::Delete => may_use(&name, &names)?,
            }
            let operation = self.order(tx, &mut deployment, verb.action(name.clone()), now).await?;
            let line = TimelineEntry::of(&deployment, self.entropy.id(now), now, verb.cause());
            timeline::append(tx, &line).await?;
            record(tx, actor, verb.deed(), &deployment, format!("{name}, {operation}"), now).await?;
            let asked = SnapshotAsked { operation, name: name.clone() };
            once.remember(tx, actor.user, now, &asked).await?;
            Ok::<_, AppError>(asked)
        };
        let asked = self.store.write(Commit::OrderSnapshot, ask).await?;
        self.wake_after_change();
        Ok(asked)
    }
}

/// The snapshots that a deployment's host last reported.
async fn kept(tx: &mut Tx, deployment: &Deployment) -> Result<BTreeMap<String, SnapshotReport>, StoreError> {
    let Some(host) = deployment.host else { return Ok(BTreeMap::new()) };
    let report = reports::latest(tx, host).await?;
    let instance = report.and_then(|mut stored| stored.report.instances.remove(&deployment.id));
    Ok(instance.and_then(|instance| instance.volume).map(|volume| volume.snapshots).unwrap_or_default())
}

/// The names of the snapshots that there will be.
async fn expected_of(tx: &mut Tx, deployment: &Deployment) -> Result<BTreeSet<String>, StoreError> {
    let waiting = operations::unanswered(tx, deployment.id).await?;
    let kept = kept(tx, deployment).await?;
    Ok(expected(kept.keys(), waiting.iter().map(|operation| &operation.action)))
}

fn snapshot_operation(asked: Asked) -> Option<SnapshotOperation> {
    let Asked { operation, asked_at, outcome } = asked;
    let (kind, name) = match operation.action {
        OperationAction::Snapshot { name } => (SnapshotVerb::Create, name),
        OperationAction::Restore { name } => (SnapshotVerb::Restore, name),
        OperationAction::DropSnapshot { name } => (SnapshotVerb::Delete, name),
        OperationAction::Restart | OperationAction::ClearLocalStop => return None,
    };
    Some(SnapshotOperation { id: operation.id, kind, name, asked_at, outcome })
}
