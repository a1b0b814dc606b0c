//! What was sealed to hosts: each version of each file once per host, because sealing again makes other bytes.

use std::collections::BTreeMap;

use launchpad_protocol::id::{AccountId, DeploymentId, HostId};

use super::revisions::{StoredFile, stored_file};
use super::row::to_int;
use super::tx::{StoreError, Tx};

/// For whom, and whose file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedFor {
    /// The tenant.
    pub account: AccountId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The host that can open it.
    pub host: HostId,
}

/// A deployment's sealed files by name.
pub type SealedFiles = BTreeMap<String, Vec<u8>>;

/// The files of the deployments on a host, as their current revisions have them, that are not sealed to it yet. What is
/// being terminated needs none.
///
/// # Errors
/// When SQL fails.
pub async fn missing(tx: &mut Tx, host: HostId) -> Result<Vec<(SealedFor, StoredFile)>, StoreError> {
    let sql = sqlx::query(
        "SELECT files.account_id AS account_id, files.deployment_id AS deployment_id,
         files.name AS name, files.version AS version, files.bytes AS bytes,
         files.envelope AS envelope FROM files
         JOIN deployments ON deployments.id = files.deployment_id AND deployments.revision = files.revision
         LEFT JOIN sealed ON sealed.deployment_id = files.deployment_id AND sealed.host_id = deployments.host_id
         AND sealed.name = files.name AND sealed.version = files.version
         WHERE deployments.host_id = $1 AND deployments.state NOT IN ('terminating', 'terminated')
         AND sealed.name IS NULL ORDER BY files.deployment_id, files.name",
    )
    .bind(host.to_string());
    let rows = tx.all("find what is not sealed", sql).await?;
    rows.iter()
        .map(|row| {
            let of = SealedFor { account: row.parse("account_id")?, deployment: row.parse("deployment_id")?, host };
            Ok((of, stored_file(row)?))
        })
        .collect()
}

/// What is sealed to a host of the files that the current revisions of its deployments have.
///
/// # Errors
/// When SQL fails.
pub async fn on_host(tx: &mut Tx, host: HostId) -> Result<BTreeMap<DeploymentId, SealedFiles>, StoreError> {
    let sql = sqlx::query(
        "SELECT sealed.deployment_id AS deployment_id, sealed.name AS name, ciphertext FROM sealed
         JOIN deployments ON deployments.id = sealed.deployment_id
         JOIN files ON files.deployment_id = deployments.id AND files.revision = deployments.revision
         AND files.name = sealed.name AND files.version = sealed.version
         WHERE sealed.host_id = $1",
    )
    .bind(host.to_string());
    let mut sealed: BTreeMap<DeploymentId, SealedFiles> = BTreeMap::new();
    for row in tx.all("read what is sealed to a host", sql).await? {
        let files = sealed.entry(row.parse("deployment_id")?).or_default();
        files.insert(row.text("name")?, row.bytes("ciphertext")?);
    }
    Ok(sealed)
}

/// Keeps a version of a file as it was sealed, unless one is there: the first stays.
///
/// # Errors
/// When SQL fails.
pub async fn keep(tx: &mut Tx, of: SealedFor, file: &StoredFile, ciphertext: &[u8]) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO sealed (deployment_id, host_id, name, version, account_id, ciphertext)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (deployment_id, host_id, name, version) DO NOTHING",
    )
    .bind(of.deployment.to_string())
    .bind(of.host.to_string())
    .bind(file.name.clone())
    .bind(to_int(file.version))
    .bind(of.account.to_string())
    .bind(ciphertext.to_vec());
    tx.execute("keep what is sealed", sql).await.map(drop)
}

/// Destroys what is sealed of a deployment's files that no revision has any more.
///
/// # Errors
/// When SQL fails.
pub(super) async fn prune(tx: &mut Tx, deployment: DeploymentId) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "DELETE FROM sealed WHERE deployment_id = $1 AND NOT EXISTS (SELECT 1 FROM files
         WHERE files.deployment_id = sealed.deployment_id AND files.name = sealed.name
         AND files.version = sealed.version)",
    )
    .bind(deployment.to_string());
    tx.execute("destroy what was sealed of old files", sql).await.map(drop)
}
