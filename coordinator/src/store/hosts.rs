//! Hosts: who they are, and what they last said of themselves.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_pki::sealing::SealingPublicKey;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::Fence;
use launchpad_protocol::id::HostId;
use launchpad_protocol::report::{Capability, Capacity};
use launchpad_protocol::time::Moment;

use super::row::{Row, to_int, to_json};
use super::tx::{StoreError, Tx};
use crate::domain::host::HostState;

/// A host as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id, which is also in its certificate.
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// The pool it is in.
    pub pool: String,
    /// What it is.
    pub state: HostState,
    /// Whether an operator wants nothing new on it.
    pub cordoned: bool,
    /// The key to which config and secrets are sealed.
    pub sealing_key: Vec<u8>,
    /// Its agent's version.
    pub agent_version: String,
    /// Its size.
    pub capacity: Capacity,
    /// What its agent can do.
    pub features: BTreeSet<Feature>,
    /// What it can enforce.
    pub capabilities: BTreeMap<String, Capability>,
    /// The number of its latest session.
    pub fence: Fence,
    /// When it joined.
    pub enrolled_at: Moment,
    /// When it last reported.
    pub last_seen_at: Option<Moment>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, pool, state, cordoned_at, sealing_key, agent_version, capacity, features, capabilities, fence, \
             enrolled_at, last_seen_at FROM hosts ",
            $rest
        )
    };
}

/// A host that has just joined and has said nothing yet.
#[must_use]
pub fn newcomer(id: HostId, name: String, pool: String, sealing_key: &SealingPublicKey, now: Moment) -> Host {
    Host {
        id,
        name,
        pool,
        state: HostState::Pending,
        cordoned: false,
        sealing_key: sealing_key.as_bytes().to_vec(),
        agent_version: String::new(),
        capacity: Capacity::default(),
        features: BTreeSet::new(),
        capabilities: BTreeMap::new(),
        fence: Fence::default(),
        enrolled_at: now,
        last_seen_at: None,
    }
}

/// Adds a host.
///
/// # Errors
/// When SQL fails.
pub async fn create(tx: &mut Tx, host: &Host) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO hosts (id, name, pool, state, sealing_key, agent_version, capacity, features, capabilities, fence,
         enrolled_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(host.id.to_string())
    .bind(host.name.clone())
    .bind(host.pool.clone())
    .bind(host.state.as_str())
    .bind(host.sealing_key.clone())
    .bind(host.agent_version.clone())
    .bind(to_json(&host.capacity))
    .bind(to_json(&host.features))
    .bind(to_json(&host.capabilities))
    .bind(to_int(host.fence.0))
    .bind(host.enrolled_at.micros())
    .bind(host.last_seen_at.map(Moment::micros));
    tx.execute("add a host", sql).await.map(drop)
}

/// One host.
///
/// # Errors
/// When SQL fails.
pub async fn get(tx: &mut Tx, id: HostId) -> Result<Option<Host>, StoreError> {
    let sql = sqlx::query(select!("WHERE id = $1")).bind(id.to_string());
    tx.optional("read a host", sql).await?.as_ref().map(host).transpose()
}

/// All hosts, by id.
///
/// # Errors
/// When SQL fails.
pub async fn all(tx: &mut Tx) -> Result<Vec<Host>, StoreError> {
    let sql = sqlx::query(select!("ORDER BY id"));
    tx.all("list the hosts", sql).await?.iter().map(host).collect()
}

/// The hosts that were revoked.
///
/// # Errors
/// When SQL fails.
pub async fn retired(tx: &mut Tx) -> Result<BTreeSet<HostId>, StoreError> {
    let sql = sqlx::query("SELECT id FROM hosts WHERE state = 'retired' ORDER BY id");
    tx.all("list retired hosts", sql).await?.iter().map(|row| Ok(row.parse("id")?)).collect()
}

/// Gives a host's next session its number. None: there is no such host, or it is retired.
///
/// # Errors
/// When SQL fails.
pub async fn next_fence(tx: &mut Tx, id: HostId) -> Result<Option<Fence>, StoreError> {
    let sql = sqlx::query("UPDATE hosts SET fence = fence + 1 WHERE id = $1 AND state <> 'retired' RETURNING fence")
        .bind(id.to_string());
    match tx.optional("number a host's session", sql).await? {
        Some(row) => Ok(Some(Fence(row.uint("fence")?))),
        None => Ok(None),
    }
}

/// Keeps what an agent says of itself when it greets.
///
/// # Errors
/// When SQL fails.
pub async fn introduce(
    tx: &mut Tx,
    id: HostId,
    agent_version: &str,
    features: &BTreeSet<Feature>,
) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE hosts SET agent_version = $2, features = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(agent_version.to_owned())
        .bind(to_json(features));
    tx.execute("keep what a host can do", sql).await.map(drop)
}

/// What a host says of itself with every report.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What it is now.
    pub state: HostState,
    /// Its size.
    pub capacity: Capacity,
    /// What it can enforce.
    pub capabilities: &'a BTreeMap<String, Capability>,
}

/// Keeps that a host has spoken, and what it said of itself.
///
/// # Errors
/// When SQL fails.
pub async fn seen(tx: &mut Tx, id: HostId, seen: Seen<'_>, now: Moment) -> Result<(), StoreError> {
    let sql =
        sqlx::query("UPDATE hosts SET state = $2, capacity = $3, capabilities = $4, last_seen_at = $5 WHERE id = $1")
            .bind(id.to_string())
            .bind(seen.state.as_str())
            .bind(to_json(&seen.capacity))
            .bind(to_json(seen.capabilities))
            .bind(now.micros());
    tx.execute("keep that a host was seen", sql).await.map(drop)
}

/// Keeps what a host is now.
///
/// # Errors
/// When SQL fails.
pub async fn set_state(tx: &mut Tx, id: HostId, state: HostState) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE hosts SET state = $2 WHERE id = $1").bind(id.to_string()).bind(state.as_str());
    tx.execute("keep a host's state", sql).await.map(drop)
}

/// Keeps since when an operator wants nothing new on a host, and what it is now; none: anything may come.
///
/// # Errors
/// When SQL fails.
pub async fn set_cordon(
    tx: &mut Tx,
    id: HostId,
    cordoned_at: Option<Moment>,
    state: HostState,
) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE hosts SET cordoned_at = $2, state = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(cordoned_at.map(Moment::micros))
        .bind(state.as_str());
    tx.execute("keep whether a host is cordoned", sql).await.map(drop)
}

fn host(row: &Row) -> Result<Host, StoreError> {
    Ok(Host {
        id: row.parse("id")?,
        name: row.text("name")?,
        pool: row.text("pool")?,
        state: row.parse("state")?,
        cordoned: row.moment_if_any("cordoned_at")?.is_some(),
        sealing_key: row.bytes("sealing_key")?,
        agent_version: row.text("agent_version")?,
        capacity: row.json("capacity")?,
        features: row.json("features")?,
        capabilities: row.json("capabilities")?,
        fence: Fence(row.uint("fence")?),
        enrolled_at: row.moment("enrolled_at")?,
        last_seen_at: row.moment_if_any("last_seen_at")?,
    })
}
