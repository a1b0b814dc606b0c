//! What a bot was kept from, as its host last reported it.
//!
//! A host reports by account. Whose a deployment is comes from the store, and only that account's part of the report of
//! the one host on which it is placed is looked at; another account's bots are in no answer.

use launchpad_protocol::report::{Denial, Denials};

use super::deployments::find;
use super::{App, AppError};
use crate::command::DeploymentRef;
use crate::domain::actor::{Action, Actor, authorise};
use crate::store::{Tx, reports};

/// What is shown of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenialsView {
    /// Denied to all bots of the account on that host.
    pub count: u64,
    /// The latest of that bot, and those that nobody can tell whose they were, oldest first.
    pub samples: Vec<Denial>,
}

impl App {
    /// What a bot was kept from.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may see; or the store failed.
    pub async fn denials(&self, actor: &Actor, target: &DeploymentRef) -> Result<DenialsView, AppError> {
        let read = async |tx: &mut Tx| {
            let deployment = find(tx, actor, target).await?;
            authorise(actor, Action::ReadDeployments(deployment.account))?;
            let report = match deployment.host {
                Some(host) => reports::latest(tx, host).await?,
                None => None,
            };
            let told = report.and_then(|mut stored| stored.report.denials.remove(&deployment.account));
            Ok::<_, AppError>((deployment, told.unwrap_or_default()))
        };
        let (deployment, Denials { count, samples }) = self.store.read(read).await?;
        self.note_view(actor, "denials.view", Some(deployment.account), deployment.id.to_string()).await?;
        let is_its = |denial: &Denial| denial.deployment.is_none_or(|of| of == deployment.id);
        Ok(DenialsView { count, samples: samples.into_iter().filter(is_its).collect() })
    }
}
