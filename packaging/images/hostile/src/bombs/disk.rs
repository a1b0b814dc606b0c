//! Too much on disk, and in the file systems that are memory.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use launchpad_hostile::Try;

use crate::place::Place;
use crate::sys::{Page, sys};

/// What a bomb is called, in each folder.
const NAME: &str = ".hostile-bomb";
const BYTES_PER_MB: u64 = 1 << 20;
/// Reserved at once where the file system can: ten gigabytes are full in a moment.
const STEP_BYTES: u64 = 16 * BYTES_PER_MB;
/// Written at once to fill what no step fits into.
const WRITE_BYTES: usize = 64 * 1024;
/// How far above its bound a bomb goes.
const ABOVE_BYTES: u64 = 64 * BYTES_PER_MB;
/// What a file system may keep for itself of the size that was asked for.
const OWN_PER_CENT: u64 = 10;

/// Fills the volume, keeps it full as long as ordered, frees it, and writes again.
pub(crate) fn volume(place: &Place) -> Vec<Try> {
    let bounds = &place.orders.bounds;
    let full_for = Duration::from_millis(bounds.volume_full_for_ms);
    vec![fill(&place.state, bounds.volume_mb, full_for), free_again(&place.state)]
}

/// Fills each tmpfs. They are memory: together they must be less than the bot has, or the bomb is killed
/// first.
pub(crate) fn tmpfs(place: &Place) -> Vec<Try> {
    let sizes = &place.orders.bounds.tmpfs_mb;
    if sizes.is_empty() {
        return vec![Try::refused("fills a tmpfs", "it has none")];
    }
    sizes.iter().map(|(folder, megabytes)| fill(Path::new(folder), *megabytes, Duration::ZERO)).collect()
}

fn fill(folder: &Path, megabytes: u64, full_for: Duration) -> Try {
    let bound = megabytes * BYTES_PER_MB;
    let what = format!("writes more than {megabytes} MiB into {}", folder.display());
    let path = folder.join(NAME);
    let made = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
    let outcome = made.map(|mut file| {
        let outcome = grow(&mut file, bound + bound / 100 * OWN_PER_CENT + ABOVE_BYTES);
        thread::sleep(full_for);
        outcome
    });
    let free = free_bytes(folder);
    remove(folder);
    match outcome {
        Err(error) => Try::untried(what, error),
        Ok((got, None)) => Try::reached(what, format!("{} MiB, and nothing stopped it", got / BYTES_PER_MB)),
        Ok((got, Some(error))) => {
            let told = format!("{} MiB, then: {error} ({} KiB free)", got / BYTES_PER_MB, free / 1024);
            // A full volume says so; another error would have stopped nobody who insists.
            match error.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => Try::contained(what, told),
                _ => Try::untried(what, told),
            }
        }
    }
}

/// How much it got, and what stopped it.
fn grow(file: &mut File, most: u64) -> (u64, Option<io::Error>) {
    let mut got = 0;
    // Reserved space is charged as written space is. What cannot reserve, or not a whole step more, writes.
    while got < most && reserve(file, got, STEP_BYTES).is_ok() {
        got += STEP_BYTES;
    }
    if let Err(error) = io::Seek::seek(file, io::SeekFrom::Start(got)) {
        return (got, Some(error));
    }
    let block = vec![1; WRITE_BYTES];
    while got < most {
        match file.write(&block) {
            Ok(count) => got += count as u64,
            Err(error) => return (got, Some(error)),
        }
    }
    // What was only promised so far has to be found now.
    (got, file.sync_all().err())
}

fn reserve(file: &File, at: u64, count: u64) -> io::Result<i64> {
    let number = |bytes: u64| i64::try_from(bytes).map_err(io::Error::other);
    sys!(SYS_fallocate, file.as_raw_fd(), 0, number(at)?, number(count)?)
}

/// Removes a bomb from a folder, if one is there.
pub(crate) fn remove(folder: &Path) {
    let _ = fs::remove_file(folder.join(NAME));
}

/// Bytes that an ordinary user can still write there; 0 if the kernel does not say.
fn free_bytes(folder: &Path) -> u64 {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return 0 };
    let mut page = Page::new();
    if sys!(SYS_statfs, path.as_c_str(), &mut page).is_err() {
        return 0;
    }
    // struct statfs of the 64-bit targets: type, block size, blocks, free, available, all 64 bits.
    let field = |at: usize| page.bytes(at + 8)[at..].try_into().map_or(0, u64::from_ne_bytes);
    field(8).saturating_mul(field(32))
}

fn free_again(folder: &Path) -> Try {
    let what = "writes again once it has freed its volume";
    let written = fs::write(folder.join(NAME), vec![1; WRITE_BYTES]);
    remove(folder);
    match written {
        Ok(()) => Try::contained(what, "it can"),
        Err(error) => Try::untried(what, error),
    }
}

#[cfg(test)]
mod tests {
    use launchpad_hostile::Outcome;

    use super::*;

    #[test]
    fn a_folder_without_a_limit_lets_a_bomb_through_and_is_empty_afterwards() {
        let folder = std::env::temp_dir().join(format!("hostile-disk-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let tried = fill(&folder, 1, Duration::ZERO);
        assert_eq!(tried.outcome, Outcome::Reached, "{tried:?}");
        assert!(free_bytes(&folder) > 0);
        assert_eq!(free_again(&folder).outcome, Outcome::Contained);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }
}
