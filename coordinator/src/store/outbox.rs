//! Which hosts need their spec compiled anew. A mark is written in the transaction of the change that calls for it.

use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;

use super::row::{to_int, to_json};
use super::tx::{StoreError, Tx};

/// A host that is marked. Whoever compiles it takes the mark away only if no other was made meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which host.
    pub host: HostId,
    /// How often it was marked.
    pub marks: u64,
}

/// Marks a host.
///
/// # Errors
/// When SQL fails.
pub async fn mark(tx: &mut Tx, host: HostId) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO outbox (host_id, marks) VALUES ($1, 1)
         ON CONFLICT (host_id) DO UPDATE SET marks = outbox.marks + 1",
    )
    .bind(host.to_string());
    tx.execute("mark a host for compiling", sql).await.map(drop)
}

/// Marks every host that is not retired: after a restore, or when publishing may go on.
///
/// # Errors
/// When SQL fails.
pub async fn mark_all(tx: &mut Tx) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO outbox (host_id, marks) SELECT id, 1 FROM hosts WHERE state <> 'retired'
         ON CONFLICT (host_id) DO UPDATE SET marks = outbox.marks + 1",
    );
    tx.execute("mark all hosts for compiling", sql).await.map(drop)
}

/// The marked hosts.
///
/// # Errors
/// When SQL fails.
pub async fn marked(tx: &mut Tx) -> Result<Vec<Mark>, StoreError> {
    let sql = sqlx::query("SELECT host_id, marks FROM outbox ORDER BY host_id");
    let rows = tx.all("list marked hosts", sql).await?;
    rows.iter().map(|row| Ok(Mark { host: row.parse("host_id")?, marks: row.uint("marks")? })).collect()
}

/// Whether something of that host is still to be compiled.
///
/// # Errors
/// When SQL fails.
pub async fn is_marked(tx: &mut Tx, host: HostId) -> Result<bool, StoreError> {
    let sql = sqlx::query("SELECT host_id FROM outbox WHERE host_id = $1").bind(host.to_string());
    Ok(tx.optional("see whether a host is marked", sql).await?.is_some())
}

/// Keeps why a marked host's last try failed. Answers whether that was news.
///
/// # Errors
/// When SQL fails.
pub async fn keep_trouble(tx: &mut Tx, host: HostId, trouble: &Reason) -> Result<bool, StoreError> {
    let sql = sqlx::query("UPDATE outbox SET trouble = $2 WHERE host_id = $1 AND (trouble IS NULL OR trouble <> $2)")
        .bind(host.to_string())
        .bind(to_json(trouble));
    Ok(tx.execute("keep why a host's spec is not made", sql).await? > 0)
}

/// Why a host's spec is not made, if it should be and is not.
///
/// # Errors
/// When SQL fails.
pub async fn trouble(tx: &mut Tx, host: HostId) -> Result<Option<Reason>, StoreError> {
    let sql = sqlx::query("SELECT trouble FROM outbox WHERE host_id = $1").bind(host.to_string());
    match tx.optional("read why a host's spec is not made", sql).await? {
        Some(row) => Ok(row.json_if_any("trouble")?),
        None => Ok(None),
    }
}

/// Takes a mark away, unless the host was marked again since it was read; with it goes what is kept of its last failure.
///
/// # Errors
/// When SQL fails.
pub async fn clear(tx: &mut Tx, mark: Mark) -> Result<(), StoreError> {
    let sql = sqlx::query("DELETE FROM outbox WHERE host_id = $1 AND marks = $2")
        .bind(mark.host.to_string())
        .bind(to_int(mark.marks));
    if tx.execute("take a host's mark away", sql).await? == 0 {
        let sql = sqlx::query("UPDATE outbox SET trouble = NULL WHERE host_id = $1").bind(mark.host.to_string());
        tx.execute("forget a trouble that is over", sql).await?;
    }
    Ok(())
}
