//! Calls that no profile can allow, whatever it says, and why.
//!
//! Most of them the kernel refuses to a process without capabilities as well. They are here because a kernel has bugs:
//! what cannot be called cannot be used against it.

/// Calls that would open the same door.
#[derive(Debug)]
pub(super) struct Forbidden {
    names: &'static str,
    /// What they would open.
    pub(super) why: &'static str,
    /// Answered as if the kernel were too old to have them, rather than as a refusal: libraries that would like to
    /// use them have another way then, and take it. libc has `clone` for `clone3`; Node.js has threads for io_uring.
    absent: bool,
}

impl Forbidden {
    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.split_ascii_whitespace()
    }
}

const fn refused(why: &'static str, names: &'static str) -> Forbidden {
    Forbidden { names, why, absent: false }
}

const fn absent(why: &'static str, names: &'static str) -> Forbidden {
    Forbidden { names, why, absent: true }
}

/// What no bot may call.
pub(super) const FORBIDDEN: [Forbidden; 12] = [
    absent("its flags lie behind a pointer, where no filter sees that it makes a namespace", "clone3"),
    absent("what a ring is told to do passes by every filter", "io_uring_enter io_uring_register io_uring_setup"),
    refused("a new namespace comes with capabilities inside it", "setns unshare"),
    refused(
        "it changes what is mounted where, and so which limits hold",
        "chroot fsconfig fsmount fsopen fspick listmount mount mount_setattr move_mount open_tree open_tree_attr \
         pivot_root statmount umount2",
    ),
    refused(
        "it reads and changes other processes",
        "kcmp pidfd_getfd process_madvise process_mrelease process_vm_readv process_vm_writev ptrace",
    ),
    refused("it runs programs inside the kernel", "bpf"),
    refused("the kernel's keyrings belong to no container", "add_key keyctl request_key"),
    refused(
        "it loads code into the kernel",
        "create_module delete_module finit_module get_kernel_syms init_module kexec_file_load kexec_load query_module",
    ),
    refused("it opens files by number, those outside the container as well", "name_to_handle_at open_by_handle_at"),
    refused(
        "it watches the whole machine, or holds the kernel up at a point of the caller's choice",
        "fanotify_init fanotify_mark lookup_dcookie perf_event_open syslog userfaultfd",
    ),
    refused("the machine's clock is everybody's", "adjtimex clock_adjtime clock_settime settimeofday"),
    refused(
        "it changes the machine itself",
        "_sysctl acct ioperm iopl nfsservctl quotactl quotactl_fd reboot setdomainname sethostname swapoff swapon sysfs \
         uselib ustat vhangup",
    ),
];

/// The calls that are answered as absent.
pub(super) fn absent_names() -> impl Iterator<Item = &'static str> {
    FORBIDDEN.iter().filter(|group| group.absent).flat_map(Forbidden::names)
}
