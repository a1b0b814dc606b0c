//! Which key wraps what, and changes of that key.
//!
//! ```text
//! asked ──► key made ──► every file wrapped with it ──► the old key retired ──► done
//! ```
//! The keys themselves are never here. A key is retired in the transaction that finds nothing wrapped with
//! it, and whoever commits a file checks in their transaction that its key is not: so nothing is lost that
//! was encrypted just before its key went.

use std::collections::BTreeMap;

use launchpad_pki::envelope::Envelope;
use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::{AccountId, DeploymentId, RotationId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;

use super::revisions::{StoredFile, stored_file};
use super::row::{Row, to_int, to_json};
use super::tx::{StoreError, Tx};

/// A change of the key that wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its id.
    pub id: RotationId,
    /// When it was asked for.
    pub asked_at: Moment,
    /// The new key, once it is made.
    pub key_id: Option<String>,
    /// Why the last try failed.
    pub trouble: Option<Reason>,
    /// When the old key was gone.
    pub done_at: Option<Moment>,
}

/// Which row of `files`, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileRow {
    /// Whose.
    pub deployment: String,
    /// Of which revision.
    pub revision: Revision,
    /// Which file.
    pub name: String,
}

/// A file, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFile {
    /// The tenant.
    pub account: AccountId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The file.
    pub file: StoredFile,
}

/// Asks for another key.
///
/// # Errors
/// When SQL fails.
pub async fn ask(tx: &mut Tx, id: RotationId, now: Moment) -> Result<(), StoreError> {
    let sql =
        sqlx::query("INSERT INTO rotations (id, asked_at) VALUES ($1, $2)").bind(id.to_string()).bind(now.micros());
    tx.execute("ask for another key", sql).await.map(drop)
}

/// The latest rotation, if there ever was one.
///
/// # Errors
/// When SQL fails.
pub async fn latest(tx: &mut Tx) -> Result<Option<Rotation>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, asked_at, key_id, trouble, done_at FROM rotations ORDER BY asked_at DESC, id DESC LIMIT 1",
    );
    tx.optional("read the latest rotation", sql).await?.as_ref().map(rotation).transpose()
}

/// Notes which key was made. Another one that was noted first stays.
///
/// # Errors
/// When SQL fails.
pub async fn made(tx: &mut Tx, id: RotationId, key_id: &str) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE rotations SET key_id = $2 WHERE id = $1 AND key_id IS NULL")
        .bind(id.to_string())
        .bind(key_id.to_owned());
    tx.execute("note a new key", sql).await.map(drop)
}

/// Notes why a rotation does not come on; none: it does again.
///
/// # Errors
/// When SQL fails.
pub async fn keep_trouble(tx: &mut Tx, id: RotationId, trouble: Option<&Reason>) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE rotations SET trouble = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(trouble.map(to_json));
    tx.execute("keep a rotation's trouble", sql).await.map(drop)
}

/// Notes that a rotation is done.
///
/// # Errors
/// When SQL fails.
pub async fn finish(tx: &mut Tx, id: RotationId, now: Moment) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE rotations SET trouble = NULL, done_at = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(now.micros());
    tx.execute("finish a rotation", sql).await.map(drop)
}

/// Files that another key than that one wraps, in order, from the one after `after`.
///
/// # Errors
/// When SQL fails.
pub async fn wrapped_otherwise(
    tx: &mut Tx,
    key_id: &str,
    after: &FileRow,
    limit: u32,
) -> Result<Vec<(FileRow, OwnedFile)>, StoreError> {
    let sql = sqlx::query(
        "SELECT deployment_id, revision, account_id, name, version, bytes, envelope FROM files
         WHERE key_id <> $1 AND (deployment_id, revision, name) > ($2, $3, $4)
         ORDER BY deployment_id, revision, name LIMIT $5",
    )
    .bind(key_id.to_owned())
    .bind(after.deployment.clone())
    .bind(to_int(after.revision.0))
    .bind(after.name.clone())
    .bind(i64::from(limit));
    let rows = tx.all("find what another key wraps", sql).await?;
    rows.iter()
        .map(|row| {
            let at = FileRow {
                deployment: row.text("deployment_id")?,
                revision: Revision(row.uint("revision")?),
                name: row.text("name")?,
            };
            let file = OwnedFile {
                account: row.parse("account_id")?,
                deployment: row.parse("deployment_id")?,
                file: stored_file(row)?,
            };
            Ok((at, file))
        })
        .collect()
}

