//! Plans as people read them: one story a test, the plan printed beside it.
//!
//! What holds of every plan is in `plan_properties.rs`; here stands what particular ones look like, and what exits mean;
//! what becomes of volumes stands in `plan_stories/volume.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;
use launchpad_agent::observe::{Container, ContainerState, Exit, Observed};
use launchpad_agent::plan::action::{Action, StopCause};
use launchpad_agent::plan::instance::current_container;
use launchpad_agent::plan::marks::Marks;
use launchpad_agent::plan::model::Model;
use launchpad_agent::plan::record::{Record, Trouble};
use launchpad_agent::plan::{Context, Health, Knowledge, Plan, plan};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::{Epoch, Generation, Revision};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{
    HostSpec, InstanceSpec, Operation, OperationAction, Power, Tombstone, TombstoneScope,
};
use launchpad_protocol::time::{BootMoment, Moment};

#[path = "plan_stories/lease.rs"]
mod lease;
mod support;
#[path = "plan_stories/volume.rs"]
mod volume;

use support::{bot, id};

const SECOND_US: i64 = 1_000_000;

/// A host with one wish, its agent's memory, and a clock that a test moves by hand.
struct Story {
    spec: HostSpec,
    model: Model,
    record: Record,
    health: Health,
    now: i64,
    boot: &'static str,
    /// Where the boot clock is zero.
    booted_at: i64,
    /// When the host's leases were last renewed.
    renewed_at: Option<BootMoment>,
}

impl Story {
    fn of(bot: InstanceSpec) -> Self {
        let spec = support::spec(1, [bot]);
        let model = Model::of(Observed::default(), Marks::default());
        let (record, health, now) = (Record::default(), well(), 1_000 * SECOND_US);
        Self { spec, model, record, health, now, boot: "one", booted_at: 0, renewed_at: None }
    }

    /// A bot that runs and is ready.
    fn running(bot: InstanceSpec) -> Self {
        let mut story = Self::of(bot);
        story.carry_out();
        story.look();
        story
    }

    fn look(&mut self) -> Plan {
        self.now += SECOND_US;
        let context = Context {
            now: BootMoment::from_micros(u64::try_from(self.now - self.booted_at).expect("after boot")),
            wall: Moment::from_micros(self.now),
            boot_id: self.boot.to_owned(),
        };
        let marks = &self.model.marks;
        let mut health = BTreeMap::new();
        for bot in self.spec.instances.values() {
            let container = current_container(bot, &self.model.observed);
            let running = container.filter(|container| container.running_since().is_some());
            health.extend(running.map(|container| (container.id.clone(), self.health.clone())));
            let said = container.and_then(|container| health.get(&container.id));
            self.record.absorb(bot, container, said, marks, &context);
        }
        let records: BTreeMap<DeploymentId, Record> =
            self.spec.instances.keys().map(|deployment| (*deployment, self.record.clone())).collect();
        plan(
            &self.spec,
            &self.model.observed,
            Knowledge {
                marks,
                records: &records,
                health: &health,
                findings: &BTreeMap::new(),
                renewed_at: self.renewed_at,
            },
            &context,
        )
    }

    fn carry_out(&mut self) {
        for action in self.look().work.values().flatten() {
            self.now += SECOND_US;
            self.model.apply(action, Moment::from_micros(self.now));
        }
    }

    fn bot(&mut self) -> &mut InstanceSpec {
        self.spec.instances.values_mut().next().expect("one bot")
    }

    fn container(&mut self) -> &mut Container {
        self.model.observed.containers.values_mut().next().expect("one container")
    }

    /// The bot's process ends.
    fn exit(&mut self, code: i32, last_words: &str, out_of_memory: bool) {
        let at = Moment::from_micros(self.now);
        let container = self.container();
        let started_at = container.running_since().expect("it runs");
        let output_tail = last_words.to_owned();
        container.state = ContainerState::Exited(Exit { started_at, at, code, out_of_memory, output_tail });
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds * SECOND_US;
    }
}

fn well() -> Health {
    Health { started: true, ready: true, ..Health::default() }
}

