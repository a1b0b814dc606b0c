//! The directory that holds all state of one coordinator, and the lock of whoever works on it.
//!
//! ```text
//! data dir (0700)
//! ├── coordinator.toml   what `init` was told: names, endpoints, database (0600: a database URL may hold a password)
//! ├── coordinator.db     the store, unless --database-url names a Postgres
//! ├── keyring            the keys that wrap those of configs and secrets in the store, sealed
//! ├── keyring.identity   what opens the keyring, unless --keyring-identity names another place
//! ├── ca/                root and issuing CA
//! └── lock               held by `serve`, `init` or `restore` while it works
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use launchpad_protocol::reason::Reason;

/// The paths below a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// The lock of a data directory. The system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why the directory cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there, or not ours.
    #[error("cannot use the data directory {dir}: {source}")]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process works on it.
    #[error("another launchpad-coordinator works on {0}")]
    InUse(PathBuf),
}

impl DataDirError {
    /// The same with its mend.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Reason::new("no-data-dir", self.to_string()).mend("run `launchpad-coordinator init` first")
            }
            Self::Unusable { .. } => Reason::new("data-dir-unusable", self.to_string())
                .mend("run as the user who owns it, on a file system that can be written"),
            Self::InUse(_) => Reason::new("data-dir-in-use", self.to_string()).mend("stop it first, or name another"),
        }
    }
}

impl DataDir {
    /// That directory.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What `init` was told.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.0.join("coordinator.toml")
    }

    /// The SQLite store.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("coordinator.db")
    }

    /// The keys that wrap those of configs and secrets.
    #[must_use]
    pub fn keyring(&self) -> PathBuf {
        self.0.join("keyring")
    }

    /// The certificate authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// When another process has it, or the directory cannot be written.
    pub fn lock(&self) -> Result<DataDirLock, DataDirError> {
        let unusable = |source| DataDirError::Unusable { dir: self.0.clone(), source };
        let opened =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.0.join("lock"));
        let file = opened.map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(DataDirLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(self.0.clone())),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_works_on_a_directory_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let dir = DataDir::new(dir.path());
        let held = dir.lock().unwrap();
        assert_eq!(dir.lock().unwrap_err().reason().code, "data-dir-in-use");
        drop(held);
        assert!(dir.lock().is_ok());
    }

    #[test]
    fn an_absent_directory_asks_for_init() {
        let dir = tempfile::tempdir().unwrap();
        let error = DataDir::new(&dir.path().join("absent")).lock().unwrap_err();
        assert!(error.reason().to_string().contains("launchpad-coordinator init"), "{error}");
    }
}
