//! What was sealed to hosts: each file of each revision once per host, because sealing again makes other bytes.

use std::collections::BTreeMap;

use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};

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

/// What is sealed already, by file name.
///
/// # Errors
/// When SQL fails.
pub async fn get(tx: &mut Tx, of: SealedFor) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
    let sql = sqlx::query(
        "SELECT name, ciphertext FROM sealed WHERE deployment_id = $1 AND revision = $2 AND host_id = $3 ORDER BY name",
    )
    .bind(of.deployment.to_string())
    .bind(to_int(of.revision.0))
    .bind(of.host.to_string());
    let rows = tx.all("read what is sealed", sql).await?;
    rows.iter().map(|row| Ok((row.text("name")?, row.bytes("ciphertext")?))).collect()
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
