//! A bot's folder walked: digested, and given from one range of user ids to another.
//!
//! Used where there is no way round looking inside: a snapshot of a folder, and a snapshot on a host that
//! remaps user ids. The bot has stopped, so nothing moves meanwhile; it may have left anything behind, so no
//! symbolic link is followed, nothing but plain files is opened, and no other filesystem is entered.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use launchpad_protocol::digest::Digest;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use super::content;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Bits of a mode that the kernel takes away when the owner changes.
const SET_ID_BITS: u32 = 0o6000;

/// How far user and group ids are moved. What would leave the range of ids stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    /// Added to user ids.
    pub uid: i64,
    /// Added to group ids.
    pub gid: i64,
}

impl Shift {
    /// Nothing changes.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.uid == 0 && self.gid == 0
    }

    /// The way back.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { uid: -self.uid, gid: -self.gid }
    }
}

/// Moves the owner ids of a folder and all that is in it. A folder that was moved before moves again.
///
/// # Errors
/// What the operating system said, and where.
pub fn shift(root: &Path, by: Shift) -> io::Result<()> {
    // A file with two names is moved once.
    let mut moved = std::collections::BTreeSet::new();
    walk(root, |path, found| {
        let many_names = !found.is_dir() && found.nlink() > 1;
        if many_names && !moved.insert(found.ino()) {
            return Ok(());
        }
        lchown(path, Some(moved_id(found.uid(), by.uid)), Some(moved_id(found.gid(), by.gid)))?;
        if !found.is_symlink() && found.mode() & SET_ID_BITS != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o7777))?;
        }
        Ok(())
    })
}

/// An id that was the host's own stays the host's own.
fn moved_id(id: u32, by: i64) -> u32 {
    u32::try_from(i64::from(id) + by).unwrap_or(id)
}

/// The digest of a folder: names, kinds, modes, owners, times of change, link targets, contents. Extended
/// attributes and which names are one file are not in it.
///
/// # Errors
/// What the operating system said, and where.
pub fn digest(root: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    walk(root, |path, found| {
        let name = path.strip_prefix(root).unwrap_or(path);
        part(&mut hash, name.as_os_str().as_bytes());
        // A folder's length is the filesystem's own affair.
        let len = if found.is_file() { found.len() } else { 0 };
        for number in [found.mode().into(), found.uid().into(), found.gid().into(), len] {
            hash.update(u64::to_be_bytes(number));
        }
        for number in [found.mtime(), found.mtime_nsec()] {
            hash.update(number.to_be_bytes());
        }
        if found.is_symlink() {
            part(&mut hash, fs::read_link(path)?.as_os_str().as_bytes());
        } else if found.is_file() {
            add_content(&mut hash, path)?;
        }
        Ok(())
    })?;
    content::finished(hash)
}

/// With its length before it, so that no two lists of parts read alike.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn add_content(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

/// Visits a folder and all that is in it, by name, a folder before its content.
fn walk(root: &Path, mut visit: impl FnMut(&Path, &Metadata) -> io::Result<()>) -> io::Result<()> {
    let device = fs::symlink_metadata(root)?.dev();
    // A stack, not recursion: a bot may nest folders deeper than any thread's stack.
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let found = fs::symlink_metadata(&path).map_err(at)?;
        if found.dev() != device {
            return Err(at(io::Error::other("something else is mounted there")));
        }
        if found.is_dir() {
            ahead.extend(children(&path).map_err(at)?);
        }
        visit(&path, &found).map_err(at)?;
    }
    Ok(())
}

/// The last first, as a stack wants them.
fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort_by(|one, other| other.cmp(one));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn bots_folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/file"), b"content").unwrap();
        fs::hard_link(dir.path().join("deep/file"), dir.path().join("again")).unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        dir
    }

    #[test]
    fn a_digest_tells_every_change_and_opens_neither_link_nor_pipe() {
        let dir = bots_folder();
        let at = |name: &str| dir.path().join(name);
        let mut seen = vec![digest(dir.path()).unwrap()];
        assert_eq!(digest(dir.path()).unwrap(), seen[0], "twice the same");
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(at("deep/file"), b"CONTENT").unwrap(),
            &|| fs::set_permissions(at("deep"), fs::Permissions::from_mode(0o700)).unwrap(),
            &|| fs::rename(at("deep/file"), at("deep/name")).unwrap(),
            &|| {
                fs::remove_file(at("link")).unwrap();
                symlink("/etc/shadow", at("link")).unwrap();
            },
        ];
        for change in changes {
            change();
            let now = digest(dir.path()).unwrap();
            assert!(!seen.contains(&now));
            seen.push(now);
        }
    }

    #[test]
    fn ids_move_there_and_back_once_for_a_file_of_two_names_and_never_through_a_link() {
        if !nix::unistd::geteuid().is_root() {
            panic!("owners can only be changed by root: run the tests as root");
        }
        let dir = bots_folder();
        let by = Shift { uid: 200_000, gid: 300_000 };
        fs::set_permissions(dir.path().join("deep/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        let before = digest(dir.path()).unwrap();
        let passwd = fs::metadata("/etc/passwd").unwrap().uid();
        shift(dir.path(), by).unwrap();
        for name in ["deep", "deep/file", "again", "link", "pipe", "."] {
            let found = fs::symlink_metadata(dir.path().join(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (200_000, 300_000), "{name}");
        }
        assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), passwd);
        shift(dir.path(), by.reversed()).unwrap();
        assert_eq!(digest(dir.path()).unwrap(), before, "modes too");
    }

    #[test]
    fn an_id_that_is_not_of_the_range_stays() {
        assert_eq!(moved_id(1000, -200_000), 1000);
        assert_eq!(moved_id(201_000, -200_000), 1000);
        assert_eq!(moved_id(u32::MAX - 1, 200_000), u32::MAX - 1);
    }
}
