//! What hosts report: the latest of each, and how far each journal has been folded.

use launchpad_protocol::generation::Fence;
use launchpad_protocol::id::{HostId, JournalId};
use launchpad_protocol::report::HostReport;
use launchpad_protocol::time::Moment;

use super::row::{to_int, to_json};
use super::tx::{StoreError, Tx};

/// The latest report of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    /// The session that brought it.
    pub fence: Fence,
    /// When it came.
    pub received_at: Moment,
    /// Whether publishing was frozen since: then it may be part of an old copy of the store.
    pub outdated: bool,
    /// What it says.
    pub report: HostReport,
}

/// Keeps a report. Answers false, and changes nothing, when a later session has reported already.
///
/// # Errors
/// When SQL fails.
pub async fn keep(
    tx: &mut Tx,
    host: HostId,
    fence: Fence,
    report: &HostReport,
    now: Moment,
) -> Result<bool, StoreError> {
    let sql = sqlx::query(
        "INSERT INTO reports (host_id, fence, received_at, outdated, report) VALUES ($1, $2, $3, 0, $4)
         ON CONFLICT (host_id) DO UPDATE SET fence = excluded.fence, received_at = excluded.received_at,
         outdated = 0, report = excluded.report WHERE excluded.fence >= reports.fence",
    )
    .bind(host.to_string())
    .bind(to_int(fence.0))
    .bind(now.micros())
    .bind(to_json(report));
    Ok(tx.execute("keep a report", sql).await? > 0)
}

/// The latest report of a host.
///
/// # Errors
/// When SQL fails.
pub async fn latest(tx: &mut Tx, host: HostId) -> Result<Option<StoredReport>, StoreError> {
    let sql = sqlx::query("SELECT fence, received_at, outdated, report FROM reports WHERE host_id = $1")
        .bind(host.to_string());
    let Some(row) = tx.optional("read a report", sql).await? else { return Ok(None) };
    Ok(Some(StoredReport {
        fence: Fence(row.uint("fence")?),
        received_at: row.moment("received_at")?,
        outdated: row.int("outdated")? != 0,
        report: row.json("report")?,
    }))
}

/// Takes no report that came until now for what its host runs now. For freezing.
pub(super) async fn outdate_all(tx: &mut Tx) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE reports SET outdated = 1");
    tx.execute("set earlier reports aside", sql).await.map(drop)
}

/// The highest event of a host's journal that was folded; zero: none.
///
/// # Errors
/// When SQL fails.
pub async fn folded(tx: &mut Tx, host: HostId, journal: JournalId) -> Result<u64, StoreError> {
    let sql = sqlx::query("SELECT seq FROM folded WHERE host_id = $1 AND journal = $2")
        .bind(host.to_string())
        .bind(journal.to_string());
    match tx.optional("read how far a journal was folded", sql).await? {
        Some(row) => Ok(row.uint("seq")?),
        None => Ok(0),
    }
}

/// Keeps how far a host's journal has been folded.
///
/// # Errors
/// When SQL fails.
pub async fn fold(tx: &mut Tx, host: HostId, journal: JournalId, seq: u64) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO folded (host_id, journal, seq) VALUES ($1, $2, $3)
         ON CONFLICT (host_id, journal) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > folded.seq",
    )
    .bind(host.to_string())
    .bind(journal.to_string())
    .bind(to_int(seq));
    tx.execute("keep how far a journal was folded", sql).await.map(drop)
}
