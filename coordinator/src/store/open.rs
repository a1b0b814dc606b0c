//! Opening the store, and every way in which that fails, each with its mend.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::time::Moment;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _};

use super::access::Access;
use super::backend::Backend;
use super::migrate::{self, MigrateError};
use super::{Opened, Store, StoreUrl, meta};
use crate::store::StoreError;

/// Connections that read at once. A request reads for well under a millisecond; this many are never all busy.
const READERS: u32 = 4;
/// How long anybody waits for a connection: a store that is slower than that is down, and callers should be told.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(5);
/// Permission bits of the database file: it holds every tenant's rows.
const FILE_MODE: u32 = 0o600;

/// What the store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// `init`: there must not be one yet.
    Create,
    /// `serve` and `restore`: there must be one.
    Use,
}

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store yet.
    #[error("there is no store at {at} yet: run `launchpad-coordinator init` first")]
    Absent {
        /// Where it should be.
        at: StoreUrl,
    },
    /// There is one already.
    #[error("there is a store at {at} already, nothing was changed: `launchpad-coordinator serve` uses it")]
    Present {
        /// Where it is.
        at: StoreUrl,
    },
    /// The file or its directory cannot be written.
    #[error("{path} cannot be opened for writing: {source}; see who owns it, and run as that user")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is no SQLite database, or a damaged one.
    #[error(
        "{path} is not a database, or is damaged: {source}; bring back a copy with `launchpad-coordinator restore`"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// The server does not answer, or does not let us in.
    #[error("the database at {at} cannot be reached: {source}; see whether it runs and the URL is right")]
    Unreachable {
        /// Which server.
        at: StoreUrl,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// The schema cannot be brought up to date.
    #[error("the store at {at} cannot be used: {source}")]
    Schema {
        /// Which store.
        at: StoreUrl,
        /// Why.
        source: Box<MigrateError>,
    },
}

impl Store {
    /// Opens the store and brings its schema up to date. `now` is recorded with new migrations.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with which file or server, and how to mend it. Nothing was changed then, except
    /// that an absent file may have been made.
    pub async fn open(url: &StoreUrl, intent: Intent, now: Moment) -> Result<Self, OpenError> {
        let (backend, options) = options(url, intent)?;
        let unusable = |source| unusable(url, source);
        try_once(backend, &options).await.map_err(unusable)?;
        let writes = pool(backend, 1, &[], options.clone()).await.map_err(unusable)?;
        let reads = pool(backend, READERS, backend.greet_reader(), options).await.map_err(unusable)?;
        let access = Access::Pools { writes, reads };
        migrate::migrate(&access, backend, now).await.map_err(|source| schema(url, source))?;
        Self::stamped(url, intent, Opened { backend, access }).await
    }

    /// The same over one connection, on which every transaction is carried out from its first word to its last before
    /// anything else happens: no pool, no timer and no other thread has a say in what comes first, so that a simulated
    /// coordinator goes the same way each time.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_inline(url: &StoreUrl, intent: Intent, now: Moment) -> Result<Self, OpenError> {
        let (backend, options) = options(url, intent)?;
        let access = Access::inline(backend, &options).map_err(|source| unusable(url, source))?;
        let migrated = access.drive(migrate::migrate(&access, backend, now)).await;
        migrated.map_err(|source| schema(url, source))?;
        Self::stamped(url, intent, Opened { backend, access }).await
    }

    /// A store that is what it was opened for.
    async fn stamped(url: &StoreUrl, intent: Intent, opened: Opened) -> Result<Self, OpenError> {
        let schema = |source| schema(url, source);
        let store = Self(Arc::new(opened));
        let stamped =
            store.read(async |tx| meta::is_stamped(tx).await).await.map_err(|error| schema(error.into()))?;
        let refused = match (intent, stamped) {
            (Intent::Create, false) | (Intent::Use, true) => return Ok(store),
            (Intent::Create, true) => OpenError::Present { at: url.clone() },
            (Intent::Use, false) => OpenError::Absent { at: url.clone() },
        };
        // Not only dropped: closing takes SQLite's side files away, so that a refusal leaves what it found.
        store.close().await;
        Err(refused)
    }
}

/// Which database that is, and how to connect to it.
fn options(url: &StoreUrl, intent: Intent) -> Result<(Backend, AnyConnectOptions), OpenError> {
    sqlx::any::install_default_drivers();
    let (backend, options) = match url {
        StoreUrl::Sqlite(path) => (Backend::Sqlite, sqlite(url, path, intent)?),
        StoreUrl::Postgres(text) => (Backend::Postgres, text.clone()),
    };
    Ok((backend, options.parse().map_err(|source| unusable(url, source))?))
}

/// One connection by itself, before there is a pool: a pool tries again until its patience ends, and then has forgotten
/// what was wrong.
async fn try_once(backend: Backend, options: &AnyConnectOptions) -> Result<(), sqlx::Error> {
    let connected = tokio::time::timeout(CONNECTION_PATIENCE, AnyConnection::connect_with(options)).await;
    let mut connection = connected.map_err(|_| sqlx::Error::PoolTimedOut)??;
    for statement in backend.greet() {
        connection.execute(*statement).await?;
    }
    connection.close().await
}

async fn pool(
    backend: Backend,
    connections: u32,
    greet: &'static [&'static str],
    options: AnyConnectOptions,
) -> Result<AnyPool, sqlx::Error> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECTION_PATIENCE)
        // A file does not go away; asking it before each use would double the cost of a read.
        .test_before_acquire(backend == Backend::Postgres)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for statement in backend.greet().iter().chain(greet) {
                    connection.execute(*statement).await?;
                }
                Ok(())
            })
        })
        .connect_with(options)
        .await
}

/// Makes sure that the file is there or not, as it should be, and that only we can read it; answers its URL.
fn sqlite(url: &StoreUrl, path: &Path, intent: Intent) -> Result<String, OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    if intent == Intent::Use && !path.exists() {
        return Err(OpenError::Absent { at: url.clone() });
    }
    let file = std::fs::OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path);
    let file = file.map_err(unwritable)?;
    // SQLite gives its write-ahead log the bits of the database.
    file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE)).map_err(unwritable)?;
    let absolute = std::path::absolute(path).map_err(unwritable)?;
    Ok(format!("sqlite://{}", percent_encoded(&absolute)))
}

/// A path as a URL holds it: a space or a `?` in a directory's name must not end it.
fn percent_encoded(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn unusable(url: &StoreUrl, source: sqlx::Error) -> OpenError {
    match url {
        StoreUrl::Sqlite(path) => OpenError::Corrupt { path: path.clone(), source },
        StoreUrl::Postgres(_) => OpenError::Unreachable { at: url.clone(), source },
    }
}

/// A damaged file often opens well, and shows at the first statement.
fn schema(url: &StoreUrl, source: MigrateError) -> OpenError {
    match (url, source) {
        (
            StoreUrl::Sqlite(path),
            MigrateError::Failed { source: StoreError::Begin(source) | StoreError::Statement { source, .. }, .. }
            | MigrateError::Store(StoreError::Begin(source) | StoreError::Statement { source, .. }),
        ) => OpenError::Corrupt { path: path.clone(), source },
        (_, source) => OpenError::Schema { at: url.clone(), source: Box::new(source) },
    }
}
