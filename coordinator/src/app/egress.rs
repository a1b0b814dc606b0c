//! What a bot may reach beyond its profile: look, and say anew.

use std::collections::BTreeSet;

use launchpad_protocol::egress::EgressRule;
use launchpad_protocol::generation::Revision;

use super::deployments::{find, find_to_change, record};
use super::revise::{self, Content};
use super::{App, AppError};
use crate::command::{DeploymentRef, SetEgress};
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::amend::{with_egress, within_plan};
use crate::store::revisions::PinnedRevision;
use crate::store::{Commit, Tx, revisions};

/// What a bot may reach, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressView {
    /// What its profile allows, as its revision pinned it.
    pub profile: BTreeSet<EgressRule>,
    /// What its owner adds.
    pub added: BTreeSet<EgressRule>,
    /// How many rules its plan lets an owner add.
    pub granted: u32,
    /// The revision that says so.
    pub revision: Revision,
}

impl EgressView {
    fn of(revision: &PinnedRevision) -> Self {
        Self {
            profile: revision.profile.egress.allow.clone(),
            added: revision.egress.clone(),
            granted: revision.plan.egress_rules,
            revision: revision.blueprint.revision,
        }
    }
}

impl App {
    /// What a bot may reach.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may see; or the store failed.
    pub async fn egress(&self, actor: &Actor, target: &DeploymentRef) -> Result<EgressView, AppError> {
        let read = async |tx: &mut Tx| {
            let deployment = find(tx, actor, target).await?;
            authorise(actor, Action::ReadDeployments(deployment.account))?;
            let revision = revisions::get(tx, deployment.id, deployment.revision).await?;
            Ok::<_, AppError>((deployment, EgressView::of(&revision)))
        };
        let (deployment, view) = self.store.read(read).await?;
        self.note_view(actor, "egress.view", Some(deployment.account), deployment.id.to_string()).await?;
        Ok(view)
    }

    /// Lets a bot reach that beyond its profile, and nothing that was let before. It runs on meanwhile: rules change
    /// around it.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may change, or its plan grants fewer rules; or the store
    /// failed.
    pub async fn set_egress(&self, actor: &Actor, command: SetEgress) -> Result<EgressView, AppError> {
        let now = self.clock.wall();
        let set = async |tx: &mut Tx| {
            let mut deployment = find_to_change(tx, actor, &command.deployment).await?;
            let Content { mut revision, files } = revise::current(tx, &deployment).await?;
            within_plan(&command.allow, &revision.plan)?;
            revision.blueprint = with_egress(&revision.blueprint, &revision.profile, &command.allow)?;
            revision.egress.clone_from(&command.allow);
            let next = Content { revision, files };
            let cause = "what it may reach was changed";
            if revise::commit(self, tx, &mut deployment, next, cause, now).await? {
                record(tx, actor, "egress.set", &deployment, listed(&command.allow), now).await?;
            }
            let revision = revisions::get(tx, deployment.id, deployment.revision).await?;
            Ok::<_, AppError>(EgressView::of(&revision))
        };
        let view = self.store.write(Commit::SetEgress, set).await?;
        self.wake_after_change();
        Ok(view)
    }
}

fn listed(rules: &BTreeSet<EgressRule>) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
