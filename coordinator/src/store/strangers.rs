//! Strangers: hosts with a certificate of ours of which this store knows nothing, because it is older than they are.
//!
//! Nothing can be asked of them and nothing of theirs is taken over. They are written down for whoever confirms a
//! recovery: what they run is not in this store, or is there as a wish that waits for a host.

use launchpad_protocol::id::HostId;
use launchpad_protocol::time::Moment;

use super::tx::{StoreError, Tx};

/// Whether a stranger was ever here.
///
/// # Errors
/// When SQL fails.
pub async fn is_noted(tx: &mut Tx, host: HostId) -> Result<bool, StoreError> {
    let sql = sqlx::query("SELECT host_id FROM strangers WHERE host_id = $1").bind(host.to_string());
    Ok(tx.optional("look a stranger up", sql).await?.is_some())
}

/// Keeps that a stranger was here.
///
/// # Errors
/// When SQL fails.
pub async fn note(tx: &mut Tx, host: HostId, now: Moment) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO strangers (host_id, seen_at, outdated) VALUES ($1, $2, 0)
         ON CONFLICT (host_id) DO UPDATE SET seen_at = excluded.seen_at, outdated = 0",
    )
    .bind(host.to_string())
    .bind(now.micros());
    tx.execute("keep that a stranger was here", sql).await.map(drop)
}

/// The strangers that were here since publishing was last frozen, each with when it last was, by id.
///
/// # Errors
/// When SQL fails.
pub async fn current(tx: &mut Tx) -> Result<Vec<(HostId, Moment)>, StoreError> {
    let sql = sqlx::query("SELECT host_id, seen_at FROM strangers WHERE outdated = 0 ORDER BY host_id");
    let rows = tx.all("list strangers", sql).await?;
    rows.iter().map(|row| Ok((row.parse("host_id")?, row.moment("seen_at")?))).collect()
}

/// Who is still there comes again. For freezing.
pub(super) async fn outdate_all(tx: &mut Tx) -> Result<(), StoreError> {
    tx.execute("set earlier strangers aside", sqlx::query("UPDATE strangers SET outdated = 1")).await.map(drop)
}
