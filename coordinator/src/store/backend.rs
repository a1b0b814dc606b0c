//! The two databases, and the few words in which they differ.
//!
//! **One writer at a time.** SQLite has a single write lock, taken at once by `BEGIN IMMEDIATE`; Postgres gets the same
//! by locking the table `meta` in EXCLUSIVE mode, which no reader notices and every writer of every replica waits for.
//! With writers in line there are no serialisation failures to retry, and what a transaction has read is still so when
//! it commits. A write takes a millisecond or two: hundreds a second are far beyond what a fleet asks for.

use std::borrow::Cow;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// Begins a transaction that may write.
    pub(super) const fn begin_writing(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            // Each statement sees what was committed before it: once the lock is held nobody else commits.
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// What a writer does first.
    pub(super) const fn wait_for_other_writers(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("LOCK TABLE meta IN EXCLUSIVE MODE"),
        }
    }

    /// What whoever looks after the schema does first, where that is not part of beginning. The number is this program's
    /// own among the advisory locks of the database: "launchpd" in ASCII.
    pub(super) const fn wait_for_other_migrations(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(x'6c61756e63687064'::bigint)"),
        }
    }

    /// Begins a transaction that sees one moment.
    pub(super) const fn begin_reading(self) -> &'static str {
        match self {
            // In WAL mode the snapshot is taken at the first read and kept.
            Self::Sqlite => "BEGIN DEFERRED",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// What a fresh connection that will only read is told beside that. Postgres is told with each transaction.
    pub(super) const fn greet_reader(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["PRAGMA query_only = ON"],
            Self::Postgres => &[],
        }
    }

    /// What a fresh connection is told, statement by statement.
    pub(super) const fn greet(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[
                "PRAGMA journal_mode = WAL",
                // An acknowledged commit survives a power cut.
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
                // Milliseconds; only another process (a backup, a restore) ever makes us wait.
                "PRAGMA busy_timeout = 5000",
            ],
            Self::Postgres => &[
                // A writer that hangs gives up the lock, and those who wait for it give up loudly.
                "SET idle_in_transaction_session_timeout = '10s'",
                "SET lock_timeout = '5s'",
                "SET synchronous_commit = on",
            ],
        }
    }

    /// A migration, written for SQLite, in this database's words.
    pub(super) fn translate(self, sql: &str) -> Cow<'_, str> {
        match self {
            Self::Sqlite => Cow::Borrowed(sql),
            Self::Postgres => {
                let mut words = sql.replace(" INTEGER", " BIGINT").replace(" BLOB", " BYTEA");
                words = words.replace(") STRICT;", ");");
                Cow::Owned(words)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_translated_word_by_word() {
        let table = "CREATE TABLE t (\n    n INTEGER NOT NULL,\n    b BLOB\n) STRICT;";
        assert_eq!(Backend::Sqlite.translate(table), table);
        assert_eq!(Backend::Postgres.translate(table), "CREATE TABLE t (\n    n BIGINT NOT NULL,\n    b BYTEA\n);");
    }
}
