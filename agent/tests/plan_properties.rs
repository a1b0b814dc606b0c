//! What holds of every plan, whatever the spec and whatever is found on the host.
//!
//! Drawn specs meet drawn hosts: containers of the right hash, of another, running, ended, doubled, and some that
//! nobody names. Plans are carried out on the ideal host of `plan::model`.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_agent::enforce::{self, Finding};
use launchpad_agent::observe::kernel::{Ceiling, KernelView};
use launchpad_agent::observe::{Container, ContainerState, Exit, Observed, VolumeSight};
use launchpad_agent::plan::action::Action;
use launchpad_agent::plan::instance::current_container;
use launchpad_agent::plan::marks::{Marks, OperationMark};
use launchpad_agent::plan::model::{Model, ideal};
use launchpad_agent::plan::record::Record;
use launchpad_agent::plan::{Context, Health, Knowledge, Plan, plan};
use launchpad_protocol::arbitrary;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::enforcement::Item;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::Epoch;
use launchpad_protocol::id::{AccountId, DeploymentId, OperationId};
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{
    HostSpec, InstanceSpec, Operation, OperationAction, Power, Resources, TombstoneScope, Volume,
};
use launchpad_protocol::time::{BootMoment, Moment};
use proptest::prelude::*;
use proptest::sample::Index;

/// Deployments in a drawn spec, at most.
const INSTANCES: usize = 4;

/// Turns after which a host that is asked for nothing more must be at rest. A restart of a bot that a plan has just
/// created takes three.
const TURNS_MAX: usize = 8;

/// Microseconds between two turns: longer than any backoff that is drawn, so that none is still to be waited out.
const TURN_US: i64 = 90_000_000_000;

/// A host and its agent's memory.
struct World {
    spec: HostSpec,
    model: Model,
    records: BTreeMap<DeploymentId, Record>,
    now: i64,
    starts: BTreeMap<DeploymentId, u32>,
}

impl World {
    fn new(spec: HostSpec, observed: Observed) -> Self {
        let model = Model::of(observed, Marks::default());
        Self { spec, model, records: BTreeMap::new(), now: 1_000_000, starts: BTreeMap::new() }
    }

    fn context(&self) -> Context {
        let now = BootMoment::from_micros(u64::try_from(self.now).expect("after boot"));
        Context { now, wall: Moment::from_micros(self.now), boot_id: "boot".to_owned() }
    }

    /// Every running container is well.
    fn health(&self) -> BTreeMap<String, Health> {
        let well = Health { started: true, ready: true, ..Health::default() };
        let running = self.model.observed.containers.values().filter(|container| container.running_since().is_some());
        running.map(|container| (container.id.clone(), well.clone())).collect()
    }

    /// How the promises stand on a host that can keep them all.
    fn findings(&self) -> BTreeMap<DeploymentId, BTreeMap<Item, Finding>> {
        let (desired, observed) = (&self.spec, &self.model.observed);
        let host = enforce::Host { desired, observed, capabilities: &BTreeMap::new() };
        let judge = |instance: &InstanceSpec| {
            (instance.deployment, enforce::judge(instance, current_container(instance, observed), host))
        };
        self.spec.instances.values().map(judge).collect()
    }

    fn plan(&mut self) -> Plan {
        let mut last = Plan::default();
        // A first look notes exits and begins their backoff, a second one finds it over.
        for _ in 0..2 {
            self.now += TURN_US;
            let (context, health, findings) = (self.context(), self.health(), self.findings());
            for instance in self.spec.instances.values() {
                let container = current_container(instance, &self.model.observed);
                let said = container.and_then(|container| health.get(&container.id));
                let record = self.records.entry(instance.deployment).or_default();
                record.absorb(instance, container, said, &self.model.marks, &context);
                record.absorb_findings(&findings[&instance.deployment], context.now);
            }
            let known = Knowledge {
                marks: &self.model.marks,
                records: &self.records,
                health: &health,
                findings: &findings,
                // Its coordinator hears it all the while: leases never end here.
                renewed_at: Some(context.now),
            };
            last = plan(&self.spec, &self.model.observed, known, &context);
        }
        last
    }

