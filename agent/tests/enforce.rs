//! How the promises of a spec are judged: all of them on a host that keeps them all, each of them once it is broken, and
//! those that a host cannot keep with the reason that `doctor` gives.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use launchpad_agent::enforce::{self, Finding, Host, Mend};
use launchpad_agent::observe::kernel::{Ceiling, DiskShare, IdMap, IdRange, KernelView, MountView};
use launchpad_agent::observe::{Container, ContainerState, Observed, files_digest};
use launchpad_agent::plan::model::ideal;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::enforcement::{Item, Verdict};
use launchpad_protocol::generation::Revision;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capability;
use launchpad_protocol::spec::{FileKind, HostSpec, InstanceSpec, SealedFile, Seccomp, Tmpfs};
use launchpad_protocol::time::Moment;

/// A bot with something of everything that a spec can promise.
fn bot() -> InstanceSpec {
    let mut bot = support::bot();
    bot.isolation.seccomp = Seccomp::Profile("{}".to_owned());
    bot.isolation.tmpfs = vec![Tmpfs { path: "/tmp".to_owned(), bytes: 16 << 20, mode: 0o1777, exec: false }];
    bot.files = vec![SealedFile {
        name: "token".to_owned(),
        dir: "/run/secrets".to_owned(),
        kind: FileKind::Secret,
        version: Revision(1),
        ciphertext: vec![1, 2, 3],
    }];
    bot
}

/// A host on which it runs.
struct World {
    desired: HostSpec,
    observed: Observed,
    capabilities: BTreeMap<String, Capability>,
}

impl World {
    fn new() -> Self {
        let bot = bot();
        let desired = support::spec(1, [bot.clone()]);
        let shape = enforce::shape::TenantShape::of(&desired, bot.account);
        let container = Container {
            state: ContainerState::Running { started_at: Moment::from_micros(1) },
            kernel: Some(Box::new(ideal::kernel(&bot))),
            address: Some([172, 29, 0, 2].into()),
            ..ideal::container(&bot, "c1")
        };
        let observed = Observed {
            containers: BTreeMap::from([("c1".to_owned(), container)]),
            networks: BTreeSet::from([bot.account]),
            volumes: BTreeMap::from([(
                bot.deployment,
                ideal::volume(bot.volume.as_ref().expect("it keeps something")),
            )]),
            gates: BTreeMap::from([(bot.deployment, ideal::gate(&bot))]),
            files: BTreeMap::from([(bot.deployment, files_digest(&bot.files))]),
            tenants: BTreeMap::from([(bot.account, ideal::tenant(&shape))]),
            ..Observed::default()
        };
        Self { desired, observed, capabilities: BTreeMap::new() }
    }

    fn container(&mut self) -> &mut Container {
        self.observed.containers.get_mut("c1").expect("it is there")
    }

    fn kernel(&mut self) -> &mut KernelView {
        self.container().kernel.as_deref_mut().expect("it runs")
    }

    fn mount(&mut self, point: &str) -> &mut MountView {
        self.kernel().mounts.get_mut(point).expect("it is mounted")
    }

    /// The host cannot do that.
    fn without(&mut self, capability: &str) -> Reason {
        let reason = Reason::new(&format!("no-{capability}"), "the host cannot").mend("make it able to");
        self.capabilities.insert(capability.to_owned(), Capability::Absent { reason: reason.clone() });
        reason
    }

    fn judge(&self) -> BTreeMap<Item, Finding> {
        let Self { desired, observed, capabilities } = self;
        let spec = desired.instances.values().next().expect("one bot");
        enforce::judge(spec, observed.containers.get("c1"), Host { desired, observed, capabilities })
    }

    /// Which promises do not hold, and what would mend each.
    fn broken(&self) -> Vec<(Item, Mend)> {
        let findings = self.judge().into_iter();
        let failed = findings.filter(|(_, found)| matches!(found.enforcement.verdict, Verdict::Failed { .. }));
        failed.map(|(item, found)| (item, found.mend)).collect()
    }
}

#[test]
fn a_host_that_keeps_every_promise_is_found_to_keep_every_one() {
    let found = World::new().judge();
    let held: Vec<Item> =
        found.iter().filter(|(_, found)| found.enforcement.reason().is_none()).map(|(i, _)| *i).collect();
    let mut all = Item::ALL.to_vec();
    all.sort_unstable();
    assert_eq!(held, all, "{found:#?}");
    let said: Vec<String> = found.iter().map(|(item, found)| format!("{item}: {}", found.enforcement.seen)).collect();
    insta::assert_snapshot!(said.join("\n"));
}

