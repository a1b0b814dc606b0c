//! Walls that somebody on the host breaks behind our back: each is broken for real, seen in the report, and mended by
//! the plan. Those of the bot's own process and groups are here, what stands around it is in `around.rs`.
//!
//! What a living process cannot lose is not here: its user, its capabilities, `no_new_privs` and its filter cannot be
//! changed from outside. That they are seen when they are wrong is `agent/tests/enforce.rs`'s to show.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use launchpad_protocol::enforcement::{Item, Verdict};
use launchpad_protocol::report::Capability;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::ground::{Ground, SECRETS_DIR, not_here, on_ground};
use crate::keeper::Keeper;
use crate::outside;

/// What nobody can hold whose kernel or disk is not made for it: told with these codes, and by no capability.
const LACKED_BY_KERNEL_OR_DISK: [(Item, &str); 1] = [(Item::Io, "no-disk-limit")];

/// A file of a process's control group: by its controller and its name on cgroup v1, by another name on v2.
fn group_file(process: i64, (controller, v1): (&str, &str), v2: &str) -> PathBuf {
    let membership = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    let lines = || membership.lines().map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>());
    let root = Path::new("/sys/fs/cgroup");
    let at = |dir: &Path, path: &str, file: &str| dir.join(path.trim_start_matches('/')).join(file);
    match lines().find(|line| line[0].split(',').any(|one| one == controller)) {
        Some(line) => at(&root.join(controller), line[1], v1),
        None => at(root, lines().find(|line| line[0].is_empty()).expect("a v2 group")[1], v2),
    }
}

/// A file that only cgroup v2 has.
fn v2_file(process: i64, name: &str) -> PathBuf {
    group_file(process, ("no controller of v1", name), name)
}

/// The same file of the group above: that of the bot's tenant.
fn of_its_tenant(own: &Path) -> PathBuf {
    let tenants = own.parent().and_then(Path::parent).expect("a tenant's group");
    tenants.join(own.file_name().expect("a file"))
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("write {text} to {}: {error}", file.display()));
}

/// Mounts something anew where a process looks. A thread of its own changes its view, and ends.
fn remount(process: i64, point: &'static str, flags: MsFlags, data: Option<&'static str>) {
    let changed = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS).unwrap();
        setns(fs::File::open(format!("/proc/{process}/ns/mnt")).unwrap(), CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, point, None::<&str>, flags | MsFlags::MS_REMOUNT, data).unwrap();
    });
    changed.join().unwrap_or_else(|_| panic!("remount {point}"));
}

#[tokio::test]
async fn a_bot_on_a_real_engine_keeps_every_promise_but_those_that_its_host_says_it_cannot() {
    on_ground(|ground| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let observed = keeper.observe().await;
        let found = keeper.judge(&observed);
        assert_eq!(found.len(), Item::ALL.len());
        let reasons: Vec<_> = keeper
            .capabilities
            .values()
            .filter_map(|capability| match capability {
                Capability::Present => None,
                Capability::Absent { reason } => Some(reason),
            })
            .collect();
        for (item, finding) in &found {
            match &finding.enforcement.verdict {
                Verdict::Enforced => {}
                Verdict::Degraded { reason } => {
                    let is_told = LACKED_BY_KERNEL_OR_DISK.contains(&(*item, reason.code.as_str()));
                    assert!(is_told || reasons.contains(&reason), "{item}: {reason}");
                }
                Verdict::Failed { reason } => panic!("{item}: {reason}"),
            }
        }
    })
    .await;
}

/// Something that somebody does to the limits of a process.
type Tamper = fn(i64);

