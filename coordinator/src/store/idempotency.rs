//! What a repeated request is answered: the first answer again.
//!
//! ```text
//!   claim ─► the request is worked on ─► complete (answered) ─► swept when it is old
//!                        └── release (refused or failed: the next one may try) ──┘
//! ```
//! Keys belong to a user, so that nobody meets another's answers.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::UserId;
use launchpad_protocol::time::Moment;

use super::tx::{StoreError, Tx};

/// A request that was made before with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Digest of that request: method, path and body.
    pub digest: Digest,
    /// Its answer: status and body. None: it is still being worked on, or its coordinator died over it.
    pub answer: Option<(u16, String)>,
    /// When it was claimed or answered.
    pub at: Moment,
}

/// Claims a key for a request. Answers the earlier request if the key is taken, and then changes nothing.
///
/// # Errors
/// When SQL fails.
pub async fn claim(
    tx: &mut Tx,
    user: UserId,
    key: &str,
    digest: Digest,
    now: Moment,
) -> Result<Option<Earlier>, StoreError> {
    let sql = sqlx::query(
        "INSERT INTO idempotency (user_id, request_key, digest, at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_id, request_key) DO NOTHING",
    )
    .bind(user.to_string())
    .bind(key.to_owned())
    .bind(digest.as_bytes().to_vec())
    .bind(now.micros());
    if tx.execute("claim an idempotency key", sql).await? > 0 {
        return Ok(None);
    }
    let sql = sqlx::query("SELECT digest, status, body, at FROM idempotency WHERE user_id = $1 AND request_key = $2")
        .bind(user.to_string())
        .bind(key.to_owned());
    let row = tx.one("read an idempotency key", sql).await?;
    let body = row.text_if_any("body")?;
    let answer = match body {
        Some(body) => Some((u16::try_from(row.int("status")?).unwrap_or_default(), body)),
        None => None,
    };
    Ok(Some(Earlier { digest: row.digest("digest")?, answer, at: row.moment("at")? }))
}

/// Keeps the answer to a claimed request.
///
/// # Errors
/// When SQL fails.
pub async fn complete(
    tx: &mut Tx,
    user: UserId,
    key: &str,
    status: u16,
    body: &str,
    now: Moment,
) -> Result<(), StoreError> {
    let sql =
        sqlx::query("UPDATE idempotency SET status = $3, body = $4, at = $5 WHERE user_id = $1 AND request_key = $2")
            .bind(user.to_string())
            .bind(key.to_owned())
            .bind(i64::from(status))
            .bind(body.to_owned())
            .bind(now.micros());
    tx.execute("keep an answer", sql).await.map(drop)
}

/// Gives a claimed key back, so that the request may be tried again.
///
/// # Errors
/// When SQL fails.
pub async fn release(tx: &mut Tx, user: UserId, key: &str) -> Result<(), StoreError> {
    let sql = sqlx::query("DELETE FROM idempotency WHERE user_id = $1 AND request_key = $2 AND body IS NULL")
        .bind(user.to_string())
        .bind(key.to_owned());
    tx.execute("release an idempotency key", sql).await.map(drop)
}

/// Forgets what is older than that moment. Answers how much.
///
/// # Errors
/// When SQL fails.
pub async fn sweep(tx: &mut Tx, before: Moment) -> Result<u64, StoreError> {
    let sql = sqlx::query("DELETE FROM idempotency WHERE at < $1").bind(before.micros());
    tx.execute("forget old answers", sql).await
}
