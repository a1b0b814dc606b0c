//! Steps that are calls to the filesystem: directories, room, names.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use launchpad_protocol::reason::Reason;
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, renameat2};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};

use super::super::failure::failed;

/// A bot's data is the bot's alone.
const DATA_MODE: u32 = 0o700;
/// An image is the host's alone.
const IMAGE_MODE: u32 = 0o600;

pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), Reason> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    // The umask may have taken bits away, and an older agent may have chosen others.
    let made = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.map_err(|error| failed("make", path, &error))
}

/// Makes a file if there is none; whether it is empty.
pub(super) fn begin(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(IMAGE_MODE).open(path)?;
    Ok(file.metadata()?.len() == 0)
}

/// Whether the host's filesystem writes everything to a new place.
pub(super) fn copies_on_write(path: &Path) -> io::Result<bool> {
    Ok(fstatfs(&File::open(path)?)?.filesystem_type() == BTRFS_SUPER_MAGIC)
}

/// All of it or nothing: a disk that fills half-way leaves the file as it was.
pub(super) fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let before = file.metadata()?.len();
    let wanted = i64::try_from(bytes).map_err(io::Error::other)?;
    let reserved = nix::fcntl::fallocate(file.as_fd(), FallocateFlags::empty(), 0, wanted);
    if let Err(errno) = reserved {
        file.set_len(before)?;
        return Err(errno.into());
    }
    // An empty one is synced by whoever fills it; one that grows must be as long as what will be written into
    // it says.
    if before == 0 { Ok(()) } else { file.sync_all() }
}

/// The directory alone: what is in it stays as it is. A new one appears with its owner.
pub(super) fn give_to(path: &Path, uid: u32, gid: u32) -> Result<(), Reason> {
    let given = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() && (found.uid(), found.gid()) == (uid, gid) => Ok(()),
        Ok(found) if found.is_dir() => lchown(path, Some(uid), Some(gid)),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_for(path, uid, gid),
        Err(error) => Err(error),
    };
    given.map_err(|error| failed("give away", path, &error))
}

fn make_for(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match fs::DirBuilder::new().mode(DATA_MODE).create(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => lchown(&fresh, Some(uid), Some(gid))?,
    }
    // What a power cut takes back is made again.
    fs::rename(&fresh, path)
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Reason> {
    fs::rename(from, to).and_then(|()| sync_parent(to)).map_err(|error| failed("put in place", to, &error))
}

pub(super) fn exchange(one: &Path, other: &Path) -> Result<(), Reason> {
    let exchanged = renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE);
    let exchanged = exchanged.map_err(io::Error::from).and_then(|()| sync_parent(other));
    exchanged.map_err(|error| failed("put in place", other, &error))
}

/// A name is on the disk when its directory is; a journal keeps the other directory in step.
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

pub(super) fn sync_filesystem(path: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(path)?.as_fd())?)
}
