//! What every bot may call: what libc, Node.js, shells and the usual tools need.
//!
//! Measured with `strace -f` in November 2026: openclaw 2026.9.6 from start to a clean stop (99 names), and git, tar,
//! npm, Python, Perl and coreutils at work (142 names), 154 together. To those come the older, newer and vectored forms
//! of the same calls, because the next libc will use them. Whole families that nothing used are left out: System V
//! IPC, POSIX message queues, kernel asynchronous I/O, memory policies.

/// Memory of one's own.
const MEMORY: &str = "brk madvise membarrier memfd_create mincore mlock mlock2 mmap mprotect mremap msync munlock munmap \
    pkey_alloc pkey_free pkey_mprotect";

/// Files by their names, and what is said of them.
const NAMES: &str = "access chdir chmod chown creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchownat \
    fgetxattr flistxattr fremovexattr fsetxattr fstat fstatfs futimesat getcwd getdents getdents64 getxattr lchown \
    lgetxattr link linkat listxattr llistxattr lremovexattr lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open \
    openat openat2 readlink readlinkat removexattr rename renameat renameat2 rmdir setxattr stat statfs statx symlink \
    symlinkat truncate umask unlink unlinkat utime utimensat utimes";

/// Files that are open, and pipes.
const FILES: &str = "close close_range copy_file_range dup dup2 dup3 fadvise64 fallocate fcntl fdatasync flock fsync \
    ftruncate ioctl lseek pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile splice \
    sync sync_file_range syncfs tee write writev";

/// Waiting for several things at once.
const WAITING: &str = "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll pselect6 restart_syscall select signalfd \
    signalfd4 timerfd_create timerfd_gettime timerfd_settime";

/// Processes, threads, and how they wait for each other. `clone` is governed.
const PROCESSES: &str = "arch_prctl execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv \
    futex_wake get_robust_list getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid \
    ioprio_get ioprio_set kill pidfd_open pidfd_send_signal prctl prlimit64 rseq sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list set_tid_address setpgid \
    setpriority setrlimit setsid sysinfo tgkill tkill uname vfork wait4 waitid";

/// Signals, time, chance.
const SIGNALS_AND_TIME: &str = "alarm clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep \
    pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_tgsigqueueinfo setitimer sigaltstack time timer_create timer_delete timer_getoverrun timer_gettime timer_settime \
    times";

/// Who one is, and becoming the same again: without capabilities nobody becomes anybody else.
const IDS: &str = "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid \
    setgroups setregid setresgid setresuid setreuid setuid";

/// Sockets, once they are there. `socket` and `socketpair` are governed.
const SOCKETS: &str = "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg \
    sendmmsg sendmsg sendto setsockopt shutdown";

/// All of them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let groups = [MEMORY, NAMES, FILES, WAITING, PROCESSES, SIGNALS_AND_TIME, IDS, SOCKETS];
    groups.into_iter().flat_map(str::split_ascii_whitespace)
}
