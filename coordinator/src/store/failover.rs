//! What keeps bots from moving: which hosts fell silent together.

use super::row::to_json;
use super::tx::{StoreError, Tx};
use crate::domain::silence::Suspicion;

/// What is suspected.
///
/// # Errors
/// When SQL fails.
pub async fn suspicion(tx: &mut Tx) -> Result<Suspicion, StoreError> {
    let sql = sqlx::query("SELECT suspicion FROM failover");
    match tx.optional("read which hosts fell silent together", sql).await? {
        Some(row) => Ok(row.json("suspicion")?),
        None => Ok(Suspicion::default()),
    }
}

/// Keeps what is suspected.
///
/// # Errors
/// When SQL fails.
pub async fn keep(tx: &mut Tx, suspicion: &Suspicion) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO failover (one, suspicion) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET suspicion = $1",
    )
    .bind(to_json(suspicion));
    tx.execute("keep which hosts fell silent together", sql).await.map(drop)
}