    fn apply(&mut self, action: &Action) {
        self.now += 1_000;
        if let Action::StartContainer { deployment, .. } = action {
            *self.starts.entry(*deployment).or_default() += 1;
        }
        self.model.apply(action, Moment::from_micros(self.now));
    }

    /// Plans and carries out until nothing is left to do; the last plan.
    fn settle(&mut self) -> Plan {
        for _ in 0..TURNS_MAX {
            let plan = self.plan();
            if plan.work.is_empty() {
                return plan;
            }
            plan.work.values().flatten().for_each(|action| self.apply(action));
        }
        panic!("not at rest after {TURNS_MAX} turns; next would be:\n{}", self.plan());
    }

    /// The agent carries out that many actions of its plan and dies, and with it all that it remembered but the marks.
    fn die_after(&mut self, actions: usize) {
        let plan = self.plan();
        plan.work.values().flatten().take(actions).for_each(|action| self.apply(action));
        self.records.clear();
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#?}\n{:#?}", self.spec, self.model)
    }
}

/// A spec without contradictions, of features that this agent has, whose bots end for no reason of their own.
fn spec() -> impl Strategy<Value = HostSpec> {
    arbitrary::host_spec(INSTANCES).prop_map(|mut spec| {
        let wanted: BTreeSet<_> = spec.instances.keys().copied().collect();
        spec.tombstones.retain(|_, tombstone| !wanted.contains(&tombstone.deployment));
        for instance in spec.instances.values_mut() {
            instance.requires.retain(|feature| Feature::all().contains(feature));
            instance.restart.terminal.remove(&0);
        }
        spec
    })
}

/// What somebody else on the host may do to a running container.
const BREAKS: [fn(&mut KernelView); 8] = [
    |view| view.group.memory_bytes = Ceiling::Open,
    |view| view.group.swap_bytes = Ceiling::At(1 << 30),
    |view| view.group.cpu_millis = Ceiling::At(16_000),
    |view| view.group.pids = Ceiling::Open,
    |view| view.process.open_files = Ceiling::At(1 << 20),
    |view| view.process.core_bytes = Ceiling::Open,
    |view| view.mounts.values_mut().for_each(|mount| mount.read_only = false),
    |view| view.mounts.values_mut().for_each(|mount| (mount.nosuid, mount.bytes) = (false, Some(1 << 40))),
];

/// A container that might be found: of which deployment, and how much of it fits.
#[derive(Debug, Clone)]
struct Found {
    whose: Index,
    fits: bool,
    limits_fit: bool,
    state: u8,
}

fn found() -> impl Strategy<Value = Vec<Found>> {
    let one = (any::<Index>(), any::<bool>(), any::<bool>(), 0..4_u8);
    let one = one.prop_map(|(whose, fits, limits_fit, state)| Found { whose, fits, limits_fit, state });
    proptest::collection::vec(one, 0..6)
}

