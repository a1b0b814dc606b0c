//! Becoming more than one is: ids, capabilities, roots, devices, limits.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use launchpad_hostile::Try;

use super::{permission, permission_or};
use crate::place::Place;
use crate::sys::{Page, sys};

/// The set-user-id root copy of this program in its image; see `build.sh`.
const SET_USER_ID_COPY: &str = "/hostile-as-root";
/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// `CAP_SYS_ADMIN`.
const CAP_SYS_ADMIN: i32 = 21;
/// `ioprio` of the real-time class, level 0.
const IOPRIO_REALTIME: i32 = 1 << 13;
/// A root directory's inode on ext4, and on most other file systems that a host has.
const ROOT_INODE: u64 = 2;
/// `FILEID_INO32_GEN` of linux/exportfs.h.
const HANDLE_OF_INODE: u32 = 1;
/// The name under which a device file is tried; removed again.
const DEVICE_NAME: &str = ".hostile-device";

/// Takes root's ids and every capability.
pub(crate) fn become_root(_: &Place) -> Vec<Try> {
    let mut header = Page::new().with(0, CAPABILITY_VERSION.to_ne_bytes());
    // Effective, permitted, inheritable, twice 32 bits each.
    let mut all = Page::new().with(0, [0xff; 24]);
    let ambient = sys!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN);
    vec![
        permission("takes user id 0", sys!(SYS_setuid, 0)),
        permission("takes group id 0", sys!(SYS_setgid, 0)),
        permission("takes all three user ids", sys!(SYS_setresuid, 0, 0, 0)),
        permission("joins group 0", sys!(SYS_setgroups, 1, &mut Page::new())),
        permission("takes every capability", sys!(SYS_capset, &mut header, &mut all)),
        permission("keeps a capability across exec", ambient),
        permission("changes its secure bits", sys!(SYS_prctl, libc::PR_SET_SECUREBITS, 0)),
    ]
}

/// Runs a program that belongs to root and says so in its mode.
pub(crate) fn setuid_exec(_: &Place) -> Vec<Try> {
    let what = format!("asks {SET_USER_ID_COPY} for its effective user id");
    vec![match Command::new(SET_USER_ID_COPY).arg("uid").output() {
        Ok(output) => match String::from_utf8_lossy(&output.stdout).trim() {
            "0" => Try::reached(what, "0"),
            "" => Try::untried(what, format!("no answer: {}", output.status)),
            uid => Try::refused(what, format!("still {uid}")),
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Try::refused(what, error),
        Err(error) => Try::untried(what, error),
    }]
}

/// Moves its root.
pub(crate) fn chroot(_: &Place) -> Vec<Try> {
    let moved = sys!(SYS_chroot, c"/");
    vec![
        permission("chroot to where it is already", moved),
        permission("pivot_root", sys!(SYS_pivot_root, c"/", c"/")),
    ]
}

/// Makes the machine's memory and its first disk as device files, and opens them.
pub(crate) fn mknod(place: &Place) -> Vec<Try> {
    let kinds = [("memory", libc::S_IFCHR, 1, 1), ("a disk", libc::S_IFBLK, 7, 0)];
    let mut tries = Vec::new();
    for folder in place.own_folders() {
        let path = folder.join(DEVICE_NAME);
        for (name, kind, major, minor) in kinds {
            let made = made_device(&path, kind, libc::makedev(major, minor));
            tries.push(permission_or(
                format!("makes {name} as a device in {}", folder.display()),
                made,
                &[libc::ENOENT],
            ));
            let _ = fs::remove_file(&path);
        }
    }
    tries
}

fn made_device(path: &Path, kind: libc::mode_t, device: libc::dev_t) -> io::Result<i64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    sys!(SYS_mknodat, libc::AT_FDCWD, path.as_c_str(), kind | 0o666, i64::try_from(device).map_err(io::Error::other)?)
}

/// Opens inode 2 of the file system that its root, its volume and its config lie on, past every path.
pub(crate) fn open_by_handle(place: &Place) -> Vec<Try> {
    let mut tries = Vec::new();
    let config = place.config.parent().unwrap_or(Path::new("/"));
    for path in [Path::new("/"), &place.state, config] {
        let what = format!("opens the root of the file system under {}", path.display());
        let Ok(text) = CString::new(path.as_os_str().as_bytes()) else { continue };
        // handle_bytes, handle_type, then the inode and any generation.
        let handle = Page::new().with(0, 8_u32.to_ne_bytes()).with(4, HANDLE_OF_INODE.to_ne_bytes());
        let mut handle = handle.with(8, ROOT_INODE.to_ne_bytes());
        let opened = sys!(SYS_openat, libc::AT_FDCWD, text.as_c_str(), libc::O_RDONLY);
        tries.push(match opened {
            Ok(mount) => permission(what, sys!(SYS_open_by_handle_at, mount, &mut handle, libc::O_RDONLY)),
            Err(error) => Try::untried(what, error),
        });
    }
    tries
}

/// Raises the limit on its open files, its priority, its share of the disk, and its standing with the killer.
pub(crate) fn raise_limits(place: &Place) -> Vec<Try> {
    let above = place.orders.bounds.open_files.saturating_add(1);
    let mut files = Page::new().with(0, above.to_ne_bytes()).with(8, above.to_ne_bytes());
    // struct sched_param is one number: the priority.
    let mut first = Page::new().with(0, 1_i32.to_ne_bytes());
    vec![
        permission("raises its limit on open files", sys!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &mut files)),
        permission("becomes real-time", sys!(SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &mut first)),
        permission("becomes the nicest to itself", sys!(SYS_setpriority, libc::PRIO_PROCESS, 0, -20)),
        permission("goes first at the disk", sys!(SYS_ioprio_set, 1, 0, IOPRIO_REALTIME)),
        permission("exempts itself from the killer", fs::write("/proc/self/oom_score_adj", "-1000")),
    ]
}
