//! The kernel's mount table, read: what is mounted where, from what, with which flags.
//!
//! Everything here that needs to know whether a volume is mounted asks this, never its own memory. Nothing is
//! mounted here. The format is that of `/proc/<pid>/mountinfo` (proc(5)):
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!       │    │     │     │          │          │    │         └ flags of the filesystem
//!       │    │     │     └ flags    └ optional └ kind └ source
//!       └ device   └ where it is mounted
//!            └ which directory of the filesystem
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use launchpad_protocol::reason::Reason;

/// A block device, or a filesystem without one, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    major: u32,
    minor: u32,
}

/// Why a text is no device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a device number: expected `<major>:<minor>`")]
pub struct DeviceError;

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (major, minor) = text.trim().split_once(':').ok_or(DeviceError)?;
        let number = |digits: &str| digits.parse().map_err(|_| DeviceError);
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of a mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Of which filesystem.
    pub device: Device,
    /// Which directory of that filesystem.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The flags of this mount: `nosuid`, `nodev`, `ro`.
    pub flags: BTreeSet<String>,
    /// The group of mounts that hear of what is mounted below this one, and tell it.
    pub shared: Option<u32>,
    /// The group of mounts that this one hears of, without telling them.
    pub master: Option<u32>,
    /// `ext4`, `xfs`.
    pub kind: String,
    /// `/dev/loop3`, or what somebody chose to write there.
    pub source: PathBuf,
    /// The flags of the filesystem: `rw`, `prjquota`.
    pub filesystem_flags: BTreeSet<String>,
}

impl Mount {
    /// Whether nothing can be written through it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.flags.contains("ro") || self.filesystem_flags.contains("ro")
    }
}

/// The mounts that this process sees, in the order in which they were made.
///
/// # Errors
/// When `/proc` is not there.
pub fn own() -> Result<Vec<Mount>, Reason> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read(table).map_err(|error| {
        Reason::new("mount-table-unreadable", format!("cannot read {}", table.display()))
            .because(error.to_string())
            .mend("mount /proc on the host")
    })?;
    Ok(parse(&text))
}

/// The mounts that another process sees; none where it is gone, or not ours to look at.
#[must_use]
pub fn of(pid: i32) -> Option<Vec<Mount>> {
    fs::read(format!("/proc/{pid}/mountinfo")).ok().map(|text| parse(&text))
}

/// What is mounted at that very place, the topmost last.
pub fn at<'a>(mounts: &'a [Mount], point: &'a Path) -> impl Iterator<Item = &'a Mount> {
    mounts.iter().filter(move |mount| mount.point == point)
}

/// The mount that a path lies in.
#[must_use]
pub fn covering<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    // Of several at one place, the last one hides the others.
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count())
}

/// The lines of a mount table. What cannot be read is left out: a kernel may learn new words.
#[must_use]
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = text(fields.nth(2)?).parse().ok()?;
    let (root, point) = (path(fields.next()?), path(fields.next()?));
    let flags = flags(fields.next()?);
    let (mut shared, mut master) = (None, None);
    for field in fields.by_ref().map(text).take_while(|field| field != "-") {
        match field.split_once(':') {
            Some(("shared", group)) => shared = group.parse().ok(),
            Some(("master", group)) => master = group.parse().ok(),
            Some(_) | None => {}
        }
    }
    let (kind, source) = (text(fields.next()?), path(fields.next()?));
    let filesystem_flags = self::flags(fields.next()?);
    Some(Mount { device, root, point, flags, shared, master, kind, source, filesystem_flags })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

fn flags(field: &[u8]) -> BTreeSet<String> {
    text(field).split(',').map(str::to_owned).collect()
}

/// The kernel writes what would end a field as a backslash and three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        53 27 7:0 /data /srv/with\\040space\\134x rw,nosuid,nodev master:7 - ext4 /dev/loop0 ro\n\
        54 53 7:1 / /srv/with\\040space\\134x/sub rw - ext4 /dev/loop1 rw\n\
        a kernel of another time\n";

    #[test]
    fn a_table_is_read_with_its_escapes_groups_and_flags() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].shared, Some(1));
        let bind = &mounts[1];
        assert_eq!(bind.device.to_string(), "7:0");
        assert_eq!(
            (bind.root.as_path(), bind.point.as_path()),
            (Path::new("/data"), Path::new("/srv/with space\\x"))
        );
        assert_eq!((bind.shared, bind.master), (None, Some(7)));
        assert!(bind.flags.contains("nosuid") && bind.is_read_only() && !mounts[2].is_read_only());
    }

    #[test]
    fn a_path_lies_in_the_deepest_mount_above_it_and_in_the_last_of_several() {
        let mut mounts = parse(TABLE);
        let found = |mounts: &[Mount], path: &str| covering(mounts, Path::new(path)).unwrap().device.to_string();
        assert_eq!(found(&mounts, "/srv/with space\\x/sub/file"), "7:1");
        assert_eq!(found(&mounts, "/srv/with space\\x/subway"), "7:0");
        assert_eq!(found(&mounts, "/etc"), "254:0");
        let over = Mount { device: "7:9".parse().unwrap(), ..mounts[2].clone() };
        mounts.push(over);
        assert_eq!(found(&mounts, "/srv/with space\\x/sub"), "7:9");
    }
}
