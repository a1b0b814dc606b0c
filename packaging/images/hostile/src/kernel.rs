//! What may be asked of the kernel: the calls by which a process becomes more than it is, or meets code of
//! the kernel that a bot has no business in.
//!
//! Every try is judged by [`permission`]: only an answer that means "you may not" or "there is no such call"
//! is a refusal. Where a success would do harm, the arguments are such that a caller with the right to make
//! the call is refused for another reason ("no such file", "invalid argument"), and that answer counts as
//! reached.

mod machine;
mod namespaces;
mod privilege;
mod processes;
mod sockets;
mod surface;

use std::io;

use launchpad_hostile::Try;

use crate::attack::Attack;

/// The attacks of this room.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "become-root", aim: "takes another user's id and capabilities", run: privilege::become_root },
    Attack { name: "setuid-exec", aim: "runs a set-user-id program of its image", run: privilege::setuid_exec },
    Attack { name: "chroot", aim: "moves its root by chroot and pivot_root", run: privilege::chroot },
    Attack { name: "mknod", aim: "makes device files where it may write", run: privilege::mknod },
    Attack { name: "open-by-handle", aim: "opens the host's root by its inode", run: privilege::open_by_handle },
    Attack { name: "raise-limits", aim: "raises its limits and its priority", run: privilege::raise_limits },
    Attack { name: "mount", aim: "mounts by the old calls and the new", run: namespaces::mount },
    Attack { name: "unshare", aim: "unshares every namespace", run: namespaces::unshare },
    Attack { name: "clone", aim: "clones into new namespaces", run: namespaces::clone },
    Attack { name: "clone3", aim: "the same by clone3, whose flags a filter cannot read", run: namespaces::clone3 },
    Attack { name: "setns", aim: "enters the namespaces of process 1", run: namespaces::setns },
    Attack { name: "ptrace", aim: "reads and steers its parent process", run: processes::ptrace },
    Attack { name: "keyctl", aim: "uses the kernel's keyrings", run: surface::keyctl },
    Attack { name: "bpf", aim: "loads maps and programs into the kernel", run: surface::bpf },
    Attack { name: "io-uring", aim: "sets up an io_uring", run: surface::io_uring },
    Attack { name: "perf", aim: "counts events of itself and of the machine", run: surface::perf },
    Attack { name: "userfaultfd", aim: "handles page faults of its own", run: surface::userfaultfd },
    Attack { name: "kernel-modules", aim: "loads and unloads kernel modules", run: machine::modules },
    Attack { name: "kexec", aim: "loads another kernel, and reboots", run: machine::kexec },
    Attack { name: "clock", aim: "sets the clock", run: machine::clock },
    Attack { name: "host-name", aim: "renames the host", run: machine::host_name },
    Attack { name: "swap-quota-accounting", aim: "administers disks", run: machine::disks },
    Attack { name: "kernel-log", aim: "reads the kernel's log", run: machine::kernel_log },
    Attack { name: "io-ports", aim: "speaks to the hardware directly", run: machine::io_ports },
    Attack { name: "fanotify", aim: "watches the file system of the host", run: machine::fanotify },
    Attack { name: "raw-sockets", aim: "opens raw sockets", run: sockets::raw },
    Attack { name: "packet-sockets", aim: "opens packet sockets", run: sockets::packet },
    Attack { name: "odd-sockets", aim: "opens sockets of families that no bot needs", run: sockets::odd },
    Attack { name: "change-network", aim: "marks its packets, changes its interface", run: sockets::change_network },
];

/// The words by which the kernel, or a filter before it, says that a caller may not.
const NO: [i32; 3] = [libc::EPERM, libc::EACCES, libc::ENOSYS];

/// Judges a call that only a privileged caller may make.
fn permission<T>(what: impl Into<String>, result: io::Result<T>) -> Try {
    permission_or(what, result, &[])
}

/// The same for a call that may also be answered with one of these, for a reason that has nothing to do with
/// us.
fn permission_or<T>(what: impl Into<String>, result: io::Result<T>, absent: &[i32]) -> Try {
    match result {
        Ok(_) => Try::reached(what, "it succeeded"),
        Err(error) => match error.raw_os_error() {
            Some(code) if NO.contains(&code) || absent.contains(&code) => Try::refused(what, error),
            _ => Try::reached(what, format!("past the permission check, which is first: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use launchpad_hostile::Outcome;

    use super::*;

    #[test]
    fn only_a_no_is_a_refusal() {
        let outcome = |code| permission("calls", Err::<(), _>(io::Error::from_raw_os_error(code))).outcome;
        assert_eq!(outcome(libc::EPERM), Outcome::Refused);
        assert_eq!(outcome(libc::ENOSYS), Outcome::Refused);
        assert_eq!(outcome(libc::EINVAL), Outcome::Reached);
        assert_eq!(permission("calls", Ok(())).outcome, Outcome::Reached);
        let absent = Err::<(), _>(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        assert_eq!(permission_or("calls", absent, &[libc::EAFNOSUPPORT]).outcome, Outcome::Refused);
    }
}
