//! Large files with holes: copied, measured and digested by what is in them.
//!
//! An image of 10 GB that holds 60 MB costs 60 MB here, because the kernel says where the data is. The digest
//! is one of content: a hole and as many zeros are the same, so a copy that lost its holes, or has more of
//! them, is still the same copy. Blocks until done: the caller is on a thread that may.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use launchpad_protocol::digest::Digest;
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::{Whence, lseek};
use sha2::{Digest as _, Sha256};

/// Bytes that are compared with zero and written at once: large enough that calls do not count, small enough
/// that a copy stays sparse.
const BLOCK_BYTES: u64 = 64 * 1024;
/// Bytes that are read at once, because nothing is read ahead.
const READ_BYTES: u64 = 16 * BLOCK_BYTES;
/// A copy is the host's alone.
const FILE_MODE: u32 = 0o600;

/// Copies a file; what is zero in it becomes a hole. The copy is on the disk when this returns.
///
/// # Errors
/// What the operating system said. A copy that was begun stays: it lies where nothing looks whole.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(to)?;
    target.set_len(source.metadata()?.len())?;
    blocks(&source, |at, block| target.write_all_at(block, at))?;
    target.sync_all()
}

/// The digest of a file's content, holes being zeros.
///
/// # Errors
/// What the operating system said.
pub fn digest(path: &Path) -> io::Result<Digest> {
    let file = File::open(path)?;
    let mut hash = Sha256::new();
    hash.update(file.metadata()?.len().to_be_bytes());
    blocks(&file, |at, block| {
        hash.update(at.to_be_bytes());
        hash.update(block);
        Ok(())
    })?;
    finished(hash)
}

/// The digest that a hash has come to.
pub(super) fn finished(hash: Sha256) -> io::Result<Digest> {
    Digest::from_bytes(&hash.finalize()).ok_or_else(|| io::Error::other("SHA-256 has another length"))
}

/// Bytes of a file that are not holes: what a copy of it takes at most.
///
/// # Errors
/// What the operating system said.
pub fn data_bytes(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut sum = 0;
    let mut from = 0;
    while let Some(data) = data_after(&file, from)? {
        from = data.end;
        sum += data.end - data.start;
    }
    Ok(sum)
}

/// Every block that is not zero, in order, with its place.
fn blocks(file: &File, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let len = file.metadata()?.len();
    // Room that is kept and was never written is a hole, until it is read ahead of: then its zeros are in
    // memory, and the kernel calls them data.
    posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
    let mut buffer = vec![0; usize::try_from(READ_BYTES).map_err(io::Error::other)?];
    let block = usize::try_from(BLOCK_BYTES).map_err(io::Error::other)?;
    let mut from = 0;
    while let Some(data) = data_after(file, from)? {
        // Whole blocks, wherever the data begins: a digest must not depend on where extents end.
        let end = data.end.next_multiple_of(BLOCK_BYTES).min(len);
        let mut at = data.start - data.start % BLOCK_BYTES;
        while at < end {
            let wanted = usize::try_from(READ_BYTES.min(end - at)).map_err(io::Error::other)?;
            let read = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(read, at)?;
            for block in read.chunks(block) {
                if block.iter().any(|byte| *byte != 0) {
                    each(at, block)?;
                }
                at += block.len() as u64;
            }
        }
        from = at;
    }
    Ok(())
}

/// The next stretch of data at or behind that place.
fn data_after(file: &File, from: u64) -> io::Result<Option<Range<u64>>> {
    let seek = |to: u64, whence| {
        let found = lseek(file.as_fd(), i64::try_from(to).map_err(io::Error::other)?, whence)?;
        u64::try_from(found).map_err(io::Error::other)
    };
    let start = match seek(from, Whence::SeekData) {
        Ok(start) => start,
        // Nothing but holes up to the end, or the end.
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(start..seek(start, Whence::SeekHole)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    const MIB: u64 = 1 << 20;

    fn file(dir: &Path, name: &str, len: u64, content: &[(u64, &[u8])]) -> std::path::PathBuf {
        let path = dir.join(name);
        let file = File::create(&path).unwrap();
        file.set_len(len).unwrap();
        content.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        path
    }

    #[test]
    fn a_hole_and_as_many_zeros_have_one_digest_and_any_byte_or_length_another() {
        let dir = tempfile::tempdir().unwrap();
        let parts: [(u64, &[u8]); 2] = [(5 * MIB + 7, b"state"), (9 * MIB - 3, b"end")];
        let sparse = digest(&file(dir.path(), "sparse", 9 * MIB, &parts)).unwrap();
        let zeros = vec![0; 3 << 20];
        let written = [(MIB, zeros.as_slice()), parts[0], parts[1]];
        assert_eq!(digest(&file(dir.path(), "written", 9 * MIB, &written)).unwrap(), sparse);
        let moved = [(5 * MIB + 8, b"state".as_slice()), parts[1]];
        assert_ne!(digest(&file(dir.path(), "moved", 9 * MIB, &moved)).unwrap(), sparse);
        assert_ne!(digest(&file(dir.path(), "longer", 9 * MIB + 1, &parts)).unwrap(), sparse);
    }

    #[test]
    fn a_copy_is_the_same_and_takes_no_more_than_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let zeros = vec![0; 4 << 20];
        let parts: [(u64, &[u8]); 3] = [(MIB, b"one"), (100 * MIB, &zeros), (300 * MIB - 1, b"!")];
        let source = file(dir.path(), "source", 300 * MIB, &parts);
        assert!(data_bytes(&source).unwrap() < 5 * MIB, "the kernel tells of holes");
        let target = dir.path().join("target");
        copy(&source, &target).unwrap();
        assert_eq!(digest(&target).unwrap(), digest(&source).unwrap());
        let found = std::fs::metadata(&target).unwrap();
        assert_eq!(found.len(), 300 * MIB);
        assert!(found.blocks() * 512 < MIB, "{} bytes on the disk", found.blocks() * 512);
    }

    #[test]
    fn an_empty_file_is_copied_and_digested() {
        let dir = tempfile::tempdir().unwrap();
        let empty = file(dir.path(), "empty", 0, &[]);
        copy(&empty, &dir.path().join("copy")).unwrap();
        assert_eq!(digest(&dir.path().join("copy")).unwrap(), digest(&empty).unwrap());
        assert_eq!(data_bytes(&empty).unwrap(), 0);
    }
}
