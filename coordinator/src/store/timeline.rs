//! What happened to a deployment, line by line, each with its cause.

use launchpad_protocol::id::{AccountId, DeploymentId, TimelineId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;

use super::deployments::Deployment;
use super::row::to_json;
use super::tx::{StoreError, Tx};
use crate::domain::deployment::State;

/// Lines that are kept of one deployment: its first, and the latest. A bot in a crash loop of ten seconds writes three a
/// round, and is looked at long before they are an hour old.
pub const LINES_MAX: u32 = 1_000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// Its id.
    pub id: TimelineId,
    /// Whose deployment.
    pub account: AccountId,
    /// Which deployment.
    pub deployment: DeploymentId,
    /// When.
    pub at: Moment,
    /// What it was then.
    pub state: State,
    /// What brought it about.
    pub cause: String,
    /// Why, where that says more.
    pub reason: Option<Reason>,
}

impl TimelineEntry {
    /// Something that happened to a deployment and leaves it what it is.
    #[must_use]
    pub fn of(deployment: &Deployment, id: TimelineId, at: Moment, cause: &str) -> Self {
        Self {
            id,
            account: deployment.account,
            deployment: deployment.id,
            at,
            state: deployment.state,
            cause: cause.to_owned(),
            reason: deployment.reason.clone(),
        }
    }
}

/// Adds a line after all others of its deployment, whatever its moment: a host's clock may be off. Beyond [`LINES_MAX`]
/// the oldest goes, but never the first.
///
/// # Errors
/// When SQL fails.
pub async fn append(tx: &mut Tx, entry: &TimelineEntry) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO timeline (id, deployment_id, account_id, at, state, cause, reason, line)
         SELECT $1, $2, $3, $4, $5, $6, $7, COALESCE(MAX(line), 0) + 1 FROM timeline WHERE deployment_id = $2",
    )
    .bind(entry.id.to_string())
    .bind(entry.deployment.to_string())
    .bind(entry.account.to_string())
    .bind(entry.at.micros())
    .bind(entry.state.as_str())
    .bind(entry.cause.clone())
    .bind(entry.reason.as_ref().map(to_json));
    tx.execute("write a timeline", sql).await?;
    let sql = sqlx::query(
        "DELETE FROM timeline WHERE deployment_id = $1 AND line > 1
         AND line <= (SELECT MAX(line) FROM timeline WHERE deployment_id = $1) - $2",
    )
    .bind(entry.deployment.to_string())
    .bind(i64::from(LINES_MAX - 1));
    tx.execute("shorten a timeline", sql).await.map(drop)
}

/// The latest lines of a deployment, oldest first. The caller has read the deployment in its scope.
///
/// # Errors
/// When SQL fails.
pub async fn latest(tx: &mut Tx, deployment: DeploymentId, lines: u32) -> Result<Vec<TimelineEntry>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, deployment_id, account_id, at, state, cause, reason FROM timeline
         WHERE deployment_id = $1 ORDER BY line DESC LIMIT $2",
    )
    .bind(deployment.to_string())
    .bind(i64::from(lines));
    let rows = tx.all("read a timeline", sql).await?;
    rows.iter()
        .rev()
        .map(|row| {
            Ok(TimelineEntry {
                id: row.parse("id")?,
                account: row.parse("account_id")?,
                deployment: row.parse("deployment_id")?,
                at: row.moment("at")?,
                state: row.parse("state")?,
                cause: row.text("cause")?,
                reason: row.json_if_any("reason")?,
            })
        })
        .collect()
}
