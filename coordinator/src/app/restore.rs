//! `restore`: puts a copy of the store in place, as another life of it.
//!
//! ```text
//!  copy ─► beside the store ─► open, another incarnation, frozen (one commit) ─► old one set aside ─► renamed in place
//! ```
//! The copy is stamped before it becomes the store: at no moment could a coordinator start on it as if nothing had
//! happened. Publishing stays frozen until an operator has compared it with what the hosts run and confirms, because
//! the copy knows nothing of what was deployed or deleted since it was made.

use std::io;
use std::path::{Path, PathBuf};

use launchpad_protocol::id::IncarnationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;

use crate::config::{ConfigError, RestoreArguments, Settings};
use crate::data_dir::{DataDir, DataDirError};
use crate::domain::audit::AuditEntry;
use crate::outside::Outside;
use crate::store::{Commit, Intent, OpenError, Store, StoreError, StoreUrl, StoreUrlError, Tx, audit, meta};

/// What SQLite may keep beside a database file.
const SQLITE_SIDES: [&str; 3] = ["", "-wal", "-shm"];

/// What became of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The store that is in place now.
    pub store: StoreUrl,
    /// Where the one before it is kept, if there was a file.
    pub set_aside: Option<PathBuf>,
}

/// Why nothing was restored. The store in place is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The installation.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database URL.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// SQLite, and no copy was named.
    #[error("no copy was named to restore from")]
    NoCopy,
    /// Postgres, and a file was named.
    #[error("a file cannot be put in the place of a Postgres database")]
    FileForPostgres,
    /// A file could not be copied or moved.
    #[error("cannot {step} {path}: {source}")]
    File {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The copy is no store of ours, or damaged.
    #[error("{from} cannot be restored: {source}")]
    Copy {
        /// The copy.
        from: String,
        /// Why not.
        source: OpenError,
    },
    /// The stamp.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RestoreError {
    /// The same with its mend.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Config(error) => error.reason(),
            Self::DataDir(error) => error.reason(),
            Self::Url(_) => Reason::new("malformed-database-url", self.to_string()),
            Self::NoCopy => Reason::new("no-copy", self.to_string()).mend("name one with --from FILE"),
            Self::FileForPostgres => Reason::new("file-for-postgres", self.to_string())
                .mend("restore the database with its own tools (pg_restore), then run this without --from"),
            Self::File { .. } | Self::Copy { .. } | Self::Store(_) => {
                Reason::new("restore-failed", crate::sentence(self))
                    .mend("nothing was changed: choose another copy, or mend that and run restore again")
            }
        }
    }
}

/// Puts a copy in place, or restamps a Postgres that was restored by its own tools.
///
/// # Errors
/// [`RestoreError`]; the store in place is then as it was.
pub async fn restore(arguments: &RestoreArguments, outside: &Outside) -> Result<Restored, RestoreError> {
    let dir = DataDir::new(&arguments.place.data_dir);
    let settings = Settings::load(&dir)?;
    let database_url = arguments.place.database_url.as_deref().or(settings.database_url.as_deref());
    let url = StoreUrl::parse(database_url, &dir.database())?;
    let _lock = dir.lock()?;
    let now = outside.clock.wall();
    let set_aside = match (&url, &arguments.from) {
        (StoreUrl::Postgres(_), None) => {
            restamp(&url, &url.to_string(), outside).await?;
            None
        }
        (StoreUrl::Postgres(_), Some(_)) => return Err(RestoreError::FileForPostgres),
        (StoreUrl::Sqlite(_), None) => return Err(RestoreError::NoCopy),
        (StoreUrl::Sqlite(store), Some(from)) => {
            let staged = beside(store, "restoring");
            stage(from, &staged)?;
            restamp(&StoreUrl::Sqlite(staged.clone()), &from.display().to_string(), outside).await?;
            put_in_place(&staged, store, now)?
        }
    };
    Ok(Restored { store: url, set_aside })
}

async fn restamp(url: &StoreUrl, from: &str, outside: &Outside) -> Result<(), RestoreError> {
    let now = outside.clock.wall();
    let opened = Store::open(url, Intent::Use, now).await;
    let store = opened.map_err(|source| RestoreError::Copy { from: from.to_owned(), source })?;
    let frozen = Reason::new("restored", format!("the store was restored from {from} at {now}"))
        .because("what was deployed or deleted after that copy was made is not in it")
        .mend("compare `launchpad hosts` and `launchpad ps` with what should run, then `launchpad recover confirm`");
    let incarnation: IncarnationId = outside.entropy.id(now);
    let entry = AuditEntry {
        at: now,
        user: None,
        role: "system".to_owned(),
        account: None,
        cross_account: false,
        action: "installation.restore".to_owned(),
        target: incarnation.to_string(),
        detail: frozen.sentence.clone(),
    };
    let stamp = async |tx: &mut Tx| {
        meta::restamp(tx, incarnation, &frozen, now).await?;
        audit::append(tx, &entry).await
    };
    let stamped = store.write(Commit::Restamp, stamp).await;
    // Closing also brings the write-ahead log into the file: what is renamed is all of it.
    store.close().await;
    Ok(stamped?)
}

/// Copies the file, and the write-ahead log that a copy of a live database may bring along.
fn stage(from: &Path, staged: &Path) -> Result<(), RestoreError> {
    for side in SQLITE_SIDES {
        remove_if_there(&with_side(staged, side))?;
    }
    copy(from, staged)?;
    let log = with_side(from, "-wal");
    if log.exists() { copy(&log, &with_side(staged, "-wal")) } else { Ok(()) }
}

/// Moves the old store aside and the new one in. A crash in between leaves no store, which `serve` says; run again,
/// `restore` finishes.
fn put_in_place(staged: &Path, store: &Path, now: Moment) -> Result<Option<PathBuf>, RestoreError> {
    let set_aside = beside(store, &format!("before-{}", now.micros()));
    let mut moved = None;
    for side in SQLITE_SIDES {
        let old = with_side(store, side);
        if old.exists() {
            rename(&old, &with_side(&set_aside, side))?;
            moved = Some(set_aside.clone());
        }
    }
    rename(staged, store)?;
    let parent = store.parent().unwrap_or(Path::new("."));
    let synced = std::fs::File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(failed("sync the directory", parent))?;
    Ok(moved)
}

fn copy(from: &Path, to: &Path) -> Result<(), RestoreError> {
    std::fs::copy(from, to).map_err(failed("copy", from))?;
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed("sync", to))
}

fn rename(from: &Path, to: &Path) -> Result<(), RestoreError> {
    std::fs::rename(from, to).map_err(failed("move", from))
}

fn remove_if_there(path: &Path) -> Result<(), RestoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::File { step, path, source }
}

/// `coordinator.db` → `coordinator.db.restoring`.
fn beside(store: &Path, what: &str) -> PathBuf {
    with_side(store, &format!(".{what}"))
}

fn with_side(path: &Path, side: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(side);
    name.into()
}
