//! SIGTERM and SIGINT, also as PID 1, whose default action for them is to ignore them.
//!
//! Called once by `main`, before any other thread. The signals are blocked for the whole process and taken by one
//! waiting thread, so no code ever runs inside a signal handler. This is the one file with `unsafe`: std has no
//! signals, and libc's three calls are declared here rather than drawn in as a crate.

#![allow(unsafe_code)]

use std::path::PathBuf;
use std::{fs, process, ptr, thread};

/// The signals that mean "stop", with Linux's numbers.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// `SIG_BLOCK` of Linux's `sigprocmask`.
const SIG_BLOCK: i32 = 0;

/// glibc's `sigset_t`: 1024 bits.
#[repr(C)]
struct SignalSet([u64; 16]);

unsafe extern "C" {
    fn sigaddset(set: *mut SignalSet, signal: i32) -> i32;
    fn pthread_sigmask(how: i32, set: *const SignalSet, old: *mut SignalSet) -> i32;
    fn sigwait(set: *const SignalSet, signal: *mut i32) -> i32;
}

/// From now on SIGTERM and SIGINT remove `lease` and end the process with 0; with `ignore`, they do nothing.
pub(crate) fn on_terminate(ignore: bool, lease: PathBuf) {
    let mut set = SignalSet([0; 16]);
    // SAFETY: `set` is a zeroed (so: empty) set of glibc's size that lives across all three calls, the signal
    // numbers are valid, and a null `old` is allowed. No other thread exists yet, so every later one inherits
    // the mask and none can be killed by these signals.
    unsafe {
        sigaddset(&mut set, SIGTERM);
        sigaddset(&mut set, SIGINT);
        pthread_sigmask(SIG_BLOCK, &set, ptr::null_mut());
    }
    if ignore {
        return;
    }
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: `set` is owned by this closure and initialised above; `signal` is a valid place to write to.
        // A failure would mean an invalid set, which it is not; either way the process is to end.
        unsafe { sigwait(&set, &mut signal) };
        // Absent when no lease was taken: nothing to do then.
        let _ = fs::remove_file(lease);
        println!("echo: signal {signal}, stopping");
        process::exit(0);
    });
}
