//! Which disk a directory lies on: the one that control groups limit is a whole disk, never a part of one.

use std::fs;
use std::path::Path;

use nix::sys::stat::{major, minor, stat};

/// The number of the disk beneath a directory, or beneath where it will be: `8:0`. None where no disk has one number:
/// network filesystems, several disks in one, overlays.
pub(super) fn beneath(dir: &Path) -> Option<String> {
    let there = dir.ancestors().find(|path| path.exists())?;
    let device = stat(there).ok()?.st_dev;
    whole(Path::new("/sys/dev/block"), &format!("{}:{}", major(device), minor(device)))
}

/// The disk that a block device is, or is a part of.
fn whole(devices: &Path, number: &str) -> Option<String> {
    let device = devices.join(number);
    if !device.join("partition").exists() {
        return device.exists().then(|| number.to_owned());
    }
    // The entry is a link to the part's directory, which lies in the disk's.
    let disk = fs::canonicalize(&device).ok()?.parent()?.join("dev");
    fs::read_to_string(disk).ok().map(|number| number.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_part_of_a_disk_stands_for_the_whole_and_what_is_no_disk_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("devices/sda");
        fs::create_dir_all(disk.join("sda1")).unwrap();
        fs::write(disk.join("dev"), "8:0\n").unwrap();
        fs::write(disk.join("sda1/partition"), "1\n").unwrap();
        let block = dir.path().join("block");
        fs::create_dir(&block).unwrap();
        symlink(&disk, block.join("8:0")).unwrap();
        symlink(disk.join("sda1"), block.join("8:1")).unwrap();
        assert_eq!(whole(&block, "8:1"), Some("8:0".to_owned()));
        assert_eq!(whole(&block, "8:0"), Some("8:0".to_owned()));
        assert_eq!(whole(&block, "0:42"), None, "an overlay");
    }
}
