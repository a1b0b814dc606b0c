//! The audit log: appended in the transaction of the change that it records, chained by hashes.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::AccountId;
use launchpad_protocol::time::Moment;

use super::row::{to_int, to_json};
use super::tx::{StoreError, Tx};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditEntry, chain, genesis};

/// What was done, for [`record`].
#[derive(Debug, Clone)]
pub struct Deed {
    /// `deployment.create`.
    pub action: &'static str,
    /// The id of what it was done to.
    pub target: String,
    /// In whose account; none: the fleet's.
    pub account: Option<AccountId>,
    /// What else matters; nothing secret.
    pub detail: String,
}

/// Appends what an actor did. Beyond their own account it says so.
///
/// # Errors
/// When SQL fails.
pub async fn record(tx: &mut Tx, actor: &Actor, deed: Deed, now: Moment) -> Result<(), StoreError> {
    let entry = AuditEntry {
        at: now,
        user: Some(actor.user),
        role: actor.role.to_string(),
        account: deed.account,
        cross_account: deed.account.is_some() && deed.account != actor.account,
        action: deed.action.to_owned(),
        target: deed.target,
        detail: deed.detail,
    };
    append(tx, &entry).await
}

/// Appends an entry. Writers are in line, so that the last entry stays the last until the commit.
///
/// # Errors
/// When SQL fails.
pub async fn append(tx: &mut Tx, entry: &AuditEntry) -> Result<(), StoreError> {
    let sql = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1");
    let (seq, previous) = match tx.optional("read the end of the audit log", sql).await? {
        Some(row) => (row.uint("seq")? + 1, row.digest("hash")?),
        None => (1, genesis()),
    };
    let sql = sqlx::query("INSERT INTO audit (seq, account_id, entry, hash) VALUES ($1, $2, $3, $4)")
        .bind(to_int(seq))
        .bind(entry.account.map(|account| account.to_string()))
        .bind(to_json(entry))
        .bind(chain(previous, entry).as_bytes().to_vec());
    tx.execute("write the audit log", sql).await.map(drop)
}

/// The whole log with its hashes, oldest first.
///
/// # Errors
/// When SQL fails.
pub async fn all(tx: &mut Tx) -> Result<Vec<(AuditEntry, Digest)>, StoreError> {
    let sql = sqlx::query("SELECT entry, hash FROM audit ORDER BY seq");
    let rows = tx.all("read the audit log", sql).await?;
    rows.iter().map(|row| Ok((row.json("entry")?, row.digest("hash")?))).collect()
}
