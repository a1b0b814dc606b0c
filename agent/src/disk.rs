//! The one place that writes state files: write, fsync, rename, fsync the directory.
//!
//! A file here begins with a line that names its format and the SHA-256 of the rest, so that a torn or flipped file is
//! known for what it is. A damaged file is set aside under another name, never deleted and never believed. `ledger`,
//! `identity` and the address book use this; nobody else in the agent writes state.

mod files;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use launchpad_protocol::digest::Digest;

use files::Machine;
pub use files::{Files, FreshFile};

/// The first word of every state file.
const MAGIC: &str = "launchpad-state-1";

/// Why a state file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system said no.
    #[error("cannot {step} {path}: {source}{}", mend_for(.source))]
    Io {
        /// What was tried: `create`, `write`, `sync`, `rename`, `read`.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

// Of the many kinds of errors only these have a mend of their own.
#[allow(clippy::wildcard_enum_match_arm)]
fn mend_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root, or choose another --data-dir",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; a file stands where a directory is needed: choose another --data-dir"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space on that filesystem",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; that filesystem is read-only: remount it, or choose another --data-dir"
        }
        _ => "",
    }
}

/// What reading a state file found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nothing,
    /// Its content, whole.
    Whole(Vec<u8>),
    /// It was damaged, and is now at this path.
    SetAside(PathBuf),
}

/// A directory of state files.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
    files: Arc<dyn Files>,
}

impl Disk {
    /// Opens the directory, making it (0700) if it is not there.
    ///
    /// # Errors
    /// [`DiskError`] names the path.
    pub fn open(root: &Path) -> Result<Self, DiskError> {
        Self::open_on(Arc::new(Machine), root)
    }

    /// The same among other files than the machine's: the simulator's.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(files: Arc<dyn Files>, root: &Path) -> Result<Self, DiskError> {
        let path = root.to_owned();
        files.create_directory(root, 0o700).map_err(|source| DiskError::Io { step: "create", path, source })?;
        Ok(Self { root: root.to_owned(), files })
    }

    /// Where a state file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Replaces a state file durably: after this returns, a crash of the machine leaves the new content; before, the
    /// old one or the new one, never a mixture.
    ///
    /// # Errors
    /// [`DiskError`] names the step and the path; the old file is untouched.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), DiskError> {
        let path = self.path(name);
        let fresh = self.path(&format!("{name}.new"));
        let step = |step, path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Io { step, path, source }
        };
        let written = self.files.create(&fresh, 0o600).map_err(step("create", &fresh)).and_then(|mut file| {
            file.write_all(header(content).as_bytes())
                .and_then(|()| file.write_all(content))
                .map_err(step("write", &fresh))?;
            file.sync().map_err(step("sync", &fresh))
        });
        if let Err(error) = written {
            // The kernel takes pages that it could not write for written: another sync of this very file would succeed, and
            // keep nothing. The next try begins with another file.
            let _ = self.files.remove(&fresh);
            return Err(error);
        }
        self.files.rename(&fresh, &path).map_err(step("rename", &path))?;
        self.sync_directory()
    }

    /// The same in two files: a disk that spoils one of them still has the other. The copy is the first to be written, so
    /// that it is never behind.
    ///
    /// # Errors
    /// As [`Self::write`]. The copy may be ahead then, by something that nobody was told.
    pub fn write_twice(&self, name: &str, content: &[u8]) -> Result<(), DiskError> {
        self.write(&copy_of(name), content)?;
        self.write(name, content)
    }

    /// Reads the copy of a state file that was damaged or is unusable.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_copy(&self, name: &str) -> Result<Found, DiskError> {
        self.read(&copy_of(name))
    }

    /// Moves a state file and its copy out of the way, as far as they are there.
    ///
    /// # Errors
    /// As [`Self::set_aside`].
    pub fn set_both_aside(&self, name: &str) -> Result<(), DiskError> {
        for name in [name.to_owned(), copy_of(name)] {
            if self.files.exists(&self.path(&name)) {
                self.set_aside(&name)?;
            }
        }
        Ok(())
    }

    /// Where a state file was moved when it was damaged, the last time; none: it never was.
    #[must_use]
    pub fn set_aside_before(&self, name: &str) -> Option<PathBuf> {
        let asides = (1..).map(|n| self.path(&format!("{name}.damaged-{n}")));
        asides.take_while(|path| self.files.exists(path)).last()
    }

    /// Reads a state file. A damaged one is set aside, so that the next start does not meet it again.
    ///
    /// # Errors
    /// [`DiskError`] when the operating system will not read it; that is not damage, and nothing is moved.
    pub fn read(&self, name: &str) -> Result<Found, DiskError> {
        let path = self.path(name);
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(DiskError::Io { step: "read", path, source }),
        };
        match content_of(&bytes) {
            Some(content) => Ok(Found::Whole(content.to_vec())),
            None => self.set_aside(name).map(Found::SetAside),
        }
    }

    /// Moves a state file out of the way, under a name that says what happened to it.
    ///
    /// # Errors
    /// [`DiskError`] names the path.
    pub fn set_aside(&self, name: &str) -> Result<PathBuf, DiskError> {
        let path = self.path(name);
        let free = (1..).map(|n| self.path(&format!("{name}.damaged-{n}"))).find(|path| !self.files.exists(path));
        let aside = free.unwrap_or_else(|| self.path(&format!("{name}.damaged")));
        self.files.rename(&path, &aside).map_err(|source| DiskError::Io { step: "rename", path, source })?;
        self.sync_directory()?;
        Ok(aside)
    }

    /// Removes a state file; none there is as good.
    ///
    /// # Errors
    /// [`DiskError`] names the path.
    pub fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name);
        match self.files.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(DiskError::Io { step: "remove", path, source }),
            Ok(()) => self.sync_directory(),
        }
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        let synced = self.files.sync_directory(&self.root);
        synced.map_err(|source| DiskError::Io { step: "sync", path: self.root.clone(), source })
    }
}

