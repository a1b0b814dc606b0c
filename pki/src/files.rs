//! Files that hold keys: read and written so that neither a neighbour nor a power cut gets at them.
//!
//! Written as write, fsync, rename, fsync of the directory: after a crash the old file or the new one is
//! there, whole. Mode 0600 in a directory of mode 0700; a key that others could read is refused, not used.
//! Everything here blocks briefly: asynchronous callers go through their door for blocking work.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Mode of a directory that holds keys.
const DIR_MODE: u32 = 0o700;

/// Mode of a file that holds a key.
const FILE_MODE: u32 = 0o600;

/// The mode bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// The same of a file that root gave: its group is root's.
const OTHERS_GIVEN: u32 = 0o037;

/// The most bytes of a file that is read whole: a chain and a bundle of a few roots are under 10 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Why a file that should hold a key gives none. Every one names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "{} may be read by others (mode {mode:o}): chmod 600 it, and replace the key if the host is shared",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Far longer than a key file.
    #[error("{} is {bytes} bytes long, more than any file of keys or certificates", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Readable, but not what it should be.
    #[error("{} does not hold {expected}: it is damaged; restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// It is there already, and must not be overwritten.
    #[error("{} is there already: nothing was changed", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// For whoever reads a file's content: it is not what it should be.
    #[must_use]
    pub fn damaged(path: &Path, expected: &'static str) -> Self {
        Self::Damaged { path: path.to_owned(), expected }
    }

    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }
}

/// Makes the directory with mode 0700, or takes away the access that others have to one that is there.
///
/// # Errors
/// When the operating system refuses.
pub fn private_dir(dir: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
    made.map_err(FileError::io("create directory", dir))?;
    let mode = fs::metadata(dir).map_err(FileError::io("look at", dir))?.mode();
    if mode & OTHERS != 0 {
        let tight = Permissions::from_mode(mode & 0o7777 & !OTHERS);
        fs::set_permissions(dir, tight).map_err(FileError::io("take others' access from", dir))?;
    }
    Ok(())
}

/// Writes the file with mode 0600, or replaces it: after a crash it holds what it held, or all of `content`.
///
/// # Errors
/// When the operating system refuses; what was there before is then still there.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let (dir, new) = (parent(path), staged(path));
    // Left over by a crash: it was never renamed, so it never counted.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::io("remove", &new)(error));
        }
        _ => {}
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new);
    let mut file = opened.map_err(FileError::io("create", &new))?;
    file.write_all(content).map_err(FileError::io("write", &new))?;
    file.sync_all().map_err(FileError::io("sync", &new))?;
    fs::rename(&new, path).map_err(FileError::io("rename into place", path))?;
    let dir_file = File::open(dir).map_err(FileError::io("open directory", dir))?;
    dir_file.sync_all().map_err(FileError::io("sync directory", dir))
}

/// Writes a file that must not be there yet.
///
/// # Errors
/// [`FileError::Exists`], or when the operating system refuses.
pub fn write_new_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    if path.try_exists().map_err(FileError::io("look for", path))? {
        return Err(FileError::Exists { path: path.to_owned() });
    }
    write_private(path, content)
}

/// Reads a file that holds a key.
///
/// # Errors
/// When it is absent, open to others, far too long, or the operating system refuses.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut file = File::open(path).map_err(FileError::io("open", path))?;
    let found = file.metadata().map_err(FileError::io("look at", path))?;
    let mode = found.mode() & 0o7777;
    let is_given = is_given(found.uid(), found.gid(), nix::unistd::geteuid().as_raw());
    if mode & (if is_given { OTHERS_GIVEN } else { OTHERS }) != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    read_bounded(&mut file, path, found.len()).map(Zeroizing::new)
}

/// Whether root gave the reader a file of root's own, as systemd gives credentials: an access list names the reader, and
/// shows as the group's right to read.
const fn is_given(owner: u32, group: u32, reader: u32) -> bool {
    owner == 0 && group == 0 && reader != 0
}

/// Reads a text file, of certificates for example, that others may read.
///
/// # Errors
/// When it is absent, far too long, not text, or the operating system refuses.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let mut file = File::open(path).map_err(FileError::io("open", path))?;
    let bytes = file.metadata().map_err(FileError::io("look at", path))?.len();
    let content = read_bounded(&mut file, path, bytes)?;
    String::from_utf8(content).map_err(|_| FileError::damaged(path, "text"))
}

fn read_bounded(file: &mut File, path: &Path, bytes: u64) -> Result<Vec<u8>, FileError> {
    if bytes > FILE_BYTES_MAX {
        return Err(FileError::TooLong { path: path.to_owned(), bytes });
    }
    // Reserved whole, so that no shorter copy of a key is left behind by a growing buffer.
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(FileError::io("read", path))?;
    Ok(content)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn staged(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_root_gave_may_be_read_by_whom_it_was_given_and_root_keeps_its_own_closed() {
        assert!(is_given(0, 0, 990));
        assert!(!is_given(0, 0, 0) && !is_given(990, 0, 990) && !is_given(0, 990, 990));
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("identity");
        private_dir(&dir).unwrap();
        write_private(&dir.join("host.key"), b"secret").unwrap();
        assert_eq!((mode(&dir), mode(&dir.join("host.key"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left staged");
    }

    #[test]
    fn a_directory_that_was_open_is_closed() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        private_dir(root.path()).unwrap();
        assert_eq!(mode(root.path()), 0o700);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("host.key");
        write_private(&path, b"secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&path).unwrap_err().to_string();
        assert!(error.contains("host.key") && error.contains("640") && error.contains("chmod"), "{error}");
    }

    #[test]
    fn a_file_left_staged_by_a_crash_does_not_matter() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("host.key");
        fs::write(root.path().join("host.key.new"), b"half").unwrap();
        write_private(&path, b"whole").unwrap();
        assert_eq!(&read_private(&path).unwrap()[..], b"whole");
    }

    #[test]
    fn a_missing_file_is_told_from_a_broken_one() {
        let root = tempfile::tempdir().unwrap();
        assert!(read_private(&root.path().join("none")).unwrap_err().is_absent());
        assert!(!read_private(root.path()).unwrap_err().is_absent());
    }

    #[test]
    fn what_is_there_is_not_overwritten_unasked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("root.key");
        write_new_private(&path, b"first").unwrap();
        assert!(matches!(write_new_private(&path, b"second"), Err(FileError::Exists { .. })));
        assert_eq!(&read_private(&path).unwrap()[..], b"first");
    }
}
