//! What a profile may add, what it may never, and what Docker is handed.

use proptest::prelude::*;

use super::*;

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

/// The calls that a compiled profile allows, with whatever arguments.
fn allowed(json: &str) -> BTreeSet<String> {
    let filter: serde_json::Value = serde_json::from_str(json).unwrap();
    let rules = filter["syscalls"].as_array().unwrap();
    let allowing = rules.iter().filter(|rule| rule["action"] == ALLOW);
    allowing
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

fn every_call() -> impl Iterator<Item = &'static str> {
    let x86_64 = x86_64::Sysno::iter().map(|call| call.name());
    x86_64.chain(aarch64::Sysno::iter().map(|call| call.name()))
}

fn forbidden() -> impl Iterator<Item = &'static str> {
    FORBIDDEN.iter().flat_map(forbidden::Forbidden::names)
}

#[test]
fn the_profile_is_what_docker_takes() {
    // One rule on a line.
    insta::assert_snapshot!(compile(&names(&["mbind", "shmget"])).unwrap().replace("},{", "},\n{"));
}

#[test]
fn the_same_additions_in_another_order_or_in_the_base_already_change_nothing() {
    assert_eq!(compile(&names(&["mbind", "shmget"])), compile(&names(&["shmget", "read", "mbind"])));
}

#[test]
fn every_name_that_we_write_is_a_call_of_linux() {
    let ours = base::names().chain(forbidden()).chain(GOVERNED.iter().map(|governed| governed.name));
    let unknown: Vec<&str> = ours.filter(|name| !exists(name)).collect();
    assert_eq!(unknown, Vec::<&str>::new());
}

/// What openclaw 2026.9.6 called from start to a clean stop, traced with every call allowed.
const MEASURED: &str = "access arch_prctl bind brk capget chdir chmod clock_nanosleep clone clone3 close connect dup2 \
    epoll_create1 epoll_ctl epoll_pwait eventfd2 execve exit exit_group fchmod fcntl fstat fsync ftruncate futex getcwd \
    getdents64 getegid geteuid getgid getpeername getpgrp getpid getppid getrandom getrusage getsockname getsockopt \
    gettid getuid inotify_add_watch inotify_init1 inotify_rm_watch io_uring_enter io_uring_setup ioctl kill listen lseek \
    lstat madvise mkdir mmap mprotect mremap munmap newfstatat openat openat2 pipe2 poll prctl pread64 prlimit64 \
    pwrite64 pwritev read readlink recvmsg rename rmdir rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait \
    sched_getaffinity sched_getparam sched_getscheduler sendmmsg sendto set_robust_list set_tid_address setpgid setsid \
    setsockopt shutdown socket socketpair stat statfs statx sysinfo uname unlink unlinkat wait4 write";

#[test]
fn openclaw_gets_all_that_it_was_seen_to_call_but_what_it_has_another_way_for() {
    let all = allowed(&compile(&BTreeSet::new()).unwrap());
    let lacks: Vec<&str> = MEASURED.split_ascii_whitespace().filter(|name| !all.contains(*name)).collect();
    assert_eq!(lacks, ["clone3", "io_uring_enter", "io_uring_setup"]);
}

#[test]
fn a_misspelt_call_is_refused_by_its_name() {
    let error = compile(&names(&["reed"])).unwrap_err();
    assert_eq!(error, SeccompError::Unknown { name: "reed".to_owned() });
    assert!(error.to_string().contains("`reed`"), "{error}");
}

#[test]
fn a_call_that_is_bounded_by_its_arguments_cannot_be_unbound() {
    for governed in &GOVERNED {
        let error = admit(governed.name).unwrap_err();
        assert!(matches!(&error, SeccompError::Governed { .. }), "{error}");
    }
}

#[test]
fn nothing_is_both_in_the_base_and_forbidden_or_governed() {
    let all = allowed(&compile(&BTreeSet::new()).unwrap());
    assert_eq!(forbidden().find(|name| all.contains(*name)), None);
    let governed = |name: &&str| GOVERNED.iter().any(|governed| governed.name == *name);
    assert_eq!(base::names().find(governed), None);
}

#[test]
fn a_spec_has_room_for_the_largest_profile() {
    let addable: BTreeSet<String> = every_call().filter(|name| admit(name).is_ok()).map(str::to_owned).collect();
    let bytes = compile(&addable).unwrap().len();
    assert!(bytes <= crate::limits::SECCOMP_MAX_BYTES, "{bytes} bytes");
}

proptest! {
    /// Whatever a profile lists: if it is accepted, no forbidden call is allowed by it.
    #[test]
    fn no_profile_can_allow_a_forbidden_call(
        picked in proptest::collection::btree_set(proptest::sample::select(every_call().collect::<Vec<_>>()), 0..8),
    ) {
        let picked: BTreeSet<String> = picked.into_iter().map(str::to_owned).collect();
        let bad = picked.iter().find(|name| forbidden().any(|forbidden| forbidden == name.as_str()));
        match compile(&picked) {
            Ok(json) => {
                prop_assert_eq!(bad, None);
                let allowed = allowed(&json);
                prop_assert!(forbidden().all(|name| !allowed.contains(name)));
                prop_assert!(picked.iter().all(|name| allowed.contains(name)));
            }
            Err(SeccompError::Forbidden { name, why }) => {
                prop_assert!(forbidden().any(|forbidden| forbidden == name));
                prop_assert!(!why.is_empty());
            }
            Err(SeccompError::Governed { name, .. }) => prop_assert!(picked.contains(&name)),
            Err(SeccompError::Unknown { name }) => prop_assert!(false, "{} is a call of Linux", name),
        }
    }
}

#[test]
fn the_calls_that_escapes_are_made_of_are_all_forbidden() {
    for name in [
        "mount",
        "ptrace",
        "bpf",
        "keyctl",
        "unshare",
        "setns",
        "init_module",
        "finit_module",
        "kexec_load",
        "open_by_handle_at",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "clone3",
        "pivot_root",
        "process_vm_writev",
        "add_key",
        "request_key",
    ] {
        assert!(matches!(admit(name), Err(SeccompError::Forbidden { .. })), "{name}");
    }
}
