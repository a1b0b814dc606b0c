//! Upgrades of agents: the rings of hosts, each upgrade as a whole, and the version that is wished of each host's agent.

use std::collections::BTreeMap;

use launchpad_protocol::id::HostId;
use launchpad_protocol::spec::AgentUpgrade;

use super::row::to_json;
use super::tx::{StoreError, Tx};
use crate::domain::upgrade::Upgrade;

/// The rings of hosts that were put into one.
///
/// # Errors
/// When SQL fails.
pub async fn rings(tx: &mut Tx) -> Result<BTreeMap<HostId, String>, StoreError> {
    let sql = sqlx::query("SELECT host_id, ring FROM rings ORDER BY host_id");
    let rows = tx.all("list the rings", sql).await?;
    rows.iter().map(|row| Ok((row.parse("host_id")?, row.text("ring")?))).collect()
}

/// Puts a host into a ring.
///
/// # Errors
/// When SQL fails.
pub async fn put_into_ring(tx: &mut Tx, host: HostId, ring: &str) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO rings (host_id, ring) VALUES ($1, $2) ON CONFLICT (host_id) DO UPDATE SET ring = excluded.ring",
    )
    .bind(host.to_string())
    .bind(ring.to_owned());
    tx.execute("put a host into a ring", sql).await.map(drop)
}

/// The latest upgrade.
///
/// # Errors
/// When SQL fails.
pub async fn latest(tx: &mut Tx) -> Result<Option<Upgrade>, StoreError> {
    let sql = sqlx::query("SELECT upgrade FROM upgrades ORDER BY begun_at DESC, id DESC LIMIT 1");
    let row = tx.optional("read the latest upgrade", sql).await?;
    row.map(|row| Ok(row.json("upgrade")?)).transpose()
}

/// Keeps an upgrade as it is now.
///
/// # Errors
/// When SQL fails.
pub async fn keep(tx: &mut Tx, upgrade: &Upgrade) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO upgrades (id, begun_at, upgrade) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET upgrade = excluded.upgrade",
    )
    .bind(upgrade.id.to_string())
    .bind(upgrade.begun_at.micros())
    .bind(to_json(upgrade));
    tx.execute("keep an upgrade", sql).await.map(drop)
}

/// What is wished of that host's agent.
///
/// # Errors
/// When SQL fails.
pub async fn wish(tx: &mut Tx, host: HostId) -> Result<Option<AgentUpgrade>, StoreError> {
    let sql = sqlx::query("SELECT operation_id, version FROM agent_wishes WHERE host_id = $1").bind(host.to_string());
    let row = tx.optional("read what is wished of an agent", sql).await?;
    row.map(|row| Ok(AgentUpgrade { operation: row.parse("operation_id")?, version: row.parse("version")? }))
        .transpose()
}

/// Wishes that of the host's agent from now on.
///
/// # Errors
/// When SQL fails.
pub async fn set_wish(tx: &mut Tx, host: HostId, wish: Option<&AgentUpgrade>) -> Result<(), StoreError> {
    let sql = match wish {
        Some(wish) => sqlx::query(
            "INSERT INTO agent_wishes (host_id, operation_id, version) VALUES ($1, $2, $3)
             ON CONFLICT (host_id) DO UPDATE SET operation_id = excluded.operation_id, version = excluded.version",
        )
        .bind(host.to_string())
        .bind(wish.operation.to_string())
        .bind(wish.version.to_string()),
        None => sqlx::query("DELETE FROM agent_wishes WHERE host_id = $1").bind(host.to_string()),
    };
    tx.execute("keep what is wished of an agent", sql).await.map(drop)
}
