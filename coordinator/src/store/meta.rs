//! The store's own row: which life of it this is, and whether publishing stands still.
//!
//! Freezing, for whatever reason, says that the store may be older than its fleet. So in the same transaction what waits
//! to happen once is refused (it may have happened), and no report that came before is evidence any more.

use launchpad_protocol::id::IncarnationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::time::Moment;

use super::row::to_json;
use super::tx::{StoreError, Tx};
use super::{operations, reports, strangers};
use crate::domain::recovery::operation_of_a_copy;

/// Whether `init` has been here.
pub(super) async fn is_stamped(tx: &mut Tx) -> Result<bool, StoreError> {
    let sql = sqlx::query("SELECT one FROM meta");
    Ok(tx.optional("read its own row", sql).await?.is_some())
}

/// Begins the store's first life. For `init`, once.
///
/// # Errors
/// When SQL fails, as it does the second time.
pub async fn stamp(tx: &mut Tx, incarnation: IncarnationId) -> Result<(), StoreError> {
    let sql = sqlx::query("INSERT INTO meta (one, incarnation) VALUES (1, $1)").bind(incarnation.to_string());
    tx.execute("write its own row", sql).await.map(drop)
}

/// Begins another life, with publishing frozen for that reason. For `restore`.
///
/// # Errors
/// When SQL fails.
pub async fn restamp(
    tx: &mut Tx,
    incarnation: IncarnationId,
    frozen: &Reason,
    now: Moment,
) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE meta SET incarnation = $1, frozen = $2")
        .bind(incarnation.to_string())
        .bind(to_json(frozen));
    tx.execute("stamp a new incarnation", sql).await?;
    distrust(tx, now).await
}

/// Which life of the store this is.
///
/// # Errors
/// When SQL fails.
pub async fn incarnation(tx: &mut Tx) -> Result<IncarnationId, StoreError> {
    let sql = sqlx::query("SELECT incarnation FROM meta");
    let row = tx.optional("read its incarnation", sql).await?.ok_or(StoreError::Missing { what: "incarnation" })?;
    Ok(row.parse("incarnation")?)
}

/// Why publishing stands still; none: it does not.
///
/// # Errors
/// When SQL fails.
pub async fn frozen(tx: &mut Tx) -> Result<Option<Reason>, StoreError> {
    let sql = sqlx::query("SELECT frozen FROM meta");
    match tx.optional("read whether publishing is frozen", sql).await? {
        Some(row) => Ok(row.json_if_any("frozen")?),
        None => Ok(None),
    }
}

/// Freezes publishing, unless it is frozen already: the first reason is the one to mend. Answers whether it was news.
///
/// # Errors
/// When SQL fails.
pub async fn freeze(tx: &mut Tx, reason: &Reason, now: Moment) -> Result<bool, StoreError> {
    let sql = sqlx::query("UPDATE meta SET frozen = $1 WHERE frozen IS NULL").bind(to_json(reason));
    let news = tx.execute("freeze publishing", sql).await? > 0;
    if news {
        distrust(tx, now).await?;
    }
    Ok(news)
}

/// What this store remembers may be older than what hosts have done.
async fn distrust(tx: &mut Tx, now: Moment) -> Result<(), StoreError> {
    operations::answer_all(tx, &Outcome::Refused { reason: operation_of_a_copy() }, now).await?;
    strangers::outdate_all(tx).await?;
    reports::outdate_all(tx).await
}

/// Lets publishing go on.
///
/// # Errors
/// When SQL fails.
pub async fn thaw(tx: &mut Tx) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE meta SET frozen = NULL");
    tx.execute("unfreeze publishing", sql).await.map(drop)
}
