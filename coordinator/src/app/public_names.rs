//! The public names of deployments: which each should have, and that it has them.
//!
//! Whatever a deployment's names should be follows from the installation's domain and from the domains that were proved
//! for it: [`App::settle`] gives it a revision with exactly those. Nobody else sets names, but for the first revision.

use std::collections::BTreeSet;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;

use super::revise::{self, Content};
use super::{App, AppError};
use crate::domain::actor::Scope;
use crate::domain::amend::with_hostnames;
use crate::domain::refusal::Refusal;
use crate::store::deployments::Deployment;
use crate::store::{Commit, StoreError, Tx, deployments, domains, reports, revisions};

/// Deployments whose names are compared at a time when the coordinator starts.
const SETTLED_AT_A_TIME: u32 = 200;

impl App {
    /// The public name that a deployment has from the start; none: this installation gives none.
    pub(super) fn own_name(&self, called: &str, id: DeploymentId) -> Option<String> {
        self.ingress_domain.as_ref().map(|domain| domain.name_of(called, id))
    }

    /// Refuses a new deployment whose name another has. Two bots of one name have the same public name once in four
    /// thousand million times.
    pub(super) async fn check_own_name(&self, tx: &mut Tx, new: &Deployment) -> Result<(), AppError> {
        let Some(name) = self.own_name(&new.name, new.id) else { return Ok(()) };
        let namesakes = deployments::named(tx, Scope::Every, &new.name).await?;
        let is_taken = |other: &Deployment| self.own_name(&other.name, other.id).as_ref() == Some(&name);
        if namesakes.iter().any(is_taken) {
            let reason = Reason::new("public-name-taken", format!("the public name {name} is taken by chance"));
            return Err(Refusal::unavailable(reason.mend("send it again: it gets another one")).into());
        }
        Ok(())
    }

    /// Gives every deployment whose names are not what they should be a revision with the right ones: the installation's
    /// domain may be another one than when they were made. Answers how many there were. For the job, at its start.
    pub(crate) async fn settle_all(&self) -> Result<usize, AppError> {
        let (mut after, mut settled) = (String::new(), 0);
        loop {
            let page = async |tx: &mut Tx| deployments::list(tx, Scope::Every, &after, SETTLED_AT_A_TIME).await;
            let page: Vec<Deployment> = self.store.read::<_, StoreError>(page).await?;
            let Some(last) = page.last() else { return Ok(settled) };
            after = last.id.to_string();
            for id in page.iter().map(|deployment| deployment.id) {
                settled += usize::from(self.settle_one(id).await?);
            }
        }
    }

    async fn settle_one(&self, id: DeploymentId) -> Result<bool, AppError> {
        let is_right = async |tx: &mut Tx| {
            let Some(deployment) = deployments::get(tx, Scope::Every, id).await? else { return Ok(true) };
            self.has_right_names(tx, &deployment).await
        };
        if self.store.read(is_right).await? {
            return Ok(false);
        }
        let now = self.clock.wall();
        let settle = async |tx: &mut Tx| match deployments::get(tx, Scope::Every, id).await? {
            Some(mut deployment) => self.settle(tx, &mut deployment, now).await,
            None => Ok(false),
        };
        let settled = self.store.write(Commit::CheckDomain, settle).await?;
        if settled {
            self.wake_after_change();
        }
        Ok(settled)
    }

    async fn has_right_names(&self, tx: &mut Tx, deployment: &Deployment) -> Result<bool, AppError> {
        let revision = revisions::get(tx, deployment.id, deployment.revision).await?;
        Ok(revision.blueprint.ingress.hostnames == self.right_names(tx, deployment).await?)
    }

    async fn right_names(&self, tx: &mut Tx, deployment: &Deployment) -> Result<BTreeSet<String>, StoreError> {
        let claimed = domains::of_deployment(tx, deployment.id).await?.into_iter();
        let verified = claimed.filter(|domain| domain.claim.is_verified()).map(|domain| domain.name.to_string());
        Ok(verified.chain(self.own_name(&deployment.name, deployment.id)).collect())
    }

    /// Lets exactly the right names lead to a deployment. One that cannot be changed any more is left as it is.
    pub(super) async fn settle(
        &self,
        tx: &mut Tx,
        deployment: &mut Deployment,
        now: Moment,
    ) -> Result<bool, AppError> {
        let Content { mut revision, files } = match revise::current(tx, deployment).await {
            Ok(content) => content,
            Err(AppError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        revision.blueprint = with_hostnames(&revision.blueprint, self.right_names(tx, deployment).await?)?;
        let next = Content { revision, files };
        revise::commit(self, tx, deployment, next, "its public names were changed", now).await
    }
}

/// The addresses at which a deployment's host takes traffic for public names, as it last reported them.
pub(super) async fn addresses(tx: &mut Tx, deployment: &Deployment) -> Result<BTreeSet<String>, StoreError> {
    let Some(host) = deployment.host else { return Ok(BTreeSet::new()) };
    let report = reports::latest(tx, host).await?;
    Ok(report.and_then(|stored| stored.report.gate).map(|gate| gate.ingress_addresses).unwrap_or_default())
}