#[tokio::test]
async fn limits_that_somebody_changed_are_seen_and_set_again_without_a_restart() {
    const TAMPERINGS: [(Item, &str, Tamper); 8] = [
        (Item::Memory, "update_resources", |process| {
            // The sum with swap first: the one is never below the other.
            let both = group_file(process, ("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
            write(&both, if both.ends_with("memory.swap.max") { "0" } else { "-1" });
            write(&group_file(process, ("memory", "memory.limit_in_bytes"), "memory.max"), "1073741824");
        }),
        (Item::Swap, "update_resources", |process| {
            let both = group_file(process, ("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
            write(&both, "1073741824");
        }),
        (Item::Cpu, "update_resources", |process| {
            let quota = group_file(process, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
            write(&quota, if quota.ends_with("cpu.max") { "max" } else { "-1" });
        }),
        (Item::Pids, "update_resources", |process| {
            write(&group_file(process, ("pids", "pids.max"), "pids.max"), "max");
        }),
        (Item::CpuWeight, "shape_tenant", |process| {
            let own = group_file(process, ("cpu", "cpu.shares"), "cpu.weight");
            write(&of_its_tenant(&own), "10000");
        }),
        (Item::MemoryHigh, "update_resources", |process| write(&v2_file(process, "memory.high"), "max")),
        (Item::MemoryHigh, "shape_tenant", |process| {
            write(&of_its_tenant(&v2_file(process, "memory.high")), "max");
        }),
        (Item::Io, "shape_tenant", |process| {
            let limits = of_its_tenant(&v2_file(process, "io.max"));
            for line in fs::read_to_string(&limits).expect("limits of disks").lines() {
                let disk = line.split(' ').next().unwrap_or_default();
                write(&limits, &format!("{disk} rbps=max wbps=max riops=max wiops=max"));
            }
        }),
    ];
    on_ground(|ground| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let before = keeper.container().await;
        let lacked = keeper.lacked().await;
        for (item, mend, tamper) in TAMPERINGS {
            if let Some(reason) = lacked.get(&item) {
                not_here(&item.to_string(), &reason.to_string());
                continue;
            }
            tamper(keeper.process().await);
            assert!(keeper.broken().await.contains(&item), "{item} is seen");
            assert_eq!(keeper.settle().await, [mend], "{item} is mended");
            assert_eq!(keeper.broken().await, BTreeSet::new(), "after {item}");
        }
        assert_eq!(keeper.container().await.running_since(), before.running_since(), "it has run all the time");
    })
    .await;
}

#[tokio::test]
async fn what_only_a_new_start_mends_is_seen_and_mended_by_one() {
    const TAMPERINGS: [(Item, Tamper); 6] = [
        (Item::OpenFiles, |process| {
            // As the bot's own user, who needs no right of the host's for it.
            let prlimit = format!("prlimit --pid {process} --nofile=512:512");
            outside::run(&format!("setpriv --reuid 1000 --regid 1000 --clear-groups {prlimit}"));
        }),
        (Item::RootFilesystem, |process| remount(process, "/", MsFlags::MS_BIND, None)),
        (Item::Tmpfs, |process| {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            remount(process, "/tmp", flags, Some("size=1g"));
        }),
        (Item::SharedMemory, |process| {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            remount(process, "/dev/shm", flags, Some("size=1g"));
        }),
        (Item::VolumeMount, |process| remount(process, "/state", MsFlags::MS_BIND, None)),
        (Item::Files, |process| remount(process, SECRETS_DIR, MsFlags::MS_BIND, None)),
    ];
    on_ground(|ground| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let container = keeper.container().await.id;
        for (item, tamper) in TAMPERINGS {
            keeper.settle().await;
            let before = keeper.container().await.running_since();
            tamper(keeper.process().await);
            assert!(keeper.broken().await.contains(&item), "{item} is seen");
            assert_eq!(keeper.settle().await, ["stop_container", "start_container"], "{item} is mended");
            assert_eq!(keeper.broken().await, BTreeSet::new(), "after {item}");
            assert!(keeper.container().await.running_since() > before, "{item}: by a new start");
            keeper.wait_out_the_pause();
        }
        assert_eq!(keeper.container().await.id, container, "of the same container");
        assert_eq!(keeper.record.crashes, 0, "which is no crash");
    })
    .await;
}

#[tokio::test]
async fn processes_that_the_kernel_kills_for_memory_are_counted() {
    on_ground(|ground: Arc<Ground>| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let kernel = keeper.container().await.kernel.expect("it runs");
        assert_eq!(kernel.group.oom_kills, 0);
        // A child of its own making is not to be had: another process in its group fills it, and is chosen for its size.
        let process = keeper.process().await;
        let high = v2_file(process, "memory.high");
        // Else it would be slowed down for minutes before it is killed.
        for high in [of_its_tenant(&high), high].iter().filter(|high| high.exists()) {
            write(high, "max");
        }
        let procs = group_file(process, ("memory", "cgroup.procs"), "cgroup.procs");
        let script = format!(
            "echo 1000 > /proc/self/oom_score_adj; echo $$ > {}; head -c 256m /dev/zero | tail",
            procs.display()
        );
        let ended = std::process::Command::new("sh").args(["-c", &script]).output().unwrap().status;
        assert!(!ended.success(), "it is killed");
        let container = keeper.container().await;
        assert!(container.running_since().is_some(), "the bot is not");
        assert!(container.kernel.expect("it runs").group.oom_kills > 0);
    })
    .await;
}