/// The host on which those containers are found; some are nobody's.
fn host(spec: &HostSpec, found: &[Found]) -> Observed {
    let stranger = arbitrary::deployment_at(99);
    let mut owners: Vec<(DeploymentId, AccountId)> =
        spec.instances.values().map(|instance| (instance.deployment, instance.account)).collect();
    owners.extend(spec.tombstones.values().map(|tombstone| (tombstone.deployment, tombstone.account)));
    owners.push((stranger, AccountId::from(stranger.uuid())));
    let one = |(n, found): (usize, &Found)| {
        let (deployment, account) = owners[found.whose.index(owners.len())];
        let wish = spec.instances.get(&deployment);
        let started_at = Moment::from_micros(10 + i64::try_from(n).expect("few"));
        let at = Moment::from_micros(500);
        let container = Container {
            id: format!("found-{n}"),
            deployment,
            account,
            epoch: Epoch(1),
            recreate_hash: wish.filter(|_| found.fits).map_or(Digest::of(b"another"), |wish| wish.recreate_hash),
            state: match found.state {
                0 => ContainerState::Created,
                1 => ContainerState::Exited(Exit {
                    started_at,
                    at,
                    code: 0,
                    out_of_memory: false,
                    output_tail: String::new(),
                }),
                _ => ContainerState::Running { started_at },
            },
            resources: wish
                .filter(|_| found.limits_fit)
                .map_or(Resources { cpu_millis: 1, memory_bytes: 1, pids: 1 }, |wish| wish.resources),
            log_bytes: None,
            seccomp: None,
            process_id: None,
            kernel: None,
            address: None,
            image: None,
        };
        (container.id.clone(), container)
    };
    Observed { containers: found.iter().enumerate().map(one).collect(), ..Observed::default() }
}

/// A volume that might be found: whose, how much smaller than its plan grants, and whether it grows under a bot.
#[derive(Debug, Clone)]
struct Kept {
    whose: Index,
    part: u64,
    grows_in_use: bool,
    stands: bool,
}

fn kept() -> impl Strategy<Value = Vec<Kept>> {
    let one = (any::<Index>(), 1..4_u64, any::<bool>(), any::<bool>());
    let one = one.prop_map(|(whose, part, grows_in_use, stands)| Kept { whose, part, grows_in_use, stands });
    proptest::collection::vec(one, 0..4)
}

fn volumes(spec: &HostSpec, kept: &[Kept]) -> BTreeMap<DeploymentId, VolumeSight> {
    let bots: Vec<_> = spec.instances.values().collect();
    let one = |kept: &Kept| {
        let bot = bots[kept.whose.index(bots.len())];
        let asked = bot.volume.as_ref()?;
        let (bytes, grows_in_use, flags_right) = (asked.bytes / kept.part, kept.grows_in_use, kept.stands);
        Some((bot.deployment, VolumeSight { bytes, grows_in_use, flags_right, ..ideal::volume(asked) }))
    };
    if bots.is_empty() { BTreeMap::new() } else { kept.iter().filter_map(one).collect() }
}

/// A bot that keeps something.
fn with_volume(bot: &InstanceSpec) -> Option<(&InstanceSpec, &Volume)> {
    bot.volume.as_ref().map(|volume| (bot, volume))
}

fn world() -> impl Strategy<Value = World> {
    (spec(), found(), kept()).prop_map(|(spec, found, kept)| {
        let observed = Observed { volumes: volumes(&spec, &kept), ..host(&spec, &found) };
        World::new(spec, observed)
    })
}

