//! One transaction, as the resource files use it: a statement, and the step that it is, for errors.

use sqlx::AssertSqlSafe;
use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;

use super::access::{Access, Open};
use super::backend::Backend;
use super::commit::Commit;
use super::row::{Row, Unreadable};

/// Why a transaction did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or no lock in time.
    #[error("the store cannot begin: {0}; see whether the database is up and its disk has room")]
    Begin(#[source] sqlx::Error),
    /// A statement failed.
    #[error("the store cannot {step}: {source}")]
    Statement {
        /// What it was for.
        step: &'static str,
        /// What the database says.
        source: sqlx::Error,
    },
    /// The commit failed. Of a database that is far away it may have happened nonetheless.
    #[error("the store cannot commit {commit}: {source}")]
    Commit {
        /// Which commit.
        commit: Commit,
        /// What the database says.
        source: sqlx::Error,
    },
    /// A row holds what this version cannot read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Somebody else changed the row first.
    #[error("{what} was changed by somebody else meanwhile; read it again")]
    Raced {
        /// Which row.
        what: String,
    },
    /// There is no such row where one must be.
    #[error("the store has no {what}: it is incomplete, restore it from a backup")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
}

/// A statement with its arguments.
pub(super) type Sql = Query<'static, Any, AnyArguments>;

/// A transaction. Dropped without a commit it has written nothing.
#[derive(Debug)]
pub struct Tx(Open);

impl Tx {
    pub(super) async fn begin_writing(access: &Access, backend: Backend) -> Result<Self, StoreError> {
        let mut inner = access.begin_writing(backend).await.map_err(StoreError::Begin)?;
        if let Some(wait) = backend.wait_for_other_writers() {
            sqlx::query(wait).execute(&mut *inner).await.map_err(StoreError::Begin)?;
        }
        Ok(Self(inner))
    }

    pub(super) async fn begin_reading(access: &Access, backend: Backend) -> Result<Self, StoreError> {
        access.begin_reading(backend).await.map(Self).map_err(StoreError::Begin)
    }

    /// A transaction that may change the schema, in line with everybody else's: there may be no table to lock yet.
    pub(super) async fn begin_migrating(access: &Access, backend: Backend) -> Result<Self, StoreError> {
        let mut inner = access.begin_writing(backend).await.map_err(StoreError::Begin)?;
        if let Some(wait) = backend.wait_for_other_migrations() {
            sqlx::query(wait).execute(&mut *inner).await.map_err(StoreError::Begin)?;
        }
        Ok(Self(inner))
    }

    /// Runs several statements that are part of this program.
    pub(super) async fn script(&mut self, step: &'static str, statements: String) -> Result<(), StoreError> {
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *self.0).await;
        done.map(drop).map_err(|source| StoreError::Statement { step, source })
    }

    /// Commits a changed schema. It happens before anything that a kill point could interrupt.
    pub(super) async fn commit_migrations(self) -> Result<(), StoreError> {
        let step = "commit its migrations";
        self.0.commit().await.map_err(|source| StoreError::Statement { step, source })
    }

    pub(super) async fn commit(self, commit: Commit) -> Result<(), StoreError> {
        self.0.commit().await.map_err(|source| StoreError::Commit { commit, source })
    }

    /// Ends a transaction whose body has failed, so that nothing of it is written; answers why.
    pub(super) async fn abandon<E>(self, error: E) -> E {
        self.0.abandon().await;
        error
    }

    /// Ends a transaction that only read.
    pub(super) async fn end(self) -> Result<(), StoreError> {
        self.0.rollback().await.map_err(|source| StoreError::Statement { step: "end a snapshot", source })
    }

    /// Runs a statement; answers how many rows it touched. `step` ends the sentence "the store cannot …".
    pub(super) async fn execute(&mut self, step: &'static str, sql: Sql) -> Result<u64, StoreError> {
        let done = sql.execute(&mut *self.0).await;
        done.map(|done| done.rows_affected()).map_err(|source| StoreError::Statement { step, source })
    }

    /// Runs a statement that answers one row or none.
    pub(super) async fn optional(&mut self, step: &'static str, sql: Sql) -> Result<Option<Row>, StoreError> {
        let row = sql.fetch_optional(&mut *self.0).await;
        row.map(|row| row.map(|row| Row::new(row, step))).map_err(|source| StoreError::Statement { step, source })
    }

    /// Runs a statement that always answers one row, such as a count.
    pub(super) async fn one(&mut self, step: &'static str, sql: Sql) -> Result<Row, StoreError> {
        let row = sql.fetch_one(&mut *self.0).await;
        row.map(|row| Row::new(row, step)).map_err(|source| StoreError::Statement { step, source })
    }

    /// Runs a statement that answers any number of rows.
    pub(super) async fn all(&mut self, step: &'static str, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let rows = sql.fetch_all(&mut *self.0).await;
        let rows = rows.map_err(|source| StoreError::Statement { step, source })?;
        Ok(rows.into_iter().map(|row| Row::new(row, step)).collect())
    }
}
