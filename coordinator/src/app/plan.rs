//! Another plan for a bot that exists: what it may use, where it is.
//!
//! Nothing moves: its host has room for what the plan adds, or says what lacks. What is promised here counts at once, for
//! the next placement as for the next plan, because both read it under the store's one write lock.

use launchpad_protocol::generation::Revision;

use super::deployments::{find_to_change, record};
use super::revise::{self, Content};
use super::{App, AppError, candidates};
use crate::command::SetPlan;
use crate::domain::actor::Actor;
use crate::domain::amend::with_plan;
use crate::domain::placement::{fits_somewhere, has_room_to_grow};
use crate::domain::plan_table::Plan;
use crate::domain::refusal::Refusal;
use crate::store::deployments::Deployment;
use crate::store::revisions::PinnedRevision;
use crate::store::{Commit, Tx, revisions};

/// What a bot may use, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanView {
    /// The plan, as its revision pinned it.
    pub plan: Plan,
    /// The revision that says so.
    pub revision: Revision,
}

impl App {
    /// Lets a bot use what another plan grants. Its limits change around the running bot; so does its volume, or at its
    /// next start, where its host cannot.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may change, the plan grants less storage, memory or rules
    /// than the bot has or needs, or its host has no room for it; or the store failed.
    pub async fn set_plan(&self, actor: &Actor, command: SetPlan) -> Result<PlanView, AppError> {
        let now = self.clock.wall();
        let set = async |tx: &mut Tx| {
            let mut deployment = find_to_change(tx, actor, &command.deployment).await?;
            let Content { mut revision, files } = revise::current(tx, &deployment).await?;
            let plan = &command.plan;
            revision.blueprint = with_plan(&revision.blueprint, &revision.profile, &revision.egress, plan)?;
            let sealed_bytes = files.values().map(|file| file.bytes).sum();
            self.check_room_for(tx, &deployment, &revision, plan, sealed_bytes).await?;
            let detail = format!("from {} to {}", deployment.plan, plan.name);
            revision.plan.clone_from(plan);
            (deployment.plan, deployment.size) = (plan.name.clone(), plan.size());
            let next = Content { revision, files };
            if revise::commit(self, tx, &mut deployment, next, "another plan was chosen", now).await? {
                record(tx, actor, "plan.set", &deployment, detail, now).await?;
            }
            let PinnedRevision { plan, blueprint, .. } =
                revisions::get(tx, deployment.id, deployment.revision).await?;
            Ok::<_, AppError>(PlanView { plan, revision: blueprint.revision })
        };
        let view = self.store.write(Commit::SetPlan, set).await?;
        self.wake_after_change();
        Ok(view)
    }

    /// Whether its host has room for what the plan adds; where it has none yet, whether any could have.
    async fn check_room_for(
        &self,
        tx: &mut Tx,
        deployment: &Deployment,
        revision: &PinnedRevision,
        plan: &Plan,
        sealed_bytes: u64,
    ) -> Result<(), AppError> {
        let hosts = candidates(tx).await?;
        match hosts.iter().find(|host| Some(host.id) == deployment.host) {
            Some(host) => {
                has_room_to_grow(host, deployment.size, plan.size()).map_err(Refusal::unavailable)?;
            }
            None => {
                let mut wanted = self.wanted(&revision.blueprint, deployment, sealed_bytes);
                wanted.size = plan.size();
                fits_somewhere(&wanted, &hosts).map_err(Refusal::impossible)?;
            }
        }
        Ok(())
    }
}
