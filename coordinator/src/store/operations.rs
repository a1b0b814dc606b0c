//! Operations: what must happen once on a host, and what became of it.

use launchpad_protocol::id::{AccountId, DeploymentId, HostId, OperationId};
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::Operation;
use launchpad_protocol::time::Moment;

use super::row::to_json;
use super::tx::{StoreError, Tx};

/// Adds an operation.
///
/// # Errors
/// When SQL fails.
pub async fn create(
    tx: &mut Tx,
    account: AccountId,
    deployment: DeploymentId,
    operation: &Operation,
    now: Moment,
) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO operations (id, deployment_id, account_id, action, created_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(operation.id.to_string())
    .bind(deployment.to_string())
    .bind(account.to_string())
    .bind(to_json(&operation.action))
    .bind(now.micros());
    tx.execute("add an operation", sql).await.map(drop)
}

/// The operations of a deployment that have not been answered, oldest first.
///
/// # Errors
/// When SQL fails.
pub async fn unanswered(tx: &mut Tx, deployment: DeploymentId) -> Result<Vec<Operation>, StoreError> {
    let sql =
        sqlx::query("SELECT id, action FROM operations WHERE deployment_id = $1 AND answered_at IS NULL ORDER BY id")
            .bind(deployment.to_string());
    let rows = tx.all("read operations", sql).await?;
    rows.iter().map(|row| Ok(Operation { id: row.parse("id")?, action: row.json("action")? })).collect()
}

/// An operation, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The operation.
    pub operation: Operation,
    /// When it was asked for.
    pub asked_at: Moment,
    /// What became of it; none: its host has not answered.
    pub outcome: Option<Outcome>,
}

/// The latest operations of a deployment, newest first, answered or not.
///
/// # Errors
/// When SQL fails.
pub async fn latest(tx: &mut Tx, deployment: DeploymentId, most: u32) -> Result<Vec<Asked>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, action, created_at, outcome FROM operations WHERE deployment_id = $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(deployment.to_string())
    .bind(i64::from(most));
    let rows = tx.all("read a deployment's operations", sql).await?;
    rows.iter()
        .map(|row| {
            Ok(Asked {
                operation: Operation { id: row.parse("id")?, action: row.json("action")? },
                asked_at: row.moment("created_at")?,
                outcome: row.json_if_any("outcome")?,
            })
        })
        .collect()
}

/// The operations that wait for an answer of that host, each with its deployment, oldest first.
///
/// # Errors
/// When SQL fails.
pub async fn unanswered_on_host(tx: &mut Tx, host: HostId) -> Result<Vec<(DeploymentId, Operation)>, StoreError> {
    let sql = sqlx::query(
        "SELECT operations.id AS id, deployment_id, action FROM operations
         JOIN deployments ON deployments.id = operations.deployment_id
         WHERE deployments.host_id = $1 AND answered_at IS NULL ORDER BY operations.id",
    )
    .bind(host.to_string());
    let rows = tx.all("read a host's operations", sql).await?;
    rows.iter()
        .map(|row| Ok((row.parse("deployment_id")?, Operation { id: row.parse("id")?, action: row.json("action")? })))
        .collect()
}

/// Keeps an answer. The first stays; answers false when there was one.
///
/// # Errors
/// When SQL fails.
pub async fn answer(tx: &mut Tx, id: OperationId, outcome: &Outcome, now: Moment) -> Result<bool, StoreError> {
    let sql =
        sqlx::query("UPDATE operations SET outcome = $2, answered_at = $3 WHERE id = $1 AND answered_at IS NULL")
            .bind(id.to_string())
            .bind(to_json(outcome))
            .bind(now.micros());
    Ok(tx.execute("keep an operation's outcome", sql).await? > 0)
}

/// Gives every operation of a deployment that waits the same answer.
///
/// # Errors
/// When SQL fails.
pub async fn answer_of(
    tx: &mut Tx,
    deployment: DeploymentId,
    outcome: &Outcome,
    now: Moment,
) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "UPDATE operations SET outcome = $2, answered_at = $3 WHERE deployment_id = $1 AND answered_at IS NULL",
    )
    .bind(deployment.to_string())
    .bind(to_json(outcome))
    .bind(now.micros());
    tx.execute("answer a deployment's operations", sql).await.map(drop)
}

/// Gives every operation that waits the same answer. For freezing: they may have been carried out since the copy was
/// made. Answers how many waited.
///
/// # Errors
/// When SQL fails.
pub async fn answer_all(tx: &mut Tx, outcome: &Outcome, now: Moment) -> Result<u64, StoreError> {
    let sql = sqlx::query("UPDATE operations SET outcome = $1, answered_at = $2 WHERE answered_at IS NULL")
        .bind(to_json(outcome))
        .bind(now.micros());
    tx.execute("answer all operations", sql).await
}

/// Forgets operations that were answered before that moment. Answers how many.
///
/// # Errors
/// When SQL fails.
pub async fn sweep(tx: &mut Tx, before: Moment) -> Result<u64, StoreError> {
    let sql = sqlx::query("DELETE FROM operations WHERE answered_at IS NOT NULL AND answered_at < $1")
        .bind(before.micros());
    tx.execute("forget old operations", sql).await
}
