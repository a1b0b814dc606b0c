//! Revisions: everything that a deployment's container is made from, pinned when it was wished.
//!
//! Each has its own rows of files, so that one can be compiled without the others; a file that did not change is the same
//! envelope of the same version in both.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_pki::envelope::{Envelope, EnvelopeContext};
use launchpad_protocol::egress::EgressRule;
use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::spec::InstanceSpec;
use launchpad_protocol::time::Moment;

use super::row::{Row, to_int, to_json};
use super::tx::{StoreError, Tx};
use super::{keys, sealed};
use crate::domain::plan_table::Plan;

/// Revisions of which configs and secrets are kept: enough to look at and to go back to, and a bound on what somebody can
/// make the store hold who changes a secret in a loop.
pub const FILES_KEPT: u64 = 10;

/// One revision of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedRevision {
    /// The workload, as its profile was.
    pub profile: Profile,
    /// The limits, as the plan was.
    pub plan: Plan,
    /// What its owner lets it reach beyond the profile.
    pub egress: BTreeSet<EgressRule>,
    /// What `domain::revision` made of both; it names deployment, account, number, image and recreate hash.
    pub blueprint: InstanceSpec,
    /// When.
    pub created_at: Moment,
}

/// A config or a secret as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Which file.
    pub name: String,
    /// The version that the envelope is bound to: the revision that brought this content.
    pub version: u64,
    /// Bytes of the content.
    pub bytes: u64,
    /// The content, encrypted.
    pub envelope: Envelope,
}

impl StoredFile {
    /// What the envelope decrypts as.
    #[must_use]
    pub fn context(&self, account: AccountId, deployment: DeploymentId) -> EnvelopeContext {
        EnvelopeContext { account, deployment, file: self.name.clone(), version: self.version }
    }
}

/// Adds a revision with its files. The files of revisions long past are destroyed.
///
/// # Errors
/// [`StoreError::Raced`] when the key that wraps one was retired since it was encrypted; or when SQL fails.
pub async fn create(tx: &mut Tx, revision: &PinnedRevision, files: &[StoredFile]) -> Result<(), StoreError> {
    let spec = &revision.blueprint;
    let sql = sqlx::query(
        "INSERT INTO revisions (deployment_id, number, account_id, profile, plan, egress, image, blueprint,
         recreate_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(spec.deployment.to_string())
    .bind(to_int(spec.revision.0))
    .bind(spec.account.to_string())
    .bind(to_json(&revision.profile))
    .bind(to_json(&revision.plan))
    .bind(to_json(&revision.egress))
    .bind(spec.image.to_string())
    .bind(to_json(spec))
    .bind(spec.recreate_hash.to_string())
    .bind(revision.created_at.micros());
    tx.execute("add a revision", sql).await?;
    for file in files {
        keys::refuse_retired(tx, &file.envelope.key_id).await?;
        let sql = sqlx::query(
            "INSERT INTO files (deployment_id, revision, name, account_id, version, bytes, key_id, envelope)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(spec.deployment.to_string())
        .bind(to_int(spec.revision.0))
        .bind(file.name.clone())
        .bind(spec.account.to_string())
        .bind(to_int(file.version))
        .bind(to_int(file.bytes))
        .bind(file.envelope.key_id.clone())
        .bind(to_json(&file.envelope));
        tx.execute("add a sealed file", sql).await?;
    }
    let sql = sqlx::query("DELETE FROM files WHERE deployment_id = $1 AND revision <= $2")
        .bind(spec.deployment.to_string())
        .bind(to_int(spec.revision.0.saturating_sub(FILES_KEPT)));
    tx.execute("destroy old files", sql).await?;
    sealed::prune(tx, spec.deployment).await
}

/// One revision.
///
/// # Errors
/// [`StoreError::Missing`] when there is no such revision; or when SQL fails.
pub async fn get(tx: &mut Tx, deployment: DeploymentId, number: Revision) -> Result<PinnedRevision, StoreError> {
    let sql = sqlx::query(
        "SELECT profile, plan, egress, blueprint, created_at FROM revisions WHERE deployment_id = $1 AND number = $2",
    )
    .bind(deployment.to_string())
    .bind(to_int(number.0));
    let row = tx.optional("read a revision", sql).await?.ok_or(StoreError::Missing { what: "revision" })?;
    pinned(&row)
}

/// The blueprints of the current revisions of the deployments on a host.
///
/// # Errors
/// When SQL fails.
pub async fn blueprints_on_host(
    tx: &mut Tx,
    host: HostId,
) -> Result<BTreeMap<DeploymentId, InstanceSpec>, StoreError> {
    let sql = sqlx::query(
        "SELECT deployments.id AS id, blueprint FROM revisions
         JOIN deployments ON deployments.id = revisions.deployment_id AND deployments.revision = revisions.number
         WHERE deployments.host_id = $1 AND deployments.state <> 'terminated'",
    )
    .bind(host.to_string());
    let rows = tx.all("read a host's revisions", sql).await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.json("blueprint")?))).collect()
}

