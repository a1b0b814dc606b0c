//! Domains that owners bring: their proofs are looked for again and again, and the names of every bot are what they
//! should be.
//!
//! At its start the names of all deployments are compared once, because only then can the installation's domain have
//! changed. A name server that does not answer takes nothing away, and keeps nobody else waiting.

use futures::StreamExt as _;

use crate::app::{App, AppError};

/// Claims that are looked after in one round.
const CLAIMS_PER_ROUND: u32 = 64;
/// Lookups at a time: a round of claims whose name servers are all silent ends within a minute and a half.
const LOOKUPS_AT_A_TIME: usize = 8;

/// Compares the names of all deployments. Answers whether that was done.
pub(super) async fn settle(app: &App) -> bool {
    match app.settle_all().await {
        Ok(0) => true,
        Ok(changed) => {
            tracing::info!(changed, "deployments have other public names than before");
            true
        }
        Err(error) => {
            tracing::error!(%error, "cannot compare public names; trying again");
            false
        }
    }
}

/// Looks for the proofs whose time has come. Answers how many deployments have other names now.
pub(super) async fn round(app: &App) -> Result<usize, AppError> {
    let due = app.due_domains(CLAIMS_PER_ROUND).await?;
    let checked = futures::stream::iter(&due).map(|domain| app.check_domain(domain));
    let checked: Vec<_> = checked.buffer_unordered(LOOKUPS_AT_A_TIME).collect().await;
    let mut changed = 0;
    for one in checked {
        changed += usize::from(one?);
    }
    Ok(changed)
}
