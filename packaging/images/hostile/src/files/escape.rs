//! Leaving its volume by what can be put into a volume: links, names, special files.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use launchpad_hostile::Try;

use crate::place::Place;
use crate::runner::SELF;
use crate::sys::sys;

/// Names that lead out of a volume, if whatever resolves them lets them.
const WAYS_OUT: [&str; 4] = ["/etc", "../../../../../../etc", "/proc/1/root/etc", "/proc/1/cwd"];
/// What is left behind on purpose.
const TRAPS: &str = "hostile-traps";
/// The apparent size of the sparse trap: no host has that much, and the file takes none of it.
const SPARSE_BYTES: u64 = 1 << 40;

/// Through each link, by each `..`, and by hard links and renames across the border.
pub(crate) fn links(place: &Place) -> Vec<Try> {
    let link = place.state.join(".hostile-link");
    let mut tries = Vec::new();
    for target in WAYS_OUT {
        let what = format!("makes a file behind a link to {target}");
        tries.push(match symlink(target, &link).and_then(|()| create(&link.join(".hostile"))) {
            Ok(()) => Try::reached(what, "it was made"),
            Err(error) => Try::refused(what, error),
        });
        let _ = fs::remove_file(&link);
    }
    tries.push(match create(&place.state.join("../.hostile")) {
        Ok(()) => Try::reached("makes a file one folder up", "it was made"),
        Err(error) => Try::refused("makes a file one folder up", error),
    });
    let program = fs::read_link(SELF).unwrap_or_else(|_| SELF.into());
    for (name, from) in [("its program", program.as_path()), ("its config", &place.config)] {
        let what = format!("links {name} into its volume");
        tries.push(match fs::hard_link(from, &link) {
            Ok(()) => Try::reached(what, "it was linked"),
            Err(error) => Try::refused(what, error),
        });
        let _ = fs::remove_file(&link);
    }
    let elsewhere = place.state.with_extension("moved");
    tries.push(match fs::rename(&place.state, &elsewhere) {
        Ok(()) => {
            let back = fs::rename(&elsewhere, &place.state);
            Try::reached("renames its volume's mount point", format!("it was renamed, and back: {back:?}"))
        }
        Err(error) => Try::refused("renames its volume's mount point", error),
    });
    tries
}

fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    let _ = fs::remove_file(path);
    Ok(())
}

/// The mounts that it may write to carry neither devices nor set-user-id.
pub(crate) fn mount_flags(place: &Place) -> Vec<Try> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let each = |folder: &Path| {
        let what = format!("reads the options of {}", folder.display());
        match options(&table, folder) {
            Some(options) if ["nosuid", "nodev"].iter().all(|flag| options.split(',').any(|one| one == *flag)) => {
                Try::refused(what, options)
            }
            Some(options) => Try::reached(what, options),
            None => Try::reached(what, "it is no mount of its own"),
        }
    };
    place.own_folders().iter().map(|folder| each(folder)).collect()
}

/// The options of the mount on `folder`: the sixth field of its line, of the topmost if there are several.
fn options<'t>(table: &'t str, folder: &Path) -> Option<&'t str> {
    let on_folder = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == folder);
    table.lines().rfind(on_folder)?.split(' ').nth(5)
}

/// Leaves what a careless reader on the host would follow, wait for or be confused by. It stays: whoever
/// copies, restores or removes the volume afterwards meets it.
pub(crate) fn traps(place: &Place) -> Vec<Try> {
    let folder = place.state.join(TRAPS);
    match planted(&folder) {
        Ok(count) => vec![Try::contained("leaves traps in its volume", format!("{count}, in {}", folder.display()))],
        Err(error) => vec![Try::untried("leaves traps in its volume", error)],
    }
}

fn planted(folder: &Path) -> io::Result<usize> {
    if folder.exists() {
        return Ok(fs::read_dir(folder)?.count());
    }
    fs::create_dir_all(folder)?;
    let at = |name: &str| folder.join(name);
    symlink("/etc", at("absolute"))?;
    symlink("../../../../../../../..", at("upwards"))?;
    symlink("circle", at("circle"))?;
    symlink("/proc/self/root", at("magic"))?;
    let pipe = CString::new(at("pipe").as_os_str().as_bytes())?;
    sys!(SYS_mknodat, libc::AT_FDCWD, pipe.as_c_str(), libc::S_IFIFO | 0o666)?;
    // The socket's file stays when its listener goes.
    drop(UnixListener::bind(at("socket"))?);
    File::create(at("sparse"))?.set_len(SPARSE_BYTES)?;
    File::create(at("set-user-id"))?.set_permissions(Permissions::from_mode(0o6755))?;
    for name in [&b"new\nline"[..], b"-rf", b"*", b"\xff\xfe not UTF-8", b" "] {
        File::create(folder.join(OsStr::from_bytes(name)))?;
    }
    let shut = at("shut");
    fs::create_dir(&shut)?;
    File::create(shut.join("inside"))?;
    fs::set_permissions(&shut, Permissions::from_mode(0o000))?;
    Ok(fs::read_dir(folder)?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_on_a_folder_tells_its_options() {
        let table = "1 0 8:1 / / rw - ext4 d rw\n2 1 8:2 / /state rw,relatime - ext4 d rw\n\
                     3 2 7:0 / /state rw,nosuid,nodev,relatime - ext4 d rw\n";
        assert_eq!(options(table, Path::new("/state")), Some("rw,nosuid,nodev,relatime"));
        assert_eq!(options(table, Path::new("/tmp")), None);
    }

    #[test]
    fn traps_are_planted_once_and_can_be_removed_by_their_owner() {
        let folder = std::env::temp_dir().join(format!("hostile-traps-{}", std::process::id()));
        let first = planted(&folder).unwrap();
        assert_eq!(planted(&folder).unwrap(), first);
        assert!(first >= 14);
        fs::set_permissions(folder.join("shut"), Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