/// Replaces a file that another program reads, durably and whole, in a directory that is made if need be. It has no line
/// of ours in front, and everybody may read it: nothing secret belongs there.
///
/// # Errors
/// [`DiskError`] names the step and the path; the old file is untouched.
pub fn publish(path: &Path, content: &[u8]) -> Result<(), DiskError> {
    let step = |step, path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Io { step, path, source }
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    Machine.create_directory(directory, 0o755).map_err(step("create", directory))?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = Machine.create(&fresh, 0o644).map_err(step("create", &fresh))?;
    file.write_all(content).map_err(step("write", &fresh))?;
    file.sync().map_err(step("sync", &fresh))?;
    Machine.rename(&fresh, path).map_err(step("rename", path))?;
    Machine.sync_directory(directory).map_err(step("sync", directory))
}

fn copy_of(name: &str) -> String {
    format!("{name}.copy")
}

fn header(content: &[u8]) -> String {
    format!("{MAGIC} {}\n", Digest::of(content))
}

fn content_of(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let content = &bytes[end + 1..];
    (bytes[..=end] == *header(content).as_bytes()).then_some(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn disk() -> (tempfile::TempDir, Disk) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::open(&dir.path().join("state")).expect("open");
        (dir, disk)
    }

    #[test]
    fn what_was_written_reads_back_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, disk) = disk();
        assert_eq!(disk.read("spec").expect("read"), Found::Nothing);
        disk.write("spec", b"one").expect("write");
        disk.write("spec", b"two\nlines").expect("write");
        assert_eq!(disk.read("spec").expect("read"), Found::Whole(b"two\nlines".to_vec()));
        let mode = fs::metadata(disk.path("spec")).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_published_is_whole_and_nothing_else() {
        let (dir, _disk) = disk();
        let path = dir.path().join("another/program.json");
        publish(&path, b"a long first one").expect("publish");
        publish(&path, b"second").expect("publish");
        assert_eq!(fs::read(&path).expect("read"), b"second");
        assert_eq!(fs::read_dir(dir.path().join("another")).expect("list").count(), 1);
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_found_and_set_aside() {
        let (_dir, disk) = disk();
        disk.write("spec", b"precious").expect("write");
        let whole = fs::read(disk.path("spec")).expect("read");
        let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        });
        for damaged in cut.chain(flipped) {
            fs::write(disk.path("spec"), &damaged).expect("damage");
            let found = disk.read("spec").expect("read");
            let Found::SetAside(aside) = found else { panic!("{damaged:?} was believed") };
            assert_eq!(fs::read(aside).expect("kept"), damaged);
            assert_eq!(disk.read("spec").expect("read"), Found::Nothing);
        }
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_the_old_content() {
        let (_dir, disk) = disk();
        disk.write("spec", b"old").expect("write");
        fs::write(disk.path("spec.new"), b"launchpad-state-1 sha256:").expect("a torn write");
        assert_eq!(disk.read("spec").expect("read"), Found::Whole(b"old".to_vec()));
        disk.write("spec", b"new").expect("write");
        assert_eq!(disk.read("spec").expect("read"), Found::Whole(b"new".to_vec()));
    }
}
