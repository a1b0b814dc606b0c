//! The store: SQL, one file per resource, one set of statements for SQLite and Postgres.
//!
//! ```text
//!   app, jobs, fleet ── Store::write(commit, |tx| …) ──► BEGIN, one writer at a time ─► statements ─► COMMIT
//!                   └── Store::read(|tx| …) ─────────► a consistent snapshot
//! ```
//! Everything durable goes through these two doors. A transaction is one unit that awaits nothing but SQL; what belongs
//! together (a transition, its timeline, its audit entry, the host's mark in the outbox) is one [`Commit`], and each
//! commit has a name at which a test can kill the process. Writers wait for each other, on both backends and across
//! replicas (`store/backend.rs`), so that a decision still holds when it is committed; a decision that was made outside of
//! the transaction is guarded by its row's version.
//!
//! Rows of tenants carry their account, and every query for a person is scoped by [`crate::domain::actor::Scope`].
//! Nothing here decides: that is `domain`. Nobody but `app`, `jobs` and `fleet` calls this.

mod access;
mod backend;
mod commit;
mod migrate;
mod open;
mod row;
mod tx;
mod url;

pub mod meta;

pub mod accounts;
pub mod api_tokens;
pub mod audit;
pub mod idempotency;

pub mod deployments;
pub mod domains;
pub mod keys;
pub mod operations;
pub mod revisions;
pub mod secrets;
pub mod timeline;
pub mod tombstones;

pub mod certificates;
pub mod failover;
pub mod hosts;
pub mod issuers;
pub mod join_tokens;
pub mod outbox;
pub mod reports;
pub mod sealed;
pub mod specs;
pub mod strangers;
pub mod upgrades;

pub use commit::Commit;
pub use open::{Intent, OpenError};
pub use row::Unreadable;
pub use tx::{StoreError, Tx};
pub use url::{StoreUrl, StoreUrlError};

use std::fmt;
use std::sync::Arc;

use launchpad_protocol::killpoint::{self, Side};

use access::Access;
use backend::Backend;

/// This process among the kill points: `coordinator:<commit>:<before|after>`.
const PROCESS: &str = "coordinator";

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Opened>);

struct Opened {
    backend: Backend,
    access: Access,
}

impl Store {
    /// Runs `body` in a transaction, and commits what it wrote if it says `Ok`.
    ///
    /// A future that is dropped before it ends has written nothing, or everything.
    ///
    /// # Errors
    /// The body's own, after which nothing is written; or the store's, when it cannot begin or commit. A failed commit
    /// of a database that is far away may have happened: callers reread, as after a crash.
    pub async fn write<T, E: From<StoreError>>(
        &self,
        commit: Commit,
        body: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = async {
            let mut tx = Tx::begin_writing(&self.0.access, self.0.backend).await?;
            let value = match body(&mut tx).await {
                Ok(value) => value,
                Err(error) => return Err(tx.abandon(error).await),
            };
            killpoint::visit(PROCESS, commit.name(), Side::Before);
            tx.commit(commit).await?;
            killpoint::visit(PROCESS, commit.name(), Side::After);
            Ok(value)
        };
        self.0.access.drive(transaction).await
    }

    /// Runs `body` on a snapshot: all that it reads is of one moment. It cannot write.
    ///
    /// # Errors
    /// The body's own, or the store's when it cannot begin.
    pub async fn read<T, E: From<StoreError>>(
        &self,
        body: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = async {
            let mut tx = Tx::begin_reading(&self.0.access, self.0.backend).await?;
            let value = match body(&mut tx).await {
                Ok(value) => value,
                Err(error) => return Err(tx.abandon(error).await),
            };
            tx.end().await?;
            Ok(value)
        };
        self.0.access.drive(transaction).await
    }

    /// Waits for running transactions and closes all connections. For SQLite this also empties the write-ahead log.
    pub async fn close(&self) {
        self.0.access.close().await;
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({:?})", self.0.backend)
    }
}