/// The files of one revision, by name.
///
/// # Errors
/// When SQL fails.
pub async fn files(
    tx: &mut Tx,
    deployment: DeploymentId,
    number: Revision,
) -> Result<BTreeMap<String, StoredFile>, StoreError> {
    let sql = sqlx::query(
        "SELECT name, version, bytes, envelope FROM files WHERE deployment_id = $1 AND revision = $2 ORDER BY name",
    )
    .bind(deployment.to_string())
    .bind(to_int(number.0));
    let rows = tx.all("read a revision's files", sql).await?;
    rows.iter()
        .map(|row| {
            let file = stored_file(row)?;
            Ok((file.name.clone(), file))
        })
        .collect()
}

/// The bytes of all files of one revision.
///
/// # Errors
/// When SQL fails.
pub async fn files_bytes(tx: &mut Tx, deployment: DeploymentId, number: Revision) -> Result<u64, StoreError> {
    let sql = sqlx::query(
        "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM files
         WHERE deployment_id = $1 AND revision = $2",
    )
    .bind(deployment.to_string())
    .bind(to_int(number.0));
    Ok(tx.one("sum up a revision's files", sql).await?.uint("bytes")?)
}

/// The bytes of all files that each host's spec carries. Hosts without any are not in it.
///
/// # Errors
/// When SQL fails.
pub async fn files_bytes_on_hosts(tx: &mut Tx) -> Result<BTreeMap<HostId, u64>, StoreError> {
    let sql = sqlx::query(
        "SELECT host_id, CAST(SUM(bytes) AS BIGINT) AS bytes FROM files
         JOIN deployments ON deployments.id = files.deployment_id AND deployments.revision = files.revision
         WHERE host_id IS NOT NULL AND state NOT IN ('terminating', 'terminated') GROUP BY host_id",
    );
    let rows = tx.all("sum up the hosts' files", sql).await?;
    rows.iter().map(|row| Ok((row.parse("host_id")?, row.uint("bytes")?))).collect()
}

/// A file, from a row with its four columns.
pub(super) fn stored_file(row: &Row) -> Result<StoredFile, StoreError> {
    Ok(StoredFile {
        name: row.text("name")?,
        version: row.uint("version")?,
        bytes: row.uint("bytes")?,
        envelope: row.json("envelope")?,
    })
}

/// Adds a revision with the same content as an earlier one under a higher number: what its host gave up on is tried
/// again, and what it believes to be older is not.
///
/// # Errors
/// [`StoreError::Missing`] when there is no such revision; or when SQL fails.
pub async fn renumber(
    tx: &mut Tx,
    deployment: DeploymentId,
    from: Revision,
    to: Revision,
    now: Moment,
) -> Result<(), StoreError> {
    let mut revision = get(tx, deployment, from).await?;
    let files: Vec<_> = files(tx, deployment, from).await?.into_values().collect();
    revision.created_at = now;
    revision.blueprint.revision = to;
    create(tx, &revision, &files).await
}

/// Destroys the configs and secrets of a deployment that is gone; the revisions stay, for its history.
///
/// # Errors
/// When SQL fails.
pub async fn destroy_files(tx: &mut Tx, deployment: DeploymentId) -> Result<(), StoreError> {
    let sql = sqlx::query("DELETE FROM sealed WHERE deployment_id = $1").bind(deployment.to_string());
    tx.execute("destroy what was sealed", sql).await?;
    let sql = sqlx::query("DELETE FROM files WHERE deployment_id = $1").bind(deployment.to_string());
    tx.execute("destroy a deployment's files", sql).await.map(drop)
}

fn pinned(row: &Row) -> Result<PinnedRevision, StoreError> {
    Ok(PinnedRevision {
        profile: row.json("profile")?,
        plan: row.json("plan")?,
        egress: row.json("egress")?,
        blueprint: row.json("blueprint")?,
        created_at: row.moment("created_at")?,
    })
}
