//! Walls that somebody on the host breaks behind our back: each is broken for real, seen in the report, and mended by
//! the plan.
//!
//! What a living process cannot lose is not here: its user, its capabilities, `no_new_privs` and its filter cannot be
//! changed from outside. That they are seen when they are wrong is `agent/tests/enforce.rs`'s to show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use launchpad_agent::doctor::{Whereabouts, examine};
use launchpad_agent::enforce::{self, Finding};
use launchpad_agent::execute::docker::DockerHost;
use launchpad_agent::execute::{Eyes as _, Hands as _};
use launchpad_agent::observe::{Container, Observed};
use launchpad_agent::plan::action::Action;
use launchpad_agent::plan::drift::{CONFIRMED_AFTER, RESTART_PAUSE};
use launchpad_agent::plan::instance::current_container;
use launchpad_agent::plan::marks::Marks;
use launchpad_agent::plan::record::Record;
use launchpad_agent::plan::{Context, Health, Knowledge, Plan, plan};
use launchpad_protocol::enforcement::{Item, Verdict};
use launchpad_protocol::report::Capability;
use launchpad_protocol::spec::{HostSpec, InstanceSpec};
use launchpad_protocol::time::{BootMoment, Moment};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::ground::{self, Ground, SECRETS_DIR, on_ground};
use crate::outside;

/// Looks after which a host must be as it should be.
const TURNS_MAX: usize = 8;

/// An agent's loop around the real plan and the real hands, with a clock of the test's own.
struct Keeper {
    ground: Arc<Ground>,
    host: DockerHost,
    desired: HostSpec,
    capabilities: BTreeMap<String, Capability>,
    record: Record,
    now: u64,
}

impl Keeper {
    /// A bot that runs as it should.
    async fn with_a_bot(ground: &Arc<Ground>) -> Self {
        let desired = ground::desired(&ground.bot(""));
        let whereabouts =
            Whereabouts { docker: ground.docker.clone(), data_dir: ground.dir.path().join("data"), gate: None };
        let mut keeper = Self {
            ground: Arc::clone(ground),
            host: ground.host().await,
            desired,
            capabilities: examine(&whereabouts).await.capabilities,
            record: Record::default(),
            now: 1_000_000_000,
        };
        keeper.settle().await;
        keeper
    }

    fn bot(&self) -> &InstanceSpec {
        self.desired.instances.values().next().expect("one bot")
    }

    /// Everything on the host as it is now, as an agent sees it that has just begun and believes nothing.
    async fn observe(&mut self) -> Observed {
        self.host = self.ground.host().await;
        let images = BTreeSet::from([self.bot().image.clone()]);
        self.host.observe(&images).await.expect("an observation")
    }

    fn judge(&self, observed: &Observed) -> BTreeMap<Item, Finding> {
        let host = enforce::Host { desired: &self.desired, observed, capabilities: &self.capabilities };
        enforce::judge(self.bot(), current_container(self.bot(), observed), host)
    }

    /// What of the bot's promises should hold and does not.
    async fn broken(&mut self) -> BTreeSet<Item> {
        let failed = |finding: &Finding| matches!(finding.enforcement.verdict, Verdict::Failed { .. });
        let observed = self.observe().await;
        self.judge(&observed).into_iter().filter(|(_, found)| failed(found)).map(|(item, _)| item).collect()
    }

    /// One turn of the agent: look, judge, plan.
    async fn turn(&mut self) -> Plan {
        let observed = self.observe().await;
        self.now += u64::try_from(CONFIRMED_AFTER.as_micros()).expect("a short time");
        let now = BootMoment::from_micros(self.now);
        let wall = Moment::from_micros(i64::try_from(self.now).expect("a moment"));
        let context = Context { now, wall, boot_id: "one".to_owned() };
        let bot = self.desired.instances.values().next().expect("one bot");
        let container = current_container(bot, &observed);
        let well = Health { started: true, ready: true, ..Health::default() };
        let health: BTreeMap<_, _> = container.map(|container| (container.id.clone(), well)).into_iter().collect();
        let findings = BTreeMap::from([(bot.deployment, self.judge(&observed))]);
        let marks = Marks::default();
        self.record.absorb(bot, container, health.values().next(), &marks, &context);
        self.record.absorb_findings(&findings[&bot.deployment], now);
        let records = BTreeMap::from([(bot.deployment, self.record.clone())]);
        let known = Knowledge { marks: &marks, records: &records, health: &health, findings: &findings };
        plan(&self.desired, &observed, known, &context)
    }

