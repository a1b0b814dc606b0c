//! What the host's disk can still promise.
//!
//! A volume is promised whole, and a promise is kept: so each new byte is asked for here first, together with
//! what is promised and not yet taken, and a reserve that nobody is given. A bot that fills its volume meets
//! ENOSPC in there; the host never does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use launchpad_protocol::reason::Reason;
use nix::sys::statvfs::statvfs;

use super::failure::{failed, mib};
use crate::observe::VOLUME_GRAIN_BYTES;

/// Bytes of the host's disk that no volume gets: what dockerd needs to unpack an image of a bot (openclaw's
/// takes 1 GB), and as much again for logs, the ledger and the journal. Placement keeps a tenth of the disk
/// on top of it free.
pub const RESERVE_BYTES: u64 = 2 << 30;

/// The size of a volume that is to hold that many bytes: no less, and exactly what the kernel will tell.
///
/// # Errors
/// When it is nothing, or more than any disk holds.
pub fn rounded(bytes: u64) -> Result<u64, Reason> {
    let fits = |bytes: &u64| i64::try_from(*bytes).is_ok();
    let grains =
        Some(bytes).filter(|bytes| *bytes > 0).and_then(|bytes| bytes.checked_next_multiple_of(VOLUME_GRAIN_BYTES));
    grains.filter(fits).ok_or_else(|| {
        Reason::new("volume-size", format!("a volume of {bytes} bytes cannot be made"))
            .mend("ask for a size that the host's disk has")
    })
}

/// What is asked of the host's disk, by whoever makes something there just now.
#[derive(Debug, Clone)]
pub(super) struct Space {
    volumes: PathBuf,
    claimed: Arc<Mutex<u64>>,
}

/// Bytes that are kept for somebody until this is dropped. One that is never dropped keeps them too long, no
/// more.
#[derive(Debug)]
#[must_use]
pub(super) struct Claim {
    bytes: u64,
    claimed: Arc<Mutex<u64>>,
}

impl Space {
    /// Of the disk that this directory lies on.
    pub(super) fn of(volumes: PathBuf) -> Self {
        Self { volumes, claimed: Arc::default() }
    }

    /// Keeps that many bytes for `what`, beside those that are `owed` to others already.
    ///
    /// # Errors
    /// When the disk has not that many, with what is in the way.
    pub(super) fn claim(&self, what: &str, bytes: u64, owed: u64) -> Result<Claim, Reason> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = statvfs(&self.volumes).map_err(|errno| failed("look at", &self.volumes, &errno.into()))?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        judge(what, bytes, free, owed.saturating_add(*claimed))?;
        *claimed = claimed.saturating_add(bytes);
        Ok(Claim { bytes, claimed: Arc::clone(&self.claimed) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        *claimed = claimed.saturating_sub(self.bytes);
    }
}

fn judge(what: &str, bytes: u64, free: u64, owed: u64) -> Result<(), Reason> {
    let to_give = free.saturating_sub(RESERVE_BYTES).saturating_sub(owed);
    if bytes <= to_give {
        return Ok(());
    }
    Err(Reason::new(
        "disk-full",
        format!("{what} needs {} of the host's disk, which has {} to give", mib(bytes), mib(to_give)),
    )
    .because(format!(
        "{} are free, {} of them promised to volumes and {} kept",
        mib(free),
        mib(owed),
        mib(RESERVE_BYTES)
    ))
    .mend("free some space on that disk, or move a deployment to another host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_to_what_the_kernel_will_tell() {
        assert_eq!(rounded(1).unwrap(), VOLUME_GRAIN_BYTES);
        assert_eq!(rounded(VOLUME_GRAIN_BYTES).unwrap(), VOLUME_GRAIN_BYTES);
        assert_eq!(rounded(10_000_000_000).unwrap(), 10_066_329_600);
        assert!(rounded(0).is_err() && rounded(u64::MAX).is_err() && rounded(i64::MAX as u64).is_err());
    }

    #[test]
    fn neither_the_reserve_nor_what_is_owed_is_given_away() {
        let gib = 1 << 30;
        assert!(judge("it", 3 * gib, 10 * gib, 5 * gib).is_ok());
        let reason = judge("it", 3 * gib + 1, 10 * gib, 5 * gib).unwrap_err();
        assert_eq!(reason.code, "disk-full");
        assert!(judge("it", 1, gib, 0).is_err(), "a disk below its reserve gives nothing");
    }

    #[test]
    fn two_that_ask_at_once_are_not_given_the_same_bytes() {
        let space = Space::of(std::env::temp_dir());
        let disk = statvfs(&std::env::temp_dir()).unwrap();
        let free = disk.blocks_available() * disk.fragment_size();
        let most_of_it = (free - RESERVE_BYTES) / 4 * 3;
        let first = space.claim("the first", most_of_it, 0).unwrap();
        assert!(space.claim("the second", most_of_it, 0).is_err());
        drop(first);
        drop(space.claim("the third", most_of_it, 0).unwrap());
    }
}
