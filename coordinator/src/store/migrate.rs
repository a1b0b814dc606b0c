//! The schema's versions: numbered, run in order when the store opens, and never edited once released.
//!
//! Each is recorded with the checksum of its text, so that an edited one is found out; a store that is newer than this
//! binary is refused, because an older binary would not know what it destroys.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::time::Moment;

use super::access::Access;
use super::backend::Backend;
use super::tx::{StoreError, Tx};

/// The migrations in order; the first has number 1.
const MIGRATIONS: &[(&str, &str)] = &[
    ("fleet", include_str!("../../migrations/0001_fleet.sql")),
    ("leases", include_str!("../../migrations/0002_leases.sql")),
    ("pki", include_str!("../../migrations/0003_pki.sql")),
    ("upgrades", include_str!("../../migrations/0004_upgrades.sql")),
];

/// Where the applied migrations are recorded. It is the one table that is made outside of them.
const LEDGER: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum BLOB NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;";

/// Why the schema cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The store was last opened by a newer version.
    #[error("the store's schema is version {found}, this binary knows {known}: run the newer launchpad-coordinator")]
    Newer {
        /// The store's.
        found: u64,
        /// Ours.
        known: usize,
    },
    /// A migration that was applied reads differently now.
    #[error("migration {number} (`{name}`) was applied with another text: this binary is not of the same line")]
    Changed {
        /// Which.
        number: u64,
        /// What it is called.
        name: String,
    },
    /// A migration failed; nothing of it is applied.
    #[error("migration {number} (`{name}`) failed, nothing was changed: {source}")]
    Failed {
        /// Which.
        number: usize,
        /// What it is called.
        name: &'static str,
        /// What the database says.
        source: StoreError,
    },
    /// The record of migrations cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Brings the schema up to date. Answers how many migrations it has now.
///
/// One transaction from the first look to the last record, in line with everybody else who opens the store: of two
/// replicas that start together one migrates, and the other finds it done. Both databases can undo a CREATE TABLE.
pub(super) async fn migrate(access: &Access, backend: Backend, now: Moment) -> Result<usize, MigrateError> {
    let mut tx = Tx::begin_migrating(access, backend).await?;
    tx.script("make the record of migrations", backend.translate(LEDGER).into_owned()).await?;
    let applied = applied(&mut tx).await?;
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().skip(applied) {
        apply(&mut tx, backend, index + 1, name, sql, now).await?;
    }
    tx.commit_migrations().await?;
    Ok(MIGRATIONS.len())
}

/// How many migrations are applied, each checked against its text.
async fn applied(tx: &mut Tx) -> Result<usize, MigrateError> {
    let sql = sqlx::query("SELECT number, name, checksum FROM migrations ORDER BY number");
    let rows = tx.all("read the record of migrations", sql).await?;
    for (index, row) in rows.iter().enumerate() {
        let number = row.uint("number").map_err(StoreError::from)?;
        let Some((_, text)) = MIGRATIONS.get(index) else {
            let found = rows.last().map_or(Ok(number), |row| row.uint("number")).map_err(StoreError::from)?;
            return Err(MigrateError::Newer { found, known: MIGRATIONS.len() });
        };
        if row.digest("checksum").map_err(StoreError::from)? != Digest::of(text.as_bytes()) {
            return Err(MigrateError::Changed { number, name: row.text("name").map_err(StoreError::from)? });
        }
    }
    Ok(rows.len())
}

/// Applies one migration and records it.
async fn apply(
    tx: &mut Tx,
    backend: Backend,
    number: usize,
    name: &'static str,
    sql: &'static str,
    now: Moment,
) -> Result<(), MigrateError> {
    let failed = |source| MigrateError::Failed { number, name, source };
    tx.script("apply a migration", backend.translate(sql).into_owned()).await.map_err(failed)?;
    let record = sqlx::query("INSERT INTO migrations (number, name, checksum, applied_at) VALUES ($1, $2, $3, $4)")
        .bind(i64::try_from(number).unwrap_or(i64::MAX))
        .bind(name)
        .bind(Digest::of(sql.as_bytes()).as_bytes().to_vec())
        .bind(now.micros());
    tx.execute("record a migration", record).await.map(drop).map_err(failed)
}
