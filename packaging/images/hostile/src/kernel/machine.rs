//! The machine itself: its kernel, clock, name, disks, log and hardware.
//!
//! No call here could have an effect: what would be changed is named wrongly, or is set to what it is.

use launchpad_hostile::Try;

use super::{permission, permission_or};
use crate::place::Place;
use crate::sys::{Page, sys};

/// A file that is nowhere.
const NOWHERE: &std::ffi::CStr = c"/launchpad-hostile-nowhere";
/// No descriptor.
const NO_FILE: i32 = -1;
/// No such flag of any call.
const NO_SUCH_FLAG: i32 = 0x7fff_0000;
/// `ADJ_SETOFFSET`: adds an offset to the clock; ours is zero.
const ADJ_SETOFFSET: u32 = 0x0100;
/// `SYSLOG_ACTION_READ_ALL` and `SYSLOG_ACTION_SIZE_BUFFER`.
const SYSLOG_READ_ALL: i32 = 3;
const SYSLOG_SIZE: i32 = 10;
/// `QCMD(Q_QUOTAON, USRQUOTA)`.
const QUOTA_ON: u32 = 0x8000_0200;

/// Loads what is no module, and unloads one that is not there.
pub(crate) fn modules(_: &Place) -> Vec<Try> {
    vec![
        permission("loads a module from memory", sys!(SYS_init_module, &mut Page::new(), 1, c"")),
        permission("loads a module from a file", sys!(SYS_finit_module, NO_FILE, c"")),
        permission("unloads a module", sys!(SYS_delete_module, c"launchpad_hostile")),
    ]
}

/// Loads a kernel from nowhere, and asks for a reboot without the words that it takes.
pub(crate) fn kexec(_: &Place) -> Vec<Try> {
    vec![
        permission("loads a kernel from memory", sys!(SYS_kexec_load, 0, 0, 0, NO_SUCH_FLAG)),
        permission("loads a kernel from a file", sys!(SYS_kexec_file_load, NO_FILE, NO_FILE, 0, c"", NO_SUCH_FLAG)),
        permission("reboots", sys!(SYS_reboot)),
    ]
}

/// Adds nothing to the clock.
pub(crate) fn clock(_: &Place) -> Vec<Try> {
    let adjustment = || Page::new().with(0, ADJ_SETOFFSET.to_ne_bytes());
    vec![
        permission("shifts the clock (adjtimex)", sys!(SYS_adjtimex, &mut adjustment())),
        permission(
            "shifts the clock (clock_adjtime)",
            sys!(SYS_clock_adjtime, libc::CLOCK_REALTIME, &mut adjustment()),
        ),
    ]
}

/// Gives the host a name that is too long for one.
pub(crate) fn host_name(_: &Place) -> Vec<Try> {
    vec![
        permission("renames the host", sys!(SYS_sethostname, NOWHERE, NO_FILE)),
        permission("renames the domain", sys!(SYS_setdomainname, NOWHERE, NO_FILE)),
    ]
}

/// Swap, accounting and quotas on files that are nowhere.
pub(crate) fn disks(_: &Place) -> Vec<Try> {
    vec![
        permission("adds swap", sys!(SYS_swapon, NOWHERE)),
        permission("removes swap", sys!(SYS_swapoff, NOWHERE)),
        permission("starts accounting", sys!(SYS_acct, NOWHERE)),
        // A kernel that keeps no quotas, or none on such a device, says so to everybody.
        permission_or(
            "switches quotas on",
            sys!(SYS_quotactl, QUOTA_ON, NOWHERE, 0, 0),
            &[libc::ENOENT, libc::ENOTBLK],
        ),
    ]
}

/// Reads it, and asks how long it is.
pub(crate) fn kernel_log(_: &Place) -> Vec<Try> {
    let mut buffer = Page::new();
    vec![
        permission("reads the kernel's log", sys!(SYS_syslog, SYSLOG_READ_ALL, &mut buffer, 4096)),
        permission("asks for the log's size", sys!(SYS_syslog, SYSLOG_SIZE)),
    ]
}

/// Opens the ports of the hardware, where the processor has such.
#[cfg(target_arch = "x86_64")]
pub(crate) fn io_ports(_: &Place) -> Vec<Try> {
    vec![
        permission("opens every port (iopl)", sys!(SYS_iopl, 3)),
        permission("opens one port (ioperm)", sys!(SYS_ioperm, 0x80, 1, 1)),
    ]
}

/// There are none on other processors.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn io_ports(_: &Place) -> Vec<Try> {
    vec![Try::refused("opens the ports of the hardware", "this processor has none")]
}

/// Watches whole file systems; since Linux 5.13 everybody may watch single files, by other flags.
pub(crate) fn fanotify(_: &Place) -> Vec<Try> {
    let content = i64::from(libc::FAN_CLASS_CONTENT);
    vec![permission("asks for the right to allow opening of files", sys!(SYS_fanotify_init, content, libc::O_RDONLY))]
}