/// Something that somebody does to a host behind our back, the promise that it breaks, and what would mend it.
type Break = (Item, Mend, fn(&mut World));

const BREAKS: &[Break] = &[
    (Item::User, Mend::Start, |world| world.kernel().process.users = [200_000].into()),
    (Item::User, Mend::Start, |world| world.kernel().process.more_groups = [7].into()),
    (Item::UserNamespace, Mend::Nothing, |world| {
        let hosts = IdMap { ranges: vec![IdRange { inside: 0, outside: 0, count: u32::MAX }] };
        let process = &mut world.kernel().process;
        (process.user_map, process.group_map) = (hosts.clone(), hosts);
        (process.users, process.groups) = ([1000].into(), [1000].into());
    }),
    (Item::RootFilesystem, Mend::Start, |world| world.mount("/").read_only = false),
    (Item::RootFilesystem, Mend::Start, |world| {
        world.kernel().mounts.insert("/etc".to_owned(), MountView::default());
    }),
    (Item::RootFilesystem, Mend::Start, |world| world.kernel().process.shared_namespaces = ["mnt".to_owned()].into()),
    (Item::Capabilities, Mend::Start, |world| world.kernel().process.capabilities.bounding = 1),
    (Item::Capabilities, Mend::Start, |world| world.kernel().process.capabilities.ambient = 1),
    (Item::NoNewPrivileges, Mend::Start, |world| world.kernel().process.no_new_privileges = false),
    (Item::Seccomp, Mend::Start, |world| world.kernel().process.seccomp_mode = 0),
    (Item::Seccomp, Mend::Start, |world| world.container().seccomp = Some(Digest::of(b"another"))),
    (Item::Seccomp, Mend::Start, |world| world.container().seccomp = None),
    (Item::Apparmor, Mend::Start, |world| world.kernel().process.confinement = Some("unconfined".to_owned())),
    (Item::Memory, Mend::Limits, |world| world.kernel().group.memory_bytes = Ceiling::Open),
    (Item::MemoryHigh, Mend::Limits, |world| world.kernel().group.memory_high_bytes = Ceiling::Open),
    (Item::MemoryHigh, Mend::Tenant, |world| {
        world.observed.tenants.values_mut().for_each(|group| group.memory_high_bytes = Ceiling::Open);
    }),
    (Item::Swap, Mend::Limits, |world| world.kernel().group.swap_bytes = Ceiling::At(1 << 20)),
    (Item::Cpu, Mend::Limits, |world| world.kernel().group.cpu_millis = Ceiling::At(2000)),
    (Item::CpuWeight, Mend::Tenant, |world| {
        world.observed.tenants.values_mut().for_each(|group| group.cpu_weight = Ceiling::At(10_000));
    }),
    (Item::Io, Mend::Tenant, |world| {
        let open = Ceiling::Open;
        let free = DiskShare { read_bytes: open, write_bytes: open, reads: open, writes: open };
        world.observed.tenants.values_mut().for_each(|group| group.disk = Some(free));
    }),
    (Item::Pids, Mend::Limits, |world| world.kernel().group.pids = Ceiling::Open),
    (Item::OpenFiles, Mend::Start, |world| world.kernel().process.open_files = Ceiling::At(1 << 20)),
    (Item::SharedMemory, Mend::Start, |world| world.mount("/dev/shm").bytes = Some(1 << 30)),
    (Item::SharedMemory, Mend::Start, |world| world.kernel().process.shared_namespaces = ["ipc".to_owned()].into()),
    (Item::Tmpfs, Mend::Start, |world| world.mount("/tmp").bytes = None),
    (Item::Tmpfs, Mend::Start, |world| world.mount("/tmp").noexec = false),
    (Item::Log, Mend::Nothing, |world| world.container().log_bytes = None),
    (Item::VolumeMount, Mend::Start, |world| world.mount("/state").nosuid = false),
    (Item::VolumeMount, Mend::Around, |world| {
        world.observed.volumes.values_mut().for_each(|volume| volume.flags_right = false);
    }),
    (Item::VolumeQuota, Mend::Around, |world| {
        world.observed.volumes.values_mut().for_each(|volume| volume.bytes = 1);
    }),
    (Item::Files, Mend::Start, |world| world.mount("/run/secrets").read_only = false),
    (Item::Files, Mend::Start, |world| world.kernel().process.core_bytes = Ceiling::Open),
    (Item::Files, Mend::Start, |world| world.kernel().process.core_bytes = Ceiling::At(2)),
    (Item::Files, Mend::Around, |world| world.observed.files.clear()),
    (Item::Network, Mend::Around, |world| world.observed.networks.clear()),
    (Item::Egress, Mend::Around, |world| {
        let fault = Reason::new("rules-gone", "somebody flushed them");
        world.observed.gates.values_mut().for_each(|gate| gate.egress_fault = Some(fault.clone()));
    }),
    (Item::Ingress, Mend::Around, |world| {
        let fault = Reason::new("caddy-away", "it does not answer");
        world.observed.gates.values_mut().for_each(|gate| gate.ingress_fault = Some(fault.clone()));
    }),
];

