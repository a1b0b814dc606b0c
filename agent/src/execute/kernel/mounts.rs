//! The mount table of a process: `/proc/PID/mountinfo`, in the form of proc(5).
//!
//! ```text
//! 98 80 0:48 / /tmp rw,nosuid,nodev,noexec,relatime master:1 - tmpfs tmpfs rw,size=16384k
//! id parent dev root point options …any number of tags…      - kind  source of the filesystem itself
//! ```

use std::collections::BTreeMap;

use crate::observe::kernel::MountView;

/// Every mount by its point. What is mounted later lies on top; a line that is odd is left out.
pub(super) fn parse(table: &str) -> BTreeMap<String, MountView> {
    table.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<(String, MountView)> {
    let (own, filesystem) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(4);
    let (point, options) = (own.next()?, own.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, super_options) = (filesystem.next()?, filesystem.nth(1)?);
    let has = |option: &str| options.split(',').any(|one| one == option);
    let view = MountView {
        filesystem: kind.to_owned(),
        // A writable mount of a read-only filesystem is read-only all the same.
        read_only: has("ro") || super_options.split(',').any(|option| option == "ro"),
        nosuid: has("nosuid"),
        nodev: has("nodev"),
        noexec: has("noexec"),
        bytes: super_options.split(',').find_map(|option| bytes(option.strip_prefix("size=")?)),
    };
    Some((unescape(point), view))
}

/// A size as filesystems write it: in bytes, or with the letter of a power of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' => (text.strip_suffix('k')?, 10),
        b'm' => (text.strip_suffix('m')?, 20),
        b'g' => (text.strip_suffix('g')?, 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Blanks and backslashes stand as three octal digits behind a backslash.
fn unescape(point: &str) -> String {
    let mut parts = point.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_table_shows_what_can_be_written_and_how_much() {
        let mounts = parse(include_str!("recorded/mountinfo.txt"));
        let shown = |point: &str| mounts[point].to_string();
        assert_eq!(shown("/"), "overlay ro");
        assert_eq!(shown("/tmp"), "tmpfs rw,nosuid,nodev,noexec,size=16777216");
        assert_eq!(shown("/dev/shm"), "tmpfs rw,nosuid,nodev,noexec,size=1048576");
        assert_eq!(shown("/state"), "ext4 rw");
        assert_eq!(shown("/etc/launchpad/config"), "ext4 ro");
        // A read-only filesystem under a mount that could be written.
        assert_eq!(shown("/proc/acpi"), "tmpfs ro");
    }

    #[test]
    fn the_topmost_of_several_mounts_on_a_point_counts() {
        let table = "1 0 8:1 / /a ro - ext4 /dev/a rw\n2 1 0:5 / /a rw - tmpfs none rw\n";
        assert_eq!(parse(table)["/a"].to_string(), "tmpfs rw");
    }

    #[test]
    fn odd_lines_are_left_out_and_odd_names_are_read() {
        let table = "no mount\n1 0 8:1 / /with\\040blank\\134 rw,nodev - ext4 /dev/a rw\n3 0 8:1 / /cut rw - ext4\n";
        let mounts = parse(table);
        assert_eq!(mounts.keys().collect::<Vec<_>>(), ["/with blank\\"]);
        assert_eq!(unescape("/a\\9zz/ü\\04"), "/a\\9zz/ü\\04");
    }

    #[test]
    fn sizes_are_read_with_their_letters() {
        assert_eq!(bytes("16384k"), Some(16 << 20));
        assert_eq!(
            (bytes("2m"), bytes("1g"), bytes("77"), bytes("half"), bytes("")),
            (Some(2 << 20), Some(1 << 30), Some(77), None, None)
        );
    }
}
