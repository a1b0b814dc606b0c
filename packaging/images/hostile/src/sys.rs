//! The one place with `unsafe`: system calls by number, for which std has no words.
//!
//! Called by every room, by way of [`sys!`]. A call takes [`Word`]s, which can only be numbers, texts and
//! whole pages, so that whatever the kernel reads or writes is memory of ours that lives until the call
//! returns. What never comes through here: a call that maps, moves or frees memory of this process, a signal
//! handler, a second thread.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use libc::{c_int, c_long};

/// Larger than any structure that a call made here reads or writes.
pub(crate) const PAGE_BYTES: usize = 4096;
/// System calls take at most six arguments.
const ARGUMENTS_MAX: usize = 6;
/// `struct clone_args` of clone3 in its first version.
const CLONE_ARGUMENTS_BYTES: i64 = 64;
/// Where `exit_signal` lies in it; `flags` is first.
const CLONE_EXIT_SIGNAL_AT: usize = 32;

/// Memory with a few fields set: what a call reads its structure from, or writes its answer to.
#[derive(Debug)]
#[repr(C, align(8))]
pub(crate) struct Page([u8; PAGE_BYTES]);

impl Page {
    /// A page of zeros.
    pub(crate) fn new() -> Self {
        Self([0; PAGE_BYTES])
    }

    /// The same page with a field at this offset. Fields beyond the page are a mistake in a table, and panic.
    #[must_use]
    pub(crate) fn with<const N: usize>(mut self, offset_bytes: usize, field: [u8; N]) -> Self {
        self.0[offset_bytes..offset_bytes + N].copy_from_slice(&field);
        self
    }

    /// Its first bytes.
    pub(crate) fn bytes(&self, count: usize) -> &[u8] {
        &self.0[..count.min(PAGE_BYTES)]
    }
}

/// One argument of a system call.
#[derive(Debug)]
pub(crate) enum Word<'a> {
    /// A number, never an address.
    Number(i64),
    /// A text that the kernel reads.
    Text(&'a CStr),
    /// A structure or a buffer.
    Page(&'a mut Page),
}

impl From<i64> for Word<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Word<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Word<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl<'a> From<&'a CStr> for Word<'a> {
    fn from(text: &'a CStr) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a mut Page> for Word<'a> {
    fn from(page: &'a mut Page) -> Self {
        Self::Page(page)
    }
}

/// Makes a system call: `sys!(SYS_mount, c"none", c"/tmp", …)`. Arguments that are left out are zero.
macro_rules! sys {
    ($number:ident $(, $word:expr)* $(,)?) => {
        $crate::sys::call(libc::$number, [$($crate::sys::Word::from($word)),*])
    };
}
pub(crate) use sys;

/// Makes a system call, and answers what it returned or why it was refused.
pub(crate) fn call<const N: usize>(number: c_long, words: [Word<'_>; N]) -> io::Result<i64> {
    const { assert!(N <= ARGUMENTS_MAX) };
    let mut arguments: [c_long; ARGUMENTS_MAX] = [0; ARGUMENTS_MAX];
    for (argument, word) in arguments.iter_mut().zip(words) {
        *argument = match word {
            Word::Number(number) => number,
            Word::Text(text) => text.as_ptr() as c_long,
            Word::Page(page) => page.0.as_mut_ptr() as c_long,
        };
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every address among the arguments is that of a text or a page that its caller holds until we
    // return, and a page is larger than what any call made in this crate reads or writes. The calls that
    // would change the memory or the threads of this process are not made through here (see the head of this
    // file).
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// A file descriptor that a call answered with; whoever takes it owns it.
pub(crate) fn owned(answer: i64) -> io::Result<OwnedFd> {
    let descriptor = c_int::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just handed this descriptor to the one caller of a call that opens one; nobody
    // else in this process knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A socket of any family, type and protocol.
pub(crate) fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    owned(sys!(SYS_socket, family, kind | libc::SOCK_CLOEXEC, protocol)?)
}

/// Makes a child by `clone` with these flags, which must not share memory or files; the child ends at once.
pub(crate) fn clone_child(flags: c_int) -> io::Result<i64> {
    let flags = c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child has a copy of our memory and no stack of its own is needed, as after
    // fork. It calls nothing but the kernel's exit, so no lock that another thread held can matter.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        if pid == 0 {
            libc::syscall(libc::SYS_exit_group, 0);
        }
        pid
    };
    reaped(pid)
}

/// The same by `clone3`, whose flags no system call filter can read.
pub(crate) fn clone3_child(flags: c_int) -> io::Result<i64> {
    let arguments = Page::new().with(0, i64::from(flags).to_ne_bytes());
    let mut arguments = arguments.with(CLONE_EXIT_SIGNAL_AT, i64::from(libc::SIGCHLD).to_ne_bytes());
    // SAFETY: as in `clone_child`; the structure is a page of ours.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone3, arguments.0.as_mut_ptr(), CLONE_ARGUMENTS_BYTES);
        if pid == 0 {
            libc::syscall(libc::SYS_exit_group, 0);
        }
        pid
    };
    reaped(pid)
}

fn reaped(pid: c_long) -> io::Result<i64> {
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // An ended child that nobody waits for counts against the limit on processes.
    sys!(SYS_wait4, pid).map(|_| pid)
}

/// Ends a child of ours.
pub(crate) fn kill_process(pid: u32) {
    // It may have ended by itself.
    let _ = sys!(SYS_kill, pid, libc::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_and_writes_pages_and_tells_what_was_wrong() {
        let mut page = Page::new();
        let length = sys!(SYS_getcwd, &mut page, 4096).unwrap();
        assert!(length > 1 && page.bytes(1) == b"/");
        let error = sys!(SYS_chdir, c"/there is no such folder").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn children_are_made_and_reaped_both_ways() {
        let gone = |pid: i64| sys!(SYS_wait4, pid).unwrap_err().raw_os_error() == Some(libc::ECHILD);
        assert!(gone(clone_child(0).unwrap()));
        match clone3_child(0) {
            Ok(pid) => assert!(gone(pid)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOSYS)),
        }
    }
}