#[test]
fn a_first_deployment_is_fetched_prepared_made_and_started() {
    assert_snapshot!(Story::of(bot()).look(), @r"
    dep_0000000000000000000000000000000d Pulling
    to do for dep_0000000000000000000000000000000d:
      pull_image registry.example/echo@sha256:092c79e8f80e559e404bcf660c48f3522b67aba9ff1484b0367e1a4ddef7431d
      ensure_network acct_0000000000000000000000000000000a
      shape_tenant acct_0000000000000000000000000000000a weight=50 pids=64 high=966367638
      prepare_volume dep_0000000000000000000000000000000d
      write_files dep_0000000000000000000000000000000d
      open_gate dep_0000000000000000000000000000000d
      create_container dep_0000000000000000000000000000000d
      start_container dep_0000000000000000000000000000000d
    ");
}

#[test]
fn a_ready_bot_needs_nothing() {
    assert_snapshot!(Story::running(bot()).look(), @r"dep_0000000000000000000000000000000d Ready");
}

#[test]
fn another_image_is_there_before_the_old_container_is_touched() {
    let mut story = Story::running(bot());
    let next = format!("registry.example/echo@{}", Digest::of(b"echo 2"));
    let bot = story.bot();
    (bot.revision, bot.image, bot.recreate_hash) =
        (Revision(2), next.parse().expect("a reference"), Digest::of(b"second"));
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Pulling
    to do for dep_0000000000000000000000000000000d:
      pull_image registry.example/echo@sha256:9f8f29bb80830f069e821de502ec94200481550c208751d49bc7465815fff4f5
      stop_container dep_0000000000000000000000000000000d-1 within 10s: its spec needs a new container
      remove_container dep_0000000000000000000000000000000d-1
      create_container dep_0000000000000000000000000000000d
      start_container dep_0000000000000000000000000000000d
    ");
}

#[test]
fn more_memory_is_given_in_place() {
    let mut story = Story::running(bot());
    story.bot().revision = Revision(2);
    story.bot().resources.memory_bytes = 2 << 30;
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    to do for dep_0000000000000000000000000000000d:
      shape_tenant acct_0000000000000000000000000000000a weight=50 pids=64 high=1932735276
      update_resources dep_0000000000000000000000000000000d-1 cpu=500m memory=2147483648 pids=64
    ");
}

#[test]
fn a_restart_is_noted_before_anything_is_stopped() {
    let mut story = Story::running(bot());
    story.bot().operations.push(Operation { id: id(0x0b), action: OperationAction::Restart });
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    to do for dep_0000000000000000000000000000000d:
      begin_operation op_0000000000000000000000000000000b
      stop_container dep_0000000000000000000000000000000d-1 within 10s: asked for by op_0000000000000000000000000000000b
      start_container dep_0000000000000000000000000000000d
      finish_operation op_0000000000000000000000000000000b
    ");
}

#[test]
fn a_bot_whose_rules_were_altered_gets_them_back_and_runs_on() {
    let mut story = Story::running(bot());
    let gate = story.model.observed.gates.get_mut(&id(0xd)).expect("its gate");
    gate.egress_fault = Some(Reason::new("rules-altered", "somebody changed its rules"));
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    to do for dep_0000000000000000000000000000000d:
      open_gate dep_0000000000000000000000000000000d
    ");
}

#[test]
fn a_bot_that_is_turned_off_is_stopped_and_keeps_its_container() {
    let mut story = Story::running(bot());
    story.bot().power = Power::Off;
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Stopping
    to do for dep_0000000000000000000000000000000d:
      stop_container dep_0000000000000000000000000000000d-1 within 10s: its spec turns it off
    ");
    story.carry_out();
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Stopped");
}

#[test]
fn crashes_in_a_row_wait_longer_each_time_and_are_counted() {
    let mut story = Story::running(bot());
    let mut waits = Vec::new();
    for _ in 0..8 {
        story.exit(3, "boom\n", false);
        let waiting = story.look();
        let wake_at = waiting.wake_at.expect("a time to try again").micros();
        waits.push(wake_at / 1_000_000 - u64::try_from(story.now).expect("after boot") / 1_000_000);
        story.pass(61);
        story.health = Health::default();
        story.carry_out();
        story.look();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    story.exit(3, "boom\n", false);
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Backoff: the bot exited with code 3 (9 crashes in a row) (its last words: boom); read its log: launchpad logs NAME --tail 50");
}

#[test]
fn crashes_are_forgiven_after_a_long_readiness() {
    let mut story = Story::running(bot());
    story.exit(3, "boom\n", false);
    story.look();
    story.pass(2);
    story.carry_out();
    story.look();
    assert_eq!(story.record.crashes, 1);
    story.pass(601);
    story.look();
    assert_eq!(story.record.crashes, 0);
}

#[test]
fn a_terminal_exit_is_not_tried_again_until_the_revision_changes() {
    let mut story = Story::running(bot());
    story.exit(78, "config: unknown key `prot`\n", false);
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Refused: the bot exited with code 78, which no restart mends (its last words: config: unknown key `prot`); correct its config or image, then deploy the change: that is a new revision, and is tried at once");
    story.pass(100_000);
    assert!(story.look().work.is_empty(), "time mends no config");
    story.spec.generation = Generation(9);
    assert!(story.look().work.is_empty(), "nor does a neighbour's change");
    story.bot().revision = Revision(2);
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Starting
    to do for dep_0000000000000000000000000000000d:
      start_container dep_0000000000000000000000000000000d
    ");
}

#[test]
fn an_exit_that_passes_by_itself_is_no_crash_while_it_is_believed() {
    let mut story = Story::running(bot());
    story.exit(1, "Another owner lease is still active\n", false);
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Backoff: the bot exited with code 1, which passes by itself (its last words: Another owner lease is still active); nothing to do: it is tried again every 10s and not counted as a crash");
    assert_eq!(story.record.crashes, 0);
    story.pass(11);
    story.health = Health::default();
    story.carry_out();
    story.pass(301);
    story.look();
    story.exit(1, "Another owner lease is still active\n", false);
    story.look();
    assert_eq!(story.record.crashes, 1, "after its time it is a crash like any other");
}

#[test]
fn the_same_code_with_other_last_words_is_a_crash() {
    let mut story = Story::running(bot());
    story.exit(1, "TypeError: undefined\n", false);
    story.look();
    assert_eq!(story.record.crashes, 1);
}

#[test]
fn a_bot_killed_for_its_memory_is_told_apart() {
    let mut story = Story::running(bot());
    story.exit(137, "", true);
    assert_snapshot!(story.look(), @"dep_0000000000000000000000000000000d Backoff: the kernel killed the bot because it needed more memory than its plan grants; choose a plan with more memory, or make the bot use less");
}

#[test]
fn a_bot_that_a_reboot_ended_is_started_at_once_and_has_not_crashed() {
    let mut story = Story::running(bot());
    story.exit(255, "", false);
    story.boot = "two";
    story.model.observed.files.clear();
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Starting
    to do for dep_0000000000000000000000000000000d:
      write_files dep_0000000000000000000000000000000d
      start_container dep_0000000000000000000000000000000d
    ");
    assert_eq!(story.record.crashes, 0);
}

#[test]
fn a_bot_that_a_reboot_ended_has_not_crashed_though_the_book_was_lost_as_well() {
    let mut story = Story::running(bot());
    story.exit(255, "", false);
    (story.boot, story.record) = ("two", Record::default());
    // Its start lies before the first second of this boot.
    story.booted_at = story.now;
    assert_eq!(story.look().standings[&bot().deployment].phase, Phase::Starting);
    assert_eq!(story.record.crashes, 0);
    let mut story = Story::running(bot());
    story.exit(255, "", false);
    story.record = Record::default();
    assert_eq!(story.look().standings[&bot().deployment].phase, Phase::Backoff, "in the same boot it has");
}

#[test]
fn a_bot_whose_probes_fail_is_stopped_and_its_exit_is_a_crash() {
    let mut story = Story::running(bot());
    story.health.verdict = Some(Reason::new("liveness-failed", "the bot failed its liveness probe 3 times in a row"));
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    to do for dep_0000000000000000000000000000000d:
      stop_container dep_0000000000000000000000000000000d-1 within 10s: the bot failed its liveness probe 3 times in a row
    ");
}

#[test]
fn what_probes_said_before_the_agent_restarted_holds_until_they_speak_again() {
    let mut story = Story::running(bot());
    story.health = Health::default();
    let spoken = story.look();
    assert!(spoken.work.is_empty(), "{spoken}");
}

#[test]
fn a_stop_made_on_the_host_outlives_a_neighbours_change_and_ends_with_a_new_revision() {
    let mut story = Story::running(bot());
    story.model.marks.local_stops.insert(id(0xd), Revision(1));
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Stopping: it was stopped on its host, although it should run (somebody with access to the host stopped it: `launchpad-agent stop`); `launchpad restart`, or `launchpad-agent start DEPLOYMENT` on its host
    to do for dep_0000000000000000000000000000000d:
      stop_container dep_0000000000000000000000000000000d-1 within 10s: stopped by hand on the host
    ");
    story.carry_out();
    story.spec.generation = Generation(5);
    assert!(story.look().work.is_empty());
    story.bot().revision = Revision(2);
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Starting
    to do for dep_0000000000000000000000000000000d:
      start_container dep_0000000000000000000000000000000d
    ");
}

#[test]
fn a_feature_that_the_agent_lacks_refuses_the_bot_by_name() {
    let mut story = Story::of(bot());
    story.bot().requires.insert(Feature("volume-quota.v1".to_owned()));
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Refused: this agent cannot do `volume-quota.v1`, which the instance requires (the agent is older than the coordinator); upgrade the agent on this host");
}

#[test]
fn an_older_lease_is_refused() {
    let mut story = Story::of(bot());
    story.model.marks.epochs.insert(id(0xd), Epoch(4));
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Refused: the lease 1 is older than 4, which this host has seen (the coordinator's store is older than the fleet); confirm the recovery: launchpad recover confirm");
}

#[test]
fn a_tombstone_takes_what_it_names_and_a_second_one_the_data() {
    let mut story = Story::running(bot());
    story.spec.instances.clear();
    let tombstone = |n, scope| Tombstone {
        id: id(n),
        deployment: id(0xd),
        account: id(0xa),
        scope,
        stop_grace: Duration::from_secs(10),
    };
    story.spec.tombstones.insert(id(0x70), tombstone(0x70, TombstoneScope::Container));
    assert_snapshot!(story.look(), @r"
    to do for tomb_00000000000000000000000000000070:
      stop_container dep_0000000000000000000000000000000d-1 within 10s: removed by tomb_00000000000000000000000000000070
      remove_container dep_0000000000000000000000000000000d-1
      close_gate dep_0000000000000000000000000000000d
      remove_files dep_0000000000000000000000000000000d
      remove_network acct_0000000000000000000000000000000a
      bury tomb_00000000000000000000000000000070
    ");
    story.carry_out();
    assert!(story.model.observed.volumes.contains_key(&id(0xd)), "the data stays");
    story.spec.tombstones.insert(id(0x71), tombstone(0x71, TombstoneScope::Data));
    assert_snapshot!(story.look(), @r"
    to do for tomb_00000000000000000000000000000071:
      close_gate dep_0000000000000000000000000000000d
      remove_files dep_0000000000000000000000000000000d
      remove_volume dep_0000000000000000000000000000000d
      remove_network acct_0000000000000000000000000000000a
      bury tomb_00000000000000000000000000000071
    ");
}

#[test]
fn what_a_spec_leaves_out_is_told_and_left_running() {
    let mut story = Story::running(bot());
    story.spec.instances.clear();
    assert_snapshot!(story.look(), @r"orphan dep_0000000000000000000000000000000d-1: left running, because no spec and no tombstone names it");
}

#[test]
fn a_tombstone_for_what_is_wished_is_refused() {
    let mut story = Story::running(bot());
    let tombstone = Tombstone {
        id: id(0x70),
        deployment: id(0xd),
        account: id(0xa),
        scope: TombstoneScope::Data,
        stop_grace: Duration::from_secs(10),
    };
    story.spec.tombstones.insert(tombstone.id, tombstone);
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    trouble: tomb_00000000000000000000000000000070 would remove dep_0000000000000000000000000000000d, which the same spec wants to run; report this: a coordinator never writes both
    ");
}

#[test]
fn of_two_bots_of_a_tenant_that_go_together_each_takes_the_network_along() {
    let mut story = Story::running(bot());
    let other = InstanceSpec { deployment: id(0xe), ..bot() };
    story.spec.instances.insert(other.deployment, other);
    story.carry_out();
    story.spec.instances.clear();
    let scope = TombstoneScope::Data;
    for (n, deployment) in [(0x70, id(0xd)), (0x71, id(0xe))] {
        let stop_grace = Duration::from_secs(10);
        story.spec.tombstones.insert(id(n), Tombstone { id: id(n), deployment, account: id(0xa), scope, stop_grace });
    }
    let plan = story.look();
    let takes_network = |actions: &&Vec<Action>| actions.iter().any(|action| action.kind() == "remove_network");
    assert_eq!(plan.work.values().filter(takes_network).count(), 2, "{plan}");
}

#[test]
fn what_cannot_be_done_to_a_running_bot_is_told_and_not_tried_again_and_again() {
    let mut story = Story::running(bot());
    story.bot().revision = Revision(2);
    story.bot().resources.pids = 1;
    story.look();
    story.record.refusal = Some(Reason::new("limits-refused", "the engine refuses these limits"));
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Ready: the engine refuses these limits");
    story.bot().revision = Revision(3);
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    to do for dep_0000000000000000000000000000000d:
      shape_tenant acct_0000000000000000000000000000000a weight=50 pids=1 high=966367638
      update_resources dep_0000000000000000000000000000000d-1 cpu=500m memory=1073741824 pids=1
    ");
}

#[test]
fn a_restart_of_a_bot_that_has_no_container_is_noted_before_one_is_made() {
    let mut story = Story::of(bot());
    story.bot().operations.push(Operation { id: id(0x0b), action: OperationAction::Restart });
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Pulling
    to do for dep_0000000000000000000000000000000d:
      pull_image registry.example/echo@sha256:092c79e8f80e559e404bcf660c48f3522b67aba9ff1484b0367e1a4ddef7431d
      ensure_network acct_0000000000000000000000000000000a
      shape_tenant acct_0000000000000000000000000000000a weight=50 pids=64 high=966367638
      prepare_volume dep_0000000000000000000000000000000d
      write_files dep_0000000000000000000000000000000d
      open_gate dep_0000000000000000000000000000000d
      begin_operation op_0000000000000000000000000000000b
      create_container dep_0000000000000000000000000000000d
      start_container dep_0000000000000000000000000000000d
      finish_operation op_0000000000000000000000000000000b
    ");
}

#[test]
fn a_refused_bot_can_still_be_turned_off() {
    let mut story = Story::running(bot());
    story.bot().requires.insert(Feature("volume-quota.v1".to_owned()));
    assert!(story.look().work.is_empty(), "it is refused, and runs on");
    story.bot().power = Power::Off;
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Stopping
    to do for dep_0000000000000000000000000000000d:
      stop_container dep_0000000000000000000000000000000d-1 within 10s: its spec turns it off
    ");
}

#[test]
fn a_step_that_failed_on_a_dying_bot_does_not_hide_why_it_died() {
    let mut story = Story::running(bot());
    let now = BootMoment::from_micros(u64::try_from(story.now).expect("after boot"));
    story.record.trouble = Some(Trouble::new(Reason::new("engine-refused", "it does not run"), 1, now));
    story.exit(137, "", true);
    let plan = story.look();
    let standing = plan.standings.values().next().expect("one bot");
    let told = standing.reason.as_ref().expect("why").sentence.clone();
    assert!(standing.phase == Phase::Backoff && told.contains("memory"), "{standing:?}");
}

#[test]
fn the_stop_of_another_container_excuses_no_crash() {
    let mut story = Story::running(bot());
    let now = BootMoment::from_micros(u64::try_from(story.now).expect("after boot"));
    story.record.expect_stop("some other container", &StopCause::Replaced, now);
    story.exit(3, "boom\n", false);
    story.look();
    assert_eq!(story.record.crashes, 1);
}