/// A world in which every bot is to run, and nothing is to be removed or done once.
fn calm_world() -> impl Strategy<Value = World> {
    world().prop_map(|mut world| {
        world.spec.tombstones.clear();
        for instance in world.spec.instances.values_mut() {
            instance.operations.clear();
            instance.power = Power::On;
        }
        world
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn planning_the_planned_result_is_empty(mut world in world()) {
        let last = world.settle();
        let again = world.plan();
        prop_assert!(again.work.is_empty(), "{again}");
        prop_assert_eq!(last.standings, again.standings);
    }

    #[test]
    fn at_rest_every_bot_runs_once_or_is_off_and_tombstones_are_carried_out(mut world in world()) {
        let last = world.settle();
        for (deployment, standing) in &last.standings {
            let running = world.model.observed.containers.values()
                .filter(|container| container.deployment == *deployment && container.running_since().is_some()).count();
            let (phase, reason) = (standing.phase, &standing.reason);
            prop_assert!(matches!(phase, Phase::Ready | Phase::Stopped), "{} rests {:?}: {:?}", deployment, phase, reason);
            prop_assert_eq!(running, usize::from(phase == Phase::Ready));
        }
        for tombstone in world.spec.tombstones.values() {
            prop_assert!(world.model.marks.buried.contains(&tombstone.id));
            prop_assert!(world.model.observed.containers.values().all(|c| c.deployment != tombstone.deployment));
        }
    }

    #[test]
    fn what_nobody_names_is_never_touched(mut world in world()) {
        let named: BTreeSet<DeploymentId> = world.spec.instances.keys().copied()
            .chain(world.spec.tombstones.values().map(|tombstone| tombstone.deployment)).collect();
        let strangers: Vec<Container> = world.model.observed.containers.values()
            .filter(|container| !named.contains(&container.deployment)).cloned().collect();
        let last = world.settle();
        for stranger in &strangers {
            prop_assert_eq!(world.model.observed.containers.get(&stranger.id), Some(stranger));
        }
        prop_assert_eq!(last.orphans.len(), strangers.len());
    }

    #[test]
    fn data_goes_only_where_a_tombstone_of_that_scope_names_it(mut world in world()) {
        for _ in 0..TURNS_MAX {
            let plan = world.plan();
            for action in plan.work.values().flatten() {
                if let Action::RemoveVolume { deployment } = action {
                    let ordered = world.spec.tombstones.values()
                        .any(|tombstone| tombstone.deployment == *deployment && tombstone.scope == TombstoneScope::Data);
                    prop_assert!(ordered, "{action}");
                }
                world.apply(action);
            }
        }
    }

    #[test]
    fn a_well_bot_of_the_right_hash_is_never_stopped_unless_somebody_asks(mut world in calm_world()) {
        let kept: Vec<Container> = world.spec.instances.values()
            .filter_map(|instance| current_container(instance, &world.model.observed)
                .filter(|container| container.recreate_hash == instance.recreate_hash))
            .filter(|container| container.running_since().is_some()).cloned().collect();
        world.settle();
        for container in kept {
            let now = world.model.observed.containers.get(&container.id).and_then(Container::running_since);
            prop_assert_eq!(now, container.running_since(), "{} was restarted", container.id);
        }
    }

    #[test]
    fn what_somebody_breaks_behind_our_back_is_mended_and_nothing_is_made_anew(
        mut world in calm_world(), breaks in proptest::collection::vec((any::<Index>(), any::<Index>()), 1..4),
    ) {
        world.settle();
        let before: Vec<String> = world.model.observed.containers.keys().cloned().collect();
        let mended: BTreeSet<DeploymentId> = world.spec.instances.keys().copied().collect();
        for (whose, what) in breaks {
            let ours = world.model.observed.containers.values_mut().filter(|container| mended.contains(&container.deployment));
            let mut views: Vec<&mut KernelView> = ours.filter_map(|container| container.kernel.as_deref_mut()).collect();
            if !views.is_empty() {
                let whose = whose.index(views.len());
                BREAKS[what.index(BREAKS.len())](views[whose]);
            }
        }
        world.settle();
        let broken: Vec<_> = world.findings().into_iter().flat_map(|(deployment, found)| {
            found.into_iter().filter(|(_, finding)| finding.enforcement.reason().is_some()).map(move |found| (deployment, found))
        }).filter(|(_, (item, _))| *item != Item::ProcessEnvironment).collect();
        prop_assert!(broken.is_empty(), "{broken:#?}");
        prop_assert_eq!(before, world.model.observed.containers.keys().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn a_larger_volume_is_there_at_once_or_after_the_next_restart_and_no_bot_is_stopped_for_it(mut world in calm_world()) {
        world.settle();
        let before = world.model.observed.containers.clone();
        let grows = |world: &World, bot: &InstanceSpec| world.model.observed.volumes[&bot.deployment].grows_in_use;
        for instance in world.spec.instances.values_mut() {
            instance.revision = instance.revision.next();
            if let Some(volume) = &mut instance.volume {
                volume.bytes = volume.bytes.saturating_mul(2).saturating_add(1);
            }
        }
        world.settle();
        prop_assert_eq!(&world.model.observed.containers, &before);
        for (bot, volume) in world.spec.instances.values().filter_map(with_volume) {
            let is_large = world.model.observed.volumes[&bot.deployment].bytes >= volume.bytes;
            prop_assert_eq!(is_large, grows(&world, bot));
        }
        for instance in world.spec.instances.values_mut() {
            let id = OperationId::from(instance.deployment.uuid());
            instance.operations.push(Operation { id, action: OperationAction::Restart });
        }
        world.settle();
        for (bot, volume) in world.spec.instances.values().filter_map(with_volume) {
            prop_assert!(world.model.observed.volumes[&bot.deployment].bytes >= volume.bytes);
        }
    }

    #[test]
    fn a_restart_happens_once_wherever_the_agent_dies(
        mut world in calm_world(), settled in any::<bool>(), deaths in proptest::collection::vec(0..12_usize, 0..4),
    ) {
        // Asked of a bot at rest, or of one that has no container, a wrong one, or several.
        if settled {
            world.settle();
        }
        for instance in world.spec.instances.values_mut() {
            let id = OperationId::from(instance.deployment.uuid());
            instance.operations.push(Operation { id, action: OperationAction::Restart });
        }
        world.starts.clear();
        deaths.into_iter().for_each(|death| world.die_after(death));
        world.settle();
        for instance in world.spec.instances.values() {
            prop_assert_eq!(world.starts.get(&instance.deployment), Some(&1), "starts of {}", instance.deployment);
            let mark = world.model.marks.operations.get(&instance.operations[0].id);
            prop_assert!(matches!(mark, Some(OperationMark::Ended(_))), "{mark:?}");
        }
    }

    #[test]
    fn a_volume_is_put_back_once_and_never_under_a_bot_that_has_run_since(
        mut world in calm_world(), settled in any::<bool>(), deaths in proptest::collection::vec(0..12_usize, 0..4),
    ) {
        if settled {
            world.settle();
        }
        for instance in world.spec.instances.values_mut() {
            let id = OperationId::from(instance.deployment.uuid());
            instance.operations = vec![Operation { id, action: OperationAction::Restore { name: "before".to_owned() } }];
        }
        let mut restored: BTreeMap<DeploymentId, bool> = BTreeMap::new();
        let mut carry_out = |world: &mut World, actions: usize| {
            for action in world.plan().work.values().flatten().take(actions) {
                if let Action::RestoreVolume { spec, .. } = action {
                    let deployment = spec.deployment;
                    let running = world.model.observed.containers.values()
                        .any(|found| found.deployment == deployment && found.running_since().is_some());
                    prop_assert!(!running, "{action} while it runs");
                    let started_since = restored.insert(deployment, false);
                    prop_assert_ne!(started_since, Some(true), "{} undoes what the bot has done since", action);
                }
                if let Action::StartContainer { deployment, .. } = action {
                    restored.entry(*deployment).and_modify(|started| *started = true);
                }
                world.apply(action);
            }
            world.records.clear();
            Ok(())
        };
        for death in deaths {
            carry_out(&mut world, death)?;
        }
        for _ in 0..TURNS_MAX {
            carry_out(&mut world, usize::MAX)?;
        }
        for instance in world.spec.instances.values() {
            prop_assert!(restored.contains_key(&instance.deployment), "{} was never put back", instance.deployment);
            let mark = world.model.marks.operations.get(&instance.operations[0].id);
            prop_assert!(matches!(mark, Some(OperationMark::Ended(_))), "{mark:?}");
        }
    }

    #[test]
    fn wherever_the_agent_dies_the_same_end_is_reached(
        mut world in world(), deaths in proptest::collection::vec(0..12_usize, 0..5),
    ) {
        deaths.into_iter().for_each(|death| world.die_after(death));
        let last = world.settle();
        let at_rest = |phase| matches!(phase, Phase::Ready | Phase::Stopped);
        prop_assert!(last.standings.values().all(|standing| at_rest(standing.phase)), "{last}");
    }
}
