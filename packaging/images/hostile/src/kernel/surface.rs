//! Parts of the kernel that a bot has no business in, and in which most ways out of a container were found.

use launchpad_hostile::Try;

use super::permission;
use crate::place::Place;
use crate::sys::{Page, sys};

/// `BPF_MAP_CREATE` and `BPF_PROG_LOAD` of linux/bpf.h.
const BPF_MAP_CREATE: i32 = 0;
const BPF_PROG_LOAD: i32 = 5;
/// Bytes of `union bpf_attr` that are set here.
const BPF_ATTRIBUTES_BYTES: i32 = 48;
/// `BPF_MAP_TYPE_ARRAY`, and `BPF_PROG_TYPE_SOCKET_FILTER`.
const BPF_ARRAY: u32 = 2;
const BPF_SOCKET_FILTER: u32 = 1;
/// `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_CPU_CLOCK` and the size of `struct perf_event_attr` in its first
/// version.
const PERF_SOFTWARE: u32 = 1;
const PERF_ATTRIBUTES_BYTES: u32 = 64;
/// `UFFD_USER_MODE_ONLY`: what the kernel grants to everybody.
const UFFD_USER_MODE_ONLY: i32 = 1;
/// `KEYCTL_GET_KEYRING_ID`, and the names of one's own keyrings.
const KEYCTL_GET_KEYRING_ID: i32 = 0;
const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
const KEY_SPEC_USER_KEYRING: i32 = -4;

/// Adds, asks for and lists keys: keyrings know users, not containers.
pub(crate) fn keyctl(_: &Place) -> Vec<Try> {
    let added = sys!(SYS_add_key, c"user", c"launchpad-hostile", c"x", 1, KEY_SPEC_PROCESS_KEYRING);
    vec![
        permission("adds a key", added),
        permission("asks for a key", sys!(SYS_request_key, c"user", c"launchpad-hostile")),
        permission("opens its user's keyring", sys!(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1)),
    ]
}

/// Makes a map, and loads a program that has no instruction.
pub(crate) fn bpf(_: &Place) -> Vec<Try> {
    let map = Page::new().with(0, BPF_ARRAY.to_ne_bytes()).with(4, 4_u32.to_ne_bytes());
    let mut map = map.with(8, 4_u32.to_ne_bytes()).with(12, 1_u32.to_ne_bytes());
    let mut program = Page::new().with(0, BPF_SOCKET_FILTER.to_ne_bytes());
    vec![
        permission("makes a map", sys!(SYS_bpf, BPF_MAP_CREATE, &mut map, BPF_ATTRIBUTES_BYTES)),
        permission("loads a program", sys!(SYS_bpf, BPF_PROG_LOAD, &mut program, BPF_ATTRIBUTES_BYTES)),
    ]
}

/// Sets up a ring of one entry.
pub(crate) fn io_uring(_: &Place) -> Vec<Try> {
    vec![
        permission("sets up a ring", sys!(SYS_io_uring_setup, 1, &mut Page::new())),
        // On no ring at all: the answer tells whether the call is open.
        permission("registers with a ring", sys!(SYS_io_uring_register, -1)),
        permission("enters a ring", sys!(SYS_io_uring_enter, -1)),
    ]
}

/// Opens a software counter on itself, and one on a whole core.
pub(crate) fn perf(_: &Place) -> Vec<Try> {
    let attributes = || Page::new().with(0, PERF_SOFTWARE.to_ne_bytes()).with(4, PERF_ATTRIBUTES_BYTES.to_ne_bytes());
    vec![
        permission("counts its own events", sys!(SYS_perf_event_open, &mut attributes(), 0, -1, -1)),
        permission("counts a core's events", sys!(SYS_perf_event_open, &mut attributes(), -1, 0, -1)),
    ]
}

/// Asks for the faults of the kernel, and for its own only.
pub(crate) fn userfaultfd(_: &Place) -> Vec<Try> {
    vec![
        permission("handles faults", sys!(SYS_userfaultfd, 0)),
        permission("handles faults of user mode only", sys!(SYS_userfaultfd, UFFD_USER_MODE_ONLY)),
    ]
}