#[test]
fn each_promise_that_is_broken_is_found_broken_and_no_other() {
    for (n, (item, mend, spoil)) in BREAKS.iter().enumerate() {
        let mut world = World::new();
        spoil(&mut world);
        assert_eq!(world.broken(), [(*item, *mend)], "break {n}, of {item}");
        let finding = &world.judge()[item];
        let reason = finding.enforcement.reason().expect("it is broken");
        assert!(!finding.enforcement.seen.is_empty() && !reason.sentence.is_empty(), "{item}");
        let promised = reason.mend.as_ref().is_some_and(|mend| mend.contains("the agent mends it by itself"));
        assert!(!(promised && *mend == Mend::Nothing), "nothing mends {item}, and this is said of it: {reason}");
    }
    let covered: BTreeSet<Item> = BREAKS.iter().map(|(item, ..)| *item).collect();
    // Nobody outside breaks that one: a profile asks for it.
    let rest: Vec<&Item> = Item::ALL.iter().filter(|item| !covered.contains(item)).collect();
    assert_eq!(rest, [&Item::ProcessEnvironment]);
}

#[test]
fn an_older_policy_at_the_gate_breaks_both_ways() {
    let mut world = World::new();
    world.observed.gates.values_mut().for_each(|gate| gate.told = Digest::of(b"older"));
    assert_eq!(world.broken(), [(Item::Egress, Mend::Around), (Item::Ingress, Mend::Around)]);
    world.observed.gates.clear();
    assert_eq!(world.broken(), [(Item::Egress, Mend::Around), (Item::Ingress, Mend::Around)]);
}

#[test]
fn what_the_host_cannot_do_is_degraded_for_the_hosts_own_reason() {
    let mut world = World::new();
    let v1 = world.without("cgroup-v2");
    let apparmor = world.without("apparmor");
    let userns = world.without("userns-remap");
    let swap = world.without("swap-limit");
    let quota = world.without("volume-quota");
    let hosts = IdMap { ranges: vec![IdRange { inside: 0, outside: 0, count: u32::MAX }] };
    let process = &mut world.kernel().process;
    (process.user_map, process.group_map) = (hosts.clone(), hosts);
    (process.users, process.groups, process.confinement) = ([1000].into(), [1000].into(), None);
    let group = &mut world.kernel().group;
    (group.memory_high_bytes, group.swap_bytes, group.pressure) = (Ceiling::Unseen, Ceiling::Unseen, None);
    world.observed.tenants.values_mut().for_each(|group| {
        (group.memory_high_bytes, group.swap_bytes, group.disk) = (Ceiling::Unseen, Ceiling::Unseen, None);
    });
    let found = world.judge();
    let degraded: BTreeMap<Item, &Reason> = found
        .iter()
        .filter(|(_, found)| matches!(found.enforcement.verdict, Verdict::Degraded { .. }))
        .filter_map(|(item, found)| Some((*item, found.enforcement.reason()?)))
        .collect();
    let expected = BTreeMap::from([
        (Item::UserNamespace, &userns),
        (Item::Apparmor, &apparmor),
        (Item::MemoryHigh, &v1),
        (Item::Swap, &swap),
        (Item::Io, &v1),
        (Item::VolumeQuota, &quota),
    ]);
    assert_eq!(degraded, expected);
    assert_eq!(world.broken(), []);
}

#[test]
fn a_disk_that_nothing_limits_is_told_even_on_cgroup_v2() {
    let mut world = World::new();
    world.observed.tenants.values_mut().for_each(|group| group.disk = None);
    let found = world.judge();
    assert_eq!(found[&Item::Io].enforcement.reason().map(|reason| reason.code.as_str()), Some("no-disk-limit"));
    assert_eq!(world.broken(), []);
}

