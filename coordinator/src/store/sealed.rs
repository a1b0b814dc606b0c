//! What was sealed to hosts: each file of each revision once per host, because sealing again makes other bytes.

use std::collections::BTreeMap;

use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};

use super::revisions::{StoredFile, stored_file};
use super::row::to_int;
use super::tx::{StoreError, Tx};

/// For whom, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedFor {
    /// The tenant.
    pub account: AccountId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Its revision.
    pub revision: Revision,
    /// The host that can open it.
    pub host: HostId,
}

/// A deployment's sealed files by name.
pub type SealedFiles = BTreeMap<String, Vec<u8>>;

/// The files of the deployments on a host, at their current revision, that are not sealed to it yet. What is being
/// terminated needs none.
///
/// # Errors
/// When SQL fails.
pub async fn missing(tx: &mut Tx, host: HostId) -> Result<Vec<(SealedFor, StoredFile)>, StoreError> {
    let sql = sqlx::query(
        "SELECT files.account_id AS account_id, files.deployment_id AS deployment_id, files.revision AS revision,
         files.name AS name, files.version AS version, files.bytes AS bytes,
         files.envelope AS envelope FROM files
         JOIN deployments ON deployments.id = files.deployment_id AND deployments.revision = files.revision
         LEFT JOIN sealed ON sealed.deployment_id = files.deployment_id AND sealed.revision = files.revision
         AND sealed.host_id = deployments.host_id AND sealed.name = files.name
         WHERE deployments.host_id = $1 AND deployments.state NOT IN ('terminating', 'terminated')
         AND sealed.name IS NULL ORDER BY files.deployment_id, files.name",
    )
    .bind(host.to_string());
    let rows = tx.all("find what is not sealed", sql).await?;
    rows.iter()
        .map(|row| {
            let of = SealedFor {
                account: row.parse("account_id")?,
                deployment: row.parse("deployment_id")?,
                revision: Revision(row.uint("revision")?),
                host,
            };
            Ok((of, stored_file(row)?))
        })
        .collect()
}

/// What is sealed to a host of the current revisions of its deployments.
///
/// # Errors
/// When SQL fails.
pub async fn on_host(tx: &mut Tx, host: HostId) -> Result<BTreeMap<DeploymentId, SealedFiles>, StoreError> {
    let sql = sqlx::query(
        "SELECT sealed.deployment_id AS deployment_id, sealed.name AS name, ciphertext FROM sealed
         JOIN deployments ON deployments.id = sealed.deployment_id AND deployments.revision = sealed.revision
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

/// Keeps a sealed file, unless one is there: the first stays.
///
/// # Errors
/// When SQL fails.
pub async fn keep(tx: &mut Tx, of: SealedFor, name: &str, ciphertext: &[u8]) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO sealed (deployment_id, revision, host_id, name, account_id, ciphertext)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (deployment_id, revision, host_id, name) DO NOTHING",
    )
    .bind(of.deployment.to_string())
    .bind(to_int(of.revision.0))
    .bind(of.host.to_string())
    .bind(name.to_owned())
    .bind(of.account.to_string())
    .bind(ciphertext.to_vec());
    tx.execute("keep what is sealed", sql).await.map(drop)
}
