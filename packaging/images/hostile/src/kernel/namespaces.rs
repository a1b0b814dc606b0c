//! Mounts and namespaces: the calls by which a process makes a world of its own, or enters another's.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;

use launchpad_hostile::Try;

use super::{permission, permission_or};
use crate::place::Place;
use crate::sys::{Page, clone_child, clone3_child, sys};

/// Every namespace that Linux has, with the name that `/proc/PID/ns` has for it.
const NAMESPACES: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", CLONE_NEWTIME),
];
/// The usual way out: root in a user namespace, with a network of its own to administer.
const PAIR: [(&str, i32); 1] = [("user and net", libc::CLONE_NEWUSER | libc::CLONE_NEWNET)];
/// Not in libc's list for every target; `clone` takes its bit for a signal's.
const CLONE_NEWTIME: i32 = 0x80;
/// `mount_setattr`'s structure, first version.
const MOUNT_ATTRIBUTES_BYTES: i32 = 32;

/// Mounts a tmpfs and a bind over its own volume, and undoes it; then the calls that came with Linux 5.2.
pub(crate) fn mount(place: &Place) -> Vec<Try> {
    let Ok(state) = CString::new(place.state.as_os_str().as_bytes()) else {
        return vec![Try::untried("mounts over its volume", "the volume's path holds a zero byte")];
    };
    let bind = i64::try_from(libc::MS_BIND).unwrap_or_default();
    let old = [
        ("mounts a tmpfs over its volume", sys!(SYS_mount, c"none", state.as_c_str(), c"tmpfs")),
        ("binds / over its volume", sys!(SYS_mount, c"/", state.as_c_str(), c"none", bind)),
    ];
    for _ in old.iter().filter(|(_, result)| result.is_ok()) {
        let _ = sys!(SYS_umount2, state.as_c_str(), libc::MNT_DETACH);
    }
    // Every bit of the change, known or not: past the permission check this is an invalid argument.
    let mut change = Page::new().with(0, u64::MAX.to_ne_bytes());
    let new = [
        ("opens a new file system (fsopen)", sys!(SYS_fsopen, c"tmpfs")),
        ("reopens / as a mount (fspick)", sys!(SYS_fspick, libc::AT_FDCWD, c"/")),
        ("copies the mount tree (open_tree)", sys!(SYS_open_tree, libc::AT_FDCWD, c"/", libc::OPEN_TREE_CLONE)),
        ("moves a mount (move_mount)", sys!(SYS_move_mount, libc::AT_FDCWD, c"/", libc::AT_FDCWD, c"/")),
        (
            "changes a mount (mount_setattr)",
            sys!(SYS_mount_setattr, libc::AT_FDCWD, c"/", 0, &mut change, MOUNT_ATTRIBUTES_BYTES),
        ),
    ];
    old.into_iter().chain(new).map(|(what, result)| permission(what, result)).collect()
}

/// Judges a call that makes a namespace. A kernel built without the newest kind calls its flag invalid.
fn made<T>(what: String, name: &str, result: io::Result<T>) -> Try {
    permission_or(what, result, if name == "time" { &[libc::EINVAL] } else { &[] })
}

/// Unshares each namespace.
pub(crate) fn unshare(_: &Place) -> Vec<Try> {
    let each = |(name, flag)| made(format!("unshares its {name} namespace"), name, sys!(SYS_unshare, flag));
    NAMESPACES.into_iter().map(each).collect()
}

/// Clones into each namespace.
pub(crate) fn clone(_: &Place) -> Vec<Try> {
    let single = NAMESPACES.into_iter().filter(|(_, flag)| *flag != CLONE_NEWTIME);
    let each = |(name, flags)| permission(format!("clones into a new {name} namespace"), clone_child(flags));
    single.chain(PAIR).map(each).collect()
}

/// The same by clone3.
pub(crate) fn clone3(_: &Place) -> Vec<Try> {
    let each = |(name, flags)| made(format!("clone3 into a new {name} namespace"), name, clone3_child(flags));
    NAMESPACES.into_iter().chain(PAIR).map(each).collect()
}

/// Enters the namespaces of process 1. One's own user namespace is answered with "invalid argument" to
/// everybody.
pub(crate) fn setns(_: &Place) -> Vec<Try> {
    let each = |(name, flag)| {
        let what = format!("enters the {name} namespace of process 1");
        match File::open(format!("/proc/1/ns/{name}")) {
            Ok(file) if name == "user" => {
                permission_or(what, sys!(SYS_setns, file.as_raw_fd(), flag), &[libc::EINVAL])
            }
            Ok(file) => permission(what, sys!(SYS_setns, file.as_raw_fd(), flag)),
            Err(error) => permission_or(what, Err::<(), _>(error), &[libc::ENOENT]),
        }
    };
    NAMESPACES.into_iter().map(each).collect()
}
