//! Why bots do not move although they may, and an operator's word that they shall.

use super::{App, AppError};
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::silence::Suspicion;
use crate::store::audit::Deed;
use crate::store::{Commit, Tx, audit, failover};

impl App {
    /// Whether too many hosts fell silent together for anything to move.
    ///
    /// # Errors
    /// A refusal when the actor may not see hosts; or the store failed.
    pub async fn suspicion(&self, actor: &Actor) -> Result<Suspicion, AppError> {
        authorise(actor, Action::ReadHosts)?;
        Ok(self.store.read(async |tx| failover::suspicion(tx).await).await?)
    }

    /// Takes an operator's word that the hosts which fell silent together are lost: what may move does. Where nothing is
    /// frozen this changes nothing.
    ///
    /// # Errors
    /// A refusal when the actor may not; or the store failed.
    pub async fn thaw_failover(&self, actor: &Actor) -> Result<Suspicion, AppError> {
        authorise(actor, Action::ChangeHosts)?;
        let now = self.clock.wall();
        let thaw = async |tx: &mut Tx| {
            let suspicion = failover::suspicion(tx).await?;
            let Some(frozen) = &suspicion.frozen else { return Ok(suspicion) };
            let names: Vec<_> = frozen.suspects.iter().map(ToString::to_string).collect();
            let (target, detail) = ("fleet".to_owned(), format!("called lost: {}", names.join(", ")));
            let deed = Deed { action: "failover.thaw", target, account: None, detail };
            let thawed = suspicion.thawed();
            failover::keep(tx, &thawed).await?;
            audit::record(tx, actor, deed, now).await?;
            Ok::<_, AppError>(thawed)
        };
        self.store.write(Commit::CordonHost, thaw).await
    }
}
