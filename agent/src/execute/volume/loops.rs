//! Loop devices as the kernel shows them: which file is attached to which.
//!
//! `image.rs` decides by this, `door/` waits by it. Nothing is attached here.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use launchpad_protocol::reason::Reason;

use super::mounts::Device;

/// Where the kernel shows block devices.
const BLOCK: &str = "/sys/block";
/// Bytes of the unit in which the kernel tells a device's size.
const SECTOR_BYTES: u64 = 512;
/// What the kernel writes behind the name of a file that is there no more.
const DELETED: &[u8] = b" (deleted)";

/// A loop device with a file attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopDevice {
    /// `loop3`.
    pub name: String,
    /// Its number.
    pub device: Device,
    /// The file, under the name that it had.
    pub file: PathBuf,
    /// Whether the file has that name no more.
    pub deleted: bool,
    /// Bytes of it that the device shows.
    pub bytes: u64,
    /// Whether it lets the file go with its last user.
    pub frees_itself: bool,
}

impl LoopDevice {
    /// Its node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// All loop devices that have a file.
///
/// # Errors
/// When `/sys` is not there.
pub fn attached() -> Result<Vec<LoopDevice>, Reason> {
    let entries = fs::read_dir(BLOCK).map_err(|error| {
        Reason::new("block-devices-unreadable", format!("cannot list {BLOCK}"))
            .because(error.to_string())
            .mend("mount /sys on the host")
    })?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<LoopDevice> = names.filter(|name| name.starts_with("loop")).filter_map(look).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Those that have this file, or had it before it was deleted.
///
/// # Errors
/// As [`attached`].
pub fn attached_to(file: &Path) -> Result<Vec<LoopDevice>, Reason> {
    Ok(attached()?.into_iter().filter(|device| device.file == file).collect())
}

/// None: no file is attached, or no longer.
fn look(name: String) -> Option<LoopDevice> {
    let shown = Path::new(BLOCK).join(&name);
    let (file, deleted) = file(&fs::read(shown.join("loop/backing_file")).ok()?);
    let text = |path: &str| fs::read_to_string(shown.join(path)).ok();
    Some(LoopDevice {
        device: text("dev")?.parse().ok()?,
        bytes: text("size")?.trim().parse::<u64>().ok()?.saturating_mul(SECTOR_BYTES),
        frees_itself: text("loop/autoclear")?.trim() == "1",
        name,
        file,
        deleted,
    })
}

fn file(shown: &[u8]) -> (PathBuf, bool) {
    let shown = shown.strip_suffix(b"\n").unwrap_or(shown);
    let name = shown.strip_suffix(DELETED);
    let path = PathBuf::from(OsString::from_vec(name.unwrap_or(shown).to_vec()));
    // A file may be called so and be there.
    let deleted = name.is_some() && fs::symlink_metadata(std::ffi::OsStr::from_bytes(shown)).is_err();
    (path, deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_told_from_one_that_is_there() {
        assert_eq!(file(b"/srv/some where/image\n"), (PathBuf::from("/srv/some where/image"), false));
        assert_eq!(file(b"/srv/image (deleted)\n"), (PathBuf::from("/srv/image"), true));
    }
}