/// Puts a rewrapped envelope in the place of the one that `was` wrapped. Another one that came first stays.
///
/// # Errors
/// [`StoreError::Raced`] when its key was retired since; or when SQL fails.
pub async fn rewrap(tx: &mut Tx, at: &FileRow, was: &str, envelope: &Envelope) -> Result<(), StoreError> {
    refuse_retired(tx, &envelope.key_id).await?;
    let sql = sqlx::query(
        "UPDATE files SET key_id = $5, envelope = $6
         WHERE deployment_id = $1 AND revision = $2 AND name = $3 AND key_id = $4",
    )
    .bind(at.deployment.clone())
    .bind(to_int(at.revision.0))
    .bind(at.name.clone())
    .bind(was.to_owned())
    .bind(envelope.key_id.clone())
    .bind(to_json(envelope));
    tx.execute("rewrap a file", sql).await.map(drop)
}

/// How many files each key wraps.
///
/// # Errors
/// When SQL fails.
pub async fn counts(tx: &mut Tx) -> Result<BTreeMap<String, u64>, StoreError> {
    let sql = sqlx::query(
        "SELECT key_id, COUNT(*) AS files FROM
         (SELECT key_id FROM files UNION ALL SELECT key_id FROM issuers WHERE key_id IS NOT NULL) AS wrapped
         GROUP BY key_id",
    );
    let rows = tx.all("count what each key wraps", sql).await?;
    rows.iter().map(|row| Ok((row.text("key_id")?, row.uint("files")?))).collect()
}

/// Retires a key, unless it wraps something. Answers whether it is retired.
///
/// # Errors
/// When SQL fails.
pub async fn retire_unused(tx: &mut Tx, key_id: &str, now: Moment) -> Result<bool, StoreError> {
    let sql = sqlx::query(
        "SELECT 1 AS used FROM files WHERE key_id = $1
         UNION ALL SELECT 1 AS used FROM issuers WHERE key_id = $1 LIMIT 1",
    )
    .bind(key_id.to_owned());
    if tx.optional("see whether a key is in use", sql).await?.is_some() {
        return Ok(false);
    }
    let sql =
        sqlx::query("INSERT INTO retired_keys (key_id, retired_at) VALUES ($1, $2) ON CONFLICT (key_id) DO NOTHING")
            .bind(key_id.to_owned())
            .bind(now.micros());
    tx.execute("retire a key", sql).await?;
    Ok(true)
}

/// Refuses a key that is retired: what it wraps could not be opened any more.
///
/// # Errors
/// [`StoreError::Raced`] when it is; or when SQL fails.
pub(super) async fn refuse_retired(tx: &mut Tx, key_id: &str) -> Result<(), StoreError> {
    let sql = sqlx::query("SELECT 1 AS retired FROM retired_keys WHERE key_id = $1").bind(key_id.to_owned());
    match tx.optional("see whether a key is retired", sql).await? {
        Some(_) => Err(StoreError::Raced { what: format!("the key `{key_id}`") }),
        None => Ok(()),
    }
}

fn rotation(row: &Row) -> Result<Rotation, StoreError> {
    Ok(Rotation {
        id: row.parse("id")?,
        asked_at: row.moment("asked_at")?,
        key_id: row.text_if_any("key_id")?,
        trouble: row.json_if_any("trouble")?,
        done_at: row.moment_if_any("done_at")?,
    })
}
