//! The hosts' specs: the latest of each as it travels, and the floor that each host claims to hold.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Accepted, Generation};
use launchpad_protocol::id::{HostId, IncarnationId};
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::time::Moment;

use super::row::{Row, to_int};
use super::tx::{StoreError, Tx};

/// The latest spec of a host.
///
/// # Errors
/// When SQL fails.
pub async fn latest(tx: &mut Tx, host: HostId) -> Result<Option<SpecOffer>, StoreError> {
    let sql =
        sqlx::query("SELECT generation, digest, bytes FROM host_specs WHERE host_id = $1").bind(host.to_string());
    let Some(row) = tx.optional("read a host's spec", sql).await? else { return Ok(None) };
    Ok(Some(SpecOffer {
        generation: Generation(row.uint("generation")?),
        digest: row.digest("digest")?,
        bytes: row.bytes("bytes")?,
    }))
}

/// Whether that is the latest spec of a host.
///
/// # Errors
/// When SQL fails.
pub async fn is_latest(tx: &mut Tx, host: HostId, held: Accepted) -> Result<bool, StoreError> {
    let sql = sqlx::query("SELECT host_id FROM host_specs WHERE host_id = $1 AND generation = $2 AND digest = $3")
        .bind(host.to_string())
        .bind(to_int(held.generation.0))
        .bind(held.digest.as_bytes().to_vec());
    Ok(tx.optional("see whether a host holds its latest spec", sql).await?.is_some())
}

/// What identifies the latest spec of each host that has one, without the bytes.
///
/// # Errors
/// When SQL fails.
pub async fn latest_of_all(tx: &mut Tx) -> Result<Vec<(HostId, Accepted)>, StoreError> {
    let sql = sqlx::query("SELECT host_id, generation, digest FROM host_specs ORDER BY host_id");
    let rows = tx.all("list the hosts' specs", sql).await?;
    rows.iter().map(|row| Ok((row.parse("host_id")?, accepted(row)?))).collect()
}

/// Puts a host's next spec in the place of the one that was read. Answers false, and changes nothing, when another
/// replica was faster.
///
/// # Errors
/// When SQL fails.
pub async fn publish(
    tx: &mut Tx,
    host: HostId,
    read: Option<Generation>,
    next: &SpecOffer,
    now: Moment,
) -> Result<bool, StoreError> {
    let sql = match read {
        Some(read) => sqlx::query(
            "UPDATE host_specs SET generation = $2, digest = $3, bytes = $4, published_at = $5
             WHERE host_id = $1 AND generation = $6",
        )
        .bind(host.to_string())
        .bind(to_int(next.generation.0))
        .bind(next.digest.as_bytes().to_vec())
        .bind(next.bytes.clone())
        .bind(now.micros())
        .bind(to_int(read.0)),
        None => sqlx::query(
            "INSERT INTO host_specs (host_id, generation, digest, bytes, published_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (host_id) DO NOTHING",
        )
        .bind(host.to_string())
        .bind(to_int(next.generation.0))
        .bind(next.digest.as_bytes().to_vec())
        .bind(next.bytes.clone())
        .bind(now.micros()),
    };
    Ok(tx.execute("publish a host's spec", sql).await? > 0)
}

/// The highest spec that a host ever said to hold.
///
/// # Errors
/// When SQL fails.
pub async fn floor(tx: &mut Tx, host: HostId) -> Result<Option<Accepted>, StoreError> {
    let sql = sqlx::query("SELECT generation, digest FROM host_floors WHERE host_id = $1").bind(host.to_string());
    tx.optional("read a host's floor", sql).await?.as_ref().map(accepted).transpose()
}

/// Keeps what a host says to hold, if it is higher than before.
///
/// # Errors
/// When SQL fails.
pub async fn raise_floor(tx: &mut Tx, host: HostId, held: Accepted, now: Moment) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO host_floors (host_id, generation, digest, seen_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (host_id) DO UPDATE SET generation = excluded.generation, digest = excluded.digest,
         seen_at = excluded.seen_at, confirmed_in = NULL WHERE excluded.generation > host_floors.generation",
    )
    .bind(host.to_string())
    .bind(to_int(held.generation.0))
    .bind(held.digest.as_bytes().to_vec())
    .bind(now.micros());
    tx.execute("keep a host's floor", sql).await.map(drop)
}

/// Keeps that publishing goes on above a host's floor, in that life of the store.
///
/// # Errors
/// When SQL fails.
pub async fn confirm_floor(tx: &mut Tx, host: HostId, life: IncarnationId) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE host_floors SET confirmed_in = $2 WHERE host_id = $1")
        .bind(host.to_string())
        .bind(life.to_string());
    tx.execute("confirm a host's floor", sql).await.map(drop)
}

/// Whether a host may hold that generation without anybody having to look: publishing goes on above it, in that life
/// of the store.
///
/// # Errors
/// When SQL fails.
pub async fn is_confirmed(
    tx: &mut Tx,
    host: HostId,
    held: Generation,
    life: IncarnationId,
) -> Result<bool, StoreError> {
    let sql =
        sqlx::query("SELECT host_id FROM host_floors WHERE host_id = $1 AND confirmed_in = $2 AND generation >= $3")
            .bind(host.to_string())
            .bind(life.to_string())
            .bind(to_int(held.0));
    Ok(tx.optional("see whether a host's floor is confirmed", sql).await?.is_some())
}

fn accepted(row: &Row) -> Result<Accepted, StoreError> {
    let digest: Digest = row.digest("digest")?;
    Ok(Accepted { generation: Generation(row.uint("generation")?), digest })
}
