//! Secrets by name: what people are shown of them. Their envelopes are rows of `files`, beside the config's
//! (`revisions.rs`).

use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::time::Moment;

use super::row::to_int;
use super::tx::{StoreError, Tx};

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// What it is called.
    pub name: String,
    /// The revision that brought its value.
    pub version: Revision,
    /// When it got that value.
    pub set_at: Moment,
}

/// The files of one revision by name, but for the config.
///
/// # Errors
/// When SQL fails.
pub async fn list(
    tx: &mut Tx,
    deployment: DeploymentId,
    revision: Revision,
    config: &str,
) -> Result<Vec<SecretRow>, StoreError> {
    let sql = sqlx::query(
        "SELECT files.name AS name, files.version AS version, revisions.created_at AS set_at FROM files
         JOIN revisions ON revisions.deployment_id = files.deployment_id AND revisions.number = files.version
         WHERE files.deployment_id = $1 AND files.revision = $2 AND files.name <> $3 ORDER BY files.name",
    )
    .bind(deployment.to_string())
    .bind(to_int(revision.0))
    .bind(config.to_owned());
    let rows = tx.all("list secrets", sql).await?;
    rows.iter()
        .map(|row| {
            Ok(SecretRow {
                name: row.text("name")?,
                version: Revision(row.uint("version")?),
                set_at: row.moment("set_at")?,
            })
        })
        .collect()
}

/// Destroys every value that a secret ever had: whoever takes one away does not want it kept in an older
/// revision.
///
/// # Errors
/// When SQL fails.
pub async fn destroy(tx: &mut Tx, deployment: DeploymentId, name: &str) -> Result<(), StoreError> {
    for (step, statement) in [
        ("destroy a sealed secret", "DELETE FROM sealed WHERE deployment_id = $1 AND name = $2"),
        ("destroy a secret", "DELETE FROM files WHERE deployment_id = $1 AND name = $2"),
    ] {
        let sql = sqlx::query(statement).bind(deployment.to_string()).bind(name.to_owned());
        tx.execute(step, sql).await?;
    }
    Ok(())
}