#[test]
fn a_secret_in_the_environment_is_degraded_whether_it_runs_or_not() {
    let mut world = World::new();
    let bot = world.desired.instances.values_mut().next().expect("one bot");
    bot.secret_environment.insert("TOKEN".to_owned(), "token".to_owned());
    world.observed.containers.clear();
    let found = world.judge();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&Item::ProcessEnvironment]);
    let environment = &found[&Item::ProcessEnvironment].enforcement;
    assert_eq!(environment.seen, "TOKEN");
    assert!(matches!(&environment.verdict, Verdict::Degraded { reason } if reason.code == "secret-in-environment"));
}

#[test]
fn what_was_made_for_another_spec_or_does_not_run_is_not_judged_by_this_one() {
    let mut world = World::new();
    world.container().recreate_hash = Digest::of(b"an older one");
    assert_eq!(world.judge().len(), 1);
    let mut world = World::new();
    world.container().state = ContainerState::Created;
    assert_eq!(world.judge().len(), 1);
    let mut world = World::new();
    world.container().kernel = None;
    assert_eq!(world.judge().len(), 1, "half a view is no view");
}

#[test]
fn kernels_round_to_whole_pages_and_that_is_no_drift() {
    let mut world = World::new();
    let bot = world.desired.instances.values_mut().next().expect("one bot");
    bot.resources.memory_bytes += 123;
    bot.isolation.shm_bytes += 5;
    let (asked, shm) = (bot.resources, bot.isolation.shm_bytes);
    let shape = enforce::shape::TenantShape::of(&world.desired, support::bot().account);
    world.observed.tenants.values_mut().for_each(|group| *group = ideal::tenant(&shape));
    world.kernel().group = ideal::group(&asked);
    world.kernel().group.memory_bytes = Ceiling::At(asked.memory_bytes / 4096 * 4096);
    world.mount("/dev/shm").bytes = Some(shm.next_multiple_of(4096));
    assert_eq!(world.broken(), []);
    world.kernel().group.memory_bytes = Ceiling::At(asked.memory_bytes + 4096);
    assert_eq!(world.broken(), [(Item::Memory, Mend::Limits)]);
}

#[test]
fn a_container_from_before_dumps_were_limited_to_one_byte_is_left_as_it_is() {
    let mut world = World::new();
    world.kernel().process.core_bytes = Ceiling::At(0);
    assert_eq!(world.broken(), []);
}

#[test]
fn a_volume_of_a_larger_plan_keeps_its_data_and_is_told() {
    let mut world = World::new();
    world.observed.volumes.values_mut().for_each(|volume| volume.bytes *= 2);
    let found = world.judge();
    assert!(matches!(&found[&Item::VolumeQuota].enforcement.verdict,
        Verdict::Degraded { reason } if reason.code == "volume-larger"));
}

#[test]
fn a_volume_that_waits_for_a_stop_says_what_ends_the_waiting() {
    let mut world = World::new();
    world.observed.volumes.values_mut().for_each(|volume| (volume.bytes, volume.grows_in_use) = (1, false));
    assert_eq!(world.broken(), [(Item::VolumeQuota, Mend::Around)]);
    let found = world.judge();
    let reason = found[&Item::VolumeQuota].enforcement.reason().expect("a reason");
    assert_eq!(reason.code, "volume-grows-stopped");
    assert!(reason.mend.as_ref().is_some_and(|mend| mend.contains("launchpad restart")), "{reason}");
}

#[test]
fn a_tenant_weighs_what_all_its_bots_are_granted() {
    let second = InstanceSpec { deployment: support::id(0xe), ..bot() };
    let other = InstanceSpec { deployment: support::id(0xb), account: support::id(0xc), ..bot() };
    let desired = support::spec(1, [bot(), second, other]);
    let both = enforce::shape::TenantShape::of(&desired, bot().account);
    let one = enforce::shape::TenantShape::of(&desired, support::id(0xc));
    assert_eq!((one.cpu_weight, both.cpu_weight), (50, 100));
    assert_eq!((both.pids, both.reads), (2 * one.pids, 2 * one.reads));
    assert_eq!(both.memory_high_bytes, 2 * one.memory_high_bytes);
    assert!(one.fits(&ideal::tenant(&one)) && !one.fits(&ideal::tenant(&both)));
    let nobody = enforce::shape::TenantShape::of(&desired, support::id(0x9));
    assert_eq!(nobody.cpu_weight, 1, "the kernel knows no less");
}