    /// Plans and carries out until nothing is left to do; what was done.
    async fn settle(&mut self) -> Vec<&'static str> {
        let mut done = Vec::new();
        for _ in 0..TURNS_MAX {
            let plan = self.turn().await;
            let actions: Vec<Action> = plan.work.into_values().flatten().collect();
            if actions.is_empty() && plan.wake_at.is_none() {
                return done;
            }
            for action in actions {
                if let Action::StopContainer { container, why, .. } = &action {
                    self.record.expect_stop(container, why, BootMoment::from_micros(self.now));
                }
                self.host.execute(&action).await.unwrap_or_else(|error| panic!("{action}: {error}"));
                if let Action::UpdateResources { .. } = action {
                    self.record.limits_were_set();
                }
                done.push(action.kind());
            }
        }
        panic!("not at rest after {TURNS_MAX} turns: {done:?}");
    }

    /// The pause between two restarts goes by.
    fn wait_out_the_pause(&mut self) {
        self.now += u64::try_from(RESTART_PAUSE.as_micros()).expect("a short time");
    }

    async fn container(&mut self) -> Container {
        let observed = self.observe().await;
        current_container(self.bot(), &observed).expect("a container").clone()
    }

    async fn process(&mut self) -> i64 {
        self.container().await.process_id.expect("it runs")
    }
}

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
                Verdict::Degraded { reason } => assert!(reasons.contains(&reason), "{item}: {reason}"),
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
    const TAMPERINGS: [(Item, &str, Tamper); 5] = [
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
            let tenants =
                own.parent().and_then(Path::parent).expect("a tenant's group").join(own.file_name().unwrap());
            write(&tenants, "10000");
        }),
    ];
    on_ground(|ground| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let before = keeper.container().await;
        for (item, mend, tamper) in TAMPERINGS {
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
async fn what_stands_around_a_bot_is_seen_and_put_right_without_a_restart() {
    on_ground(|ground| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let before = keeper.container().await;
        let deployment = keeper.bot().deployment;

        // Somebody may set programs' owners' rights free on the volume as the host has it.
        let volume = ground.dir.path().join(format!("data/volumes/{deployment}/mount"));
        mount(None::<&str>, &volume, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, None::<&str>).unwrap();
        assert!(keeper.broken().await.contains(&Item::VolumeMount), "it is seen");
        assert_eq!(keeper.settle().await, ["prepare_volume"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        // Its files go.
        let files = ground.dir.path().join(format!("run/files/{deployment}"));
        fs::remove_dir_all(&files).unwrap();
        assert!(keeper.broken().await.contains(&Item::Files), "it is seen");
        assert_eq!(keeper.settle().await, ["write_files"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        // The gate is told to let it nowhere, past the agent.
        let forget = launchpad_agent::gate::policy::Change::DropInstance { deployment };
        ground.gate.client().change(forget).await.unwrap();
        let broken = keeper.broken().await;
        assert!(broken.contains(&Item::Egress) && broken.contains(&Item::Ingress), "it is seen: {broken:?}");
        assert_eq!(keeper.settle().await, ["open_gate"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        assert_eq!(keeper.container().await.running_since(), before.running_since(), "it has run all the time");
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
        let high = group_file(process, ("memory", "no such bound"), "memory.high");
        let tenants = high.parent().and_then(Path::parent).expect("a tenant's group").join("memory.high");
        // Else it would be slowed down for minutes before it is killed.
        for high in [high, tenants].iter().filter(|high| high.exists()) {
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
