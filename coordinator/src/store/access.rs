//! How transactions reach the database: over pools, as everybody's do, or one after the other over a single connection,
//! as the simulator's do.
//!
//! The database may answer from another thread, at any time. Over pools the runtime goes on meanwhile. Inline it stands
//! still until the transaction has ended, so that what comes next depends on the database's answer alone and never on
//! how soon it came. Nothing but SQL is awaited inside a transaction, which is what makes that possible.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use futures::executor::block_on;
use sqlx::any::{Any, AnyConnectOptions};
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _, Transaction};

use super::backend::Backend;

/// The way to the database.
pub(super) enum Access {
    Pools {
        /// One connection: writers wait for each other here, and not in the database with a lock in their hands.
        writes: AnyPool,
        reads: AnyPool,
    },
    Inline(Home),
}

/// Where the single connection is between two transactions.
type Home = Arc<Mutex<Option<AnyConnection>>>;

impl Access {
    /// Connects, and waits for it.
    pub(super) fn inline(backend: Backend, options: &AnyConnectOptions) -> Result<Self, sqlx::Error> {
        let connection = block_on(async {
            let mut connection = AnyConnection::connect_with(options).await?;
            for statement in backend.greet() {
                connection.execute(*statement).await?;
            }
            Ok::<_, sqlx::Error>(connection)
        })?;
        Ok(Self::Inline(Arc::new(Mutex::new(Some(connection)))))
    }

    /// Carries a transaction out.
    pub(super) async fn drive<T>(&self, transaction: impl Future<Output = T>) -> T {
        match self {
            Self::Pools { .. } => transaction.await,
            Self::Inline(_) => block_on(transaction),
        }
    }

    pub(super) async fn begin_writing(&self, backend: Backend) -> Result<Open, sqlx::Error> {
        match self {
            Self::Pools { writes, .. } => writes.begin_with(backend.begin_writing()).await.map(Open::Pooled),
            Self::Inline(home) => Borrowed::begin(home, backend.begin_writing()).await.map(Open::Inline),
        }
    }

    pub(super) async fn begin_reading(&self, backend: Backend) -> Result<Open, sqlx::Error> {
        match self {
            Self::Pools { reads, .. } => reads.begin_with(backend.begin_reading()).await.map(Open::Pooled),
            Self::Inline(home) => Borrowed::begin(home, backend.begin_reading()).await.map(Open::Inline),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Pools { writes, reads } => {
                reads.close().await;
                writes.close().await;
            }
            Self::Inline(home) => {
                let connection = at(home).take();
                // What is not closed in good order is as after a crash, which loses nothing either.
                drop(connection.map(|connection| block_on(connection.close())));
            }
        }
    }
}

/// A transaction that has begun.
#[derive(Debug)]
pub(super) enum Open {
    Pooled(Transaction<'static, Any>),
    Inline(Borrowed),
}

impl Open {
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Pooled(transaction) => transaction.commit().await,
            Self::Inline(borrowed) => borrowed.end("COMMIT").await,
        }
    }

    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Pooled(transaction) => transaction.rollback().await,
            Self::Inline(borrowed) => borrowed.end("ROLLBACK").await,
        }
    }

    /// Whoever gives a pooled transaction up gives it back; the pool has it rolled back. Nobody does that inline.
    pub(super) async fn abandon(self) {
        if let Self::Inline(borrowed) = self {
            // A transaction that cannot be rolled back was not begun, and the next one will say so.
            drop(borrowed.end("ROLLBACK").await);
        }
    }
}

impl Deref for Open {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Pooled(transaction) => transaction,
            Self::Inline(borrowed) => &borrowed.connection,
        }
    }
}

impl DerefMut for Open {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Pooled(transaction) => transaction,
            Self::Inline(borrowed) => &mut borrowed.connection,
        }
    }
}

/// The single connection, away from home for one transaction.
#[derive(Debug)]
pub(super) struct Borrowed {
    connection: AnyConnection,
    home: Home,
}

impl Borrowed {
    async fn begin(home: &Home, begin: &'static str) -> Result<Self, sqlx::Error> {
        // Nothing else runs while a transaction does: a connection that is not at home was closed.
        let mut connection = at(home).take().ok_or(sqlx::Error::PoolClosed)?;
        match connection.execute(begin).await {
            Ok(_) => Ok(Self { connection, home: Arc::clone(home) }),
            Err(error) => {
                *at(home) = Some(connection);
                Err(error)
            }
        }
    }

    async fn end(mut self, end: &'static str) -> Result<(), sqlx::Error> {
        let ended = self.connection.execute(end).await;
        *at(&self.home) = Some(self.connection);
        ended.map(drop)
    }
}

fn at(home: &Home) -> std::sync::MutexGuard<'_, Option<AnyConnection>> {
    home.lock().unwrap_or_else(PoisonError::into_inner)
}
