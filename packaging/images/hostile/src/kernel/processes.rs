//! Other processes: reading their memory, steering them, taking their files.

use std::os::unix::process::parent_id;

use launchpad_hostile::Try;

use super::permission;
use crate::place::Place;
use crate::sys::sys;

/// Which of two processes' tables `kcmp` compares: the files.
const KCMP_FILES: i32 = 2;
/// `PTRACE_ATTACH` as the call takes it.
const ATTACH: u32 = libc::PTRACE_ATTACH;

/// Attaches to its parent, reads from it, and takes its standard output.
pub(crate) fn ptrace(_: &Place) -> Vec<Try> {
    let parent = parent_id();
    let attached = sys!(SYS_ptrace, ATTACH, parent);
    if attached.is_ok() {
        // The parent has to answer for us: let it go on, as soon as it has stopped.
        let _ = sys!(SYS_wait4, parent, 0, libc::__WALL);
        let _ = sys!(SYS_ptrace, libc::PTRACE_DETACH, parent);
    }
    let opened = sys!(SYS_pidfd_open, parent);
    let taken = opened.and_then(|pidfd| sys!(SYS_pidfd_getfd, pidfd, 1));
    vec![
        permission("attaches to its parent", attached),
        // Nothing is named to read: the answer alone tells whether the call is open.
        permission("reads its parent's memory (process_vm_readv)", sys!(SYS_process_vm_readv, parent)),
        permission("writes its parent's memory (process_vm_writev)", sys!(SYS_process_vm_writev, parent)),
        permission("takes a file of its parent (pidfd_getfd)", taken),
        permission("compares itself with its parent (kcmp)", sys!(SYS_kcmp, parent, std::process::id(), KCMP_FILES)),
    ]
}
