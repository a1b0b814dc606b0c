//! Tombstones: orders to remove a deployment from a host, in the host's spec until it has carried them out.

use std::time::Duration;

use launchpad_protocol::id::{DeploymentId, HostId, TombstoneId};
use launchpad_protocol::spec::{Tombstone, TombstoneScope};
use launchpad_protocol::time::Moment;

use super::row::{Row, to_int};
use super::tx::{StoreError, Tx};

const fn scope_text(scope: TombstoneScope) -> &'static str {
    match scope {
        TombstoneScope::Container => "container",
        TombstoneScope::Data => "data",
    }
}

/// Adds a tombstone on a host.
///
/// # Errors
/// When SQL fails.
pub async fn create(tx: &mut Tx, host: HostId, tombstone: &Tombstone, now: Moment) -> Result<(), StoreError> {
    let grace = u64::try_from(tombstone.stop_grace.as_millis()).unwrap_or(u64::MAX);
    let sql = sqlx::query(
        "INSERT INTO tombstones (id, deployment_id, account_id, host_id, scope, stop_grace_ms, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tombstone.id.to_string())
    .bind(tombstone.deployment.to_string())
    .bind(tombstone.account.to_string())
    .bind(host.to_string())
    .bind(scope_text(tombstone.scope))
    .bind(to_int(grace))
    .bind(now.micros());
    tx.execute("add a tombstone", sql).await.map(drop)
}

/// What a host has still to remove, by id.
///
/// # Errors
/// When SQL fails.
pub async fn unburied(tx: &mut Tx, host: HostId) -> Result<Vec<Tombstone>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, deployment_id, account_id, scope, stop_grace_ms FROM tombstones
         WHERE host_id = $1 AND buried_at IS NULL ORDER BY id",
    )
    .bind(host.to_string());
    tx.all("read a host's tombstones", sql).await?.iter().map(tombstone).collect()
}

/// Whether a deployment's data has been ordered away.
///
/// # Errors
/// When SQL fails.
pub async fn data_is_ordered_away(tx: &mut Tx, deployment: DeploymentId) -> Result<bool, StoreError> {
    let sql = sqlx::query("SELECT id FROM tombstones WHERE deployment_id = $1 AND scope = 'data' LIMIT 1")
        .bind(deployment.to_string());
    Ok(tx.optional("read a deployment's tombstones", sql).await?.is_some())
}

/// Keeps that a tombstone was carried out. Answers false when that was known.
///
/// # Errors
/// When SQL fails.
pub async fn bury(tx: &mut Tx, id: TombstoneId, now: Moment) -> Result<bool, StoreError> {
    let sql = sqlx::query("UPDATE tombstones SET buried_at = $2 WHERE id = $1 AND buried_at IS NULL")
        .bind(id.to_string())
        .bind(now.micros());
    Ok(tx.execute("keep that a tombstone was carried out", sql).await? > 0)
}

/// Forgets tombstones of terminated deployments that were carried out before that moment: while a deployment's data is
/// kept, they say that its container is gone. Answers how many.
///
/// # Errors
/// When SQL fails.
pub async fn sweep(tx: &mut Tx, before: Moment) -> Result<u64, StoreError> {
    let sql = sqlx::query(
        "DELETE FROM tombstones WHERE buried_at IS NOT NULL AND buried_at < $1
         AND deployment_id IN (SELECT id FROM deployments WHERE state = 'terminated')",
    )
    .bind(before.micros());
    tx.execute("forget old tombstones", sql).await
}

fn tombstone(row: &Row) -> Result<Tombstone, StoreError> {
    Ok(Tombstone {
        id: row.parse("id")?,
        deployment: row.parse("deployment_id")?,
        account: row.parse("account_id")?,
        scope: if row.text("scope")? == "data" { TombstoneScope::Data } else { TombstoneScope::Container },
        stop_grace: Duration::from_millis(row.uint("stop_grace_ms")?),
    })
}
