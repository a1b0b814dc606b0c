//! A file that is locked as long as its owner lives: how one laboratory knows whether another one still runs.
//!
//! Called by [`crate::lab`] alone. The kernel lets a lock go when its process ends in whatever way, so that a lock file
//! that can be locked is a dead owner's. Two things keep that true while files come and go:
//!
//! ```text
//!  fresh: make it under another name ─► lock ─► write the pid ─► link it under its own name: seen only when held
//!  take, stale: open ─► lock ─► is it still what lies under that name? else somebody removed it meanwhile
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What a lock file ends in until it is held. No sweep looks at it.
const UNSEEN: &str = "unseen";

/// A lock that this process holds.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The lock is on this open file.
    file: File,
    path: PathBuf,
}

impl Lock {
    /// A lock at a path where nothing is yet; `None` if something is.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn fresh(path: &Path) -> Result<Option<Self>> {
        let unseen = path.with_extension(UNSEEN);
        let file = match OpenOptions::new().create_new(true).write(true).open(&unseen) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            opened => opened.with_context(|| format!("create {}", unseen.display()))?,
        };
        let held = Self::hold(file, path)?.context("a lock that nobody has seen is held by somebody")?;
        // Unlike a rename, a link refuses a name that is taken.
        let linked = fs::hard_link(&unseen, path);
        fs::remove_file(&unseen).with_context(|| format!("remove {}", unseen.display()))?;
        match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            linked => linked.map(|()| Some(held)).with_context(|| format!("create {}", path.display())),
        }
    }

    /// The lock at a path that is always the same, such as the demo's; `None` if another process holds it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        loop {
            let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
            let file = opened.with_context(|| format!("open {}", path.display()))?;
            let Some(lock) = Self::hold(file, path)? else { return Ok(None) };
            // Else its former owner removed it between our opening and our locking it: there is a newer one to take.
            if lock.is_in_place() {
                return Ok(Some(lock));
            }
        }
    }

    /// The lock of an owner that is dead; `None` if it lives, or somebody else is tidying up after it.
    ///
    /// # Errors
    /// When the file cannot be locked.
    pub(crate) fn stale(path: &Path) -> Result<Option<Self>> {
        let file = match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("open {}", path.display()))?,
        };
        Ok(Self::hold(file, path)?.filter(Self::is_in_place))
    }

    /// Removes the file. It stays locked until this is dropped: nobody comes in between.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }

    fn hold(mut file: File, path: &Path) -> Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).context("write the lock")?;
                Ok(Some(Self { file, path: path.to_owned() }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }

    fn is_in_place(&self) -> bool {
        let (held, there) = (self.file.metadata(), fs::metadata(&self.path));
        held.is_ok_and(|held| there.is_ok_and(|there| (held.dev(), held.ino()) == (there.dev(), there.ino())))
    }
}

/// The process that holds the lock at `path`, if one does. A dead owner's lock is removed.
///
/// # Errors
/// When the lock cannot be read.
pub(crate) fn owner(path: &Path) -> Result<Option<i32>> {
    if !path.exists() {
        return Ok(None);
    }
    if let Some(lock) = Lock::take(path)? {
        lock.remove();
        return Ok(None);
    }
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Some(text.trim().parse().with_context(|| format!("read a pid in {}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("launchpad-lock-{}-{name}.lock", std::process::id()))
    }

    #[test]
    fn a_fresh_lock_is_held_from_the_moment_that_it_is_seen() {
        let path = path("fresh");
        let lock = Lock::fresh(&path).unwrap().expect("nobody has it");
        assert!(Lock::stale(&path).unwrap().is_none(), "its owner lives");
        assert!(Lock::fresh(&path).unwrap().is_none(), "the name is taken");
        assert_eq!(owner(&path).unwrap(), i32::try_from(std::process::id()).ok());
        drop(lock);
        // As after a SIGKILL: the file stays, and the kernel has let go of it.
        let dead = Lock::stale(&path).unwrap().expect("its owner is dead");
        dead.remove();
        assert!(Lock::stale(&path).unwrap().is_none(), "removed by us");
        assert!(!path.exists() && !path.with_extension(UNSEEN).exists());
    }

    #[test]
    fn a_lock_that_was_removed_before_it_was_locked_is_nobodys() {
        let path = path("removed");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let held = Lock::hold(file, &path).unwrap().expect("nobody else has it");
        assert!(!held.is_in_place());
        let taken = Lock::take(&path).unwrap().expect("a newer one");
        assert!(taken.is_in_place());
        taken.remove();
    }
}
