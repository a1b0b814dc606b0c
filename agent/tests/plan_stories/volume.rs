//! What happens to a volume: copied, put back, grown in use or between a stop and a start.

use insta::assert_snapshot;
use launchpad_agent::plan::Plan;
use launchpad_agent::plan::action::Action;
use launchpad_agent::plan::record::Trouble;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::Revision;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{Operation, OperationAction};
use launchpad_protocol::time::{BootMoment, Moment};

use crate::support::{bot, id};
use crate::{SECOND_US, Story};

#[test]
fn a_snapshot_is_taken_between_a_stop_and_a_start() {
    let mut story = Story::running(bot());
    let action = OperationAction::Snapshot { name: "before-8".to_owned() };
    story.bot().operations.push(Operation { id: id(0x0b), action });
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    to do for dep_0000000000000000000000000000000d:
      begin_operation op_0000000000000000000000000000000b
      stop_container dep_0000000000000000000000000000000d-1 within 10s: asked for by op_0000000000000000000000000000000b
      snapshot_volume dep_0000000000000000000000000000000d `before-8`
      start_container dep_0000000000000000000000000000000d
      finish_operation op_0000000000000000000000000000000b
    ");
    story.carry_out();
    assert!(story.model.observed.volumes[&id(0xd)].snapshots.contains_key("before-8"));
}

#[test]
fn a_bot_found_stopped_for_its_restore_is_not_started_before_it() {
    let mut story = Story::running(bot());
    let action = OperationAction::Restore { name: "before-8".to_owned() };
    story.bot().operations.push(Operation { id: id(0x0b), action });
    let planned: Vec<Action> = story.look().work.into_values().flatten().collect();
    for action in &planned[..2] {
        story.now += SECOND_US;
        story.model.apply(action, Moment::from_micros(story.now));
    }
    // The agent died here.
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Starting
    to do for dep_0000000000000000000000000000000d:
      restore_volume dep_0000000000000000000000000000000d `before-8`
      start_container dep_0000000000000000000000000000000d
      finish_operation op_0000000000000000000000000000000b
    ");
}

#[test]
fn a_volume_that_its_plan_outgrew_is_grown_under_the_running_bot() {
    let mut story = Story::running(bot());
    story.bot().volume.as_mut().expect("it has one").bytes *= 2;
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready
    to do for dep_0000000000000000000000000000000d:
      prepare_volume dep_0000000000000000000000000000000d
    ");
}

/// A bot on a larger plan, on a host that grows no volume in use.
fn outgrown() -> Story {
    let mut story = Story::running(bot());
    let volume = story.model.observed.volumes.get_mut(&id(0xd)).expect("its volume");
    volume.grows_in_use = false;
    story.bot().revision = Revision(2);
    story.bot().volume.as_mut().expect("it has one").bytes *= 2;
    story.bot().resources.cpu_millis *= 2;
    story
}

#[test]
fn a_volume_that_grows_only_at_rest_is_told_and_keeps_nothing_else_of_a_larger_plan_waiting() {
    let mut story = outgrown();
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready: the volume can grow only while its bot is stopped; restart the bot, and it is grown before it starts: launchpad restart NAME; an agent with CAP_SYS_RESOURCE grows it under the running bot
    to do for dep_0000000000000000000000000000000d:
      shape_tenant acct_0000000000000000000000000000000a weight=100 pids=64 high=966367638
      update_resources dep_0000000000000000000000000000000d-1 cpu=1000m memory=1073741824 pids=64
    ");
    story.carry_out();
    let at_rest = story.look();
    assert!(at_rest.work.is_empty() && at_rest.is_settled(), "{at_rest}");
}

#[test]
fn a_restart_grows_the_volume_that_waits_for_it_before_the_bot_starts() {
    let mut story = outgrown();
    story.carry_out();
    story.bot().operations.push(Operation { id: id(0x0b), action: OperationAction::Restart });
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Ready: the volume can grow only while its bot is stopped; restart the bot, and it is grown before it starts: launchpad restart NAME; an agent with CAP_SYS_RESOURCE grows it under the running bot
    to do for dep_0000000000000000000000000000000d:
      begin_operation op_0000000000000000000000000000000b
      stop_container dep_0000000000000000000000000000000d-1 within 10s: asked for by op_0000000000000000000000000000000b
      prepare_volume dep_0000000000000000000000000000000d
      start_container dep_0000000000000000000000000000000d
      finish_operation op_0000000000000000000000000000000b
    ");
    story.carry_out();
    let wanted = story.bot().volume.as_ref().expect("it has one").bytes;
    assert_eq!(story.model.observed.volumes[&id(0xd)].bytes, wanted);
    assert_snapshot!(story.look(), @r"dep_0000000000000000000000000000000d Ready");
}

#[test]
fn who_has_chosen_a_larger_plan_is_told_to_restart_and_not_to_choose_one() {
    let mut story = outgrown();
    story.carry_out();
    let kernel = story.container().kernel.as_mut().expect("it runs");
    kernel.group.oom_kills = 3;
    let reason = story.look().standings.remove(&id(0xd)).and_then(|standing| standing.reason).expect("a reason");
    assert_eq!(reason.code, "volume-grows-stopped");
}

#[test]
fn a_new_container_waits_for_no_growth_that_only_the_end_of_the_old_one_allows() {
    let mut story = outgrown();
    story.bot().recreate_hash = Digest::of(b"second");
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Preparing
    to do for dep_0000000000000000000000000000000d:
      shape_tenant acct_0000000000000000000000000000000a weight=100 pids=64 high=966367638
      stop_container dep_0000000000000000000000000000000d-1 within 10s: its spec needs a new container
      remove_container dep_0000000000000000000000000000000d-1
      prepare_volume dep_0000000000000000000000000000000d
      create_container dep_0000000000000000000000000000000d
      start_container dep_0000000000000000000000000000000d
    ");
}

#[test]
fn a_bot_that_crashed_starts_in_the_volume_of_its_plan() {
    let mut story = outgrown();
    story.carry_out();
    story.exit(3, "boom\n", false);
    story.look();
    story.pass(2);
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Starting: the bot exited with code 3 (its last words: boom); read its log: launchpad logs NAME --tail 50
    to do for dep_0000000000000000000000000000000d:
      prepare_volume dep_0000000000000000000000000000000d
      start_container dep_0000000000000000000000000000000d
    ");
}

#[test]
fn a_disk_without_room_for_a_larger_volume_keeps_no_bot_from_running_in_the_one_that_it_has() {
    let mut story = outgrown();
    story.carry_out();
    story.exit(3, "boom\n", false);
    story.look();
    story.pass(2);
    let reason = Reason::new("disk-full", "the disk has no room for it");
    story.record.trouble = Some(Trouble { reason, tries: 0, retry_at: BootMoment::from_micros(0) });
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Starting: the bot exited with code 3 (its last words: boom); read its log: launchpad logs NAME --tail 50
    to do for dep_0000000000000000000000000000000d:
      start_container dep_0000000000000000000000000000000d
    ");
}

#[test]
fn a_volume_grows_in_use_after_all_else_and_with_a_restart_between_stop_and_start() {
    let mut story = outgrown();
    let volume = story.model.observed.volumes.get_mut(&id(0xd)).expect("its volume");
    volume.grows_in_use = true;
    let kinds = |plan: Plan| plan.work.values().flatten().map(Action::kind).collect::<Vec<_>>();
    assert_eq!(kinds(story.look()), ["shape_tenant", "update_resources", "prepare_volume"]);
    story.bot().operations.push(Operation { id: id(0x0b), action: OperationAction::Restart });
    let with_restart = kinds(story.look());
    let stands_still = ["stop_container", "prepare_volume", "start_container", "finish_operation"];
    assert!(with_restart.ends_with(&stands_still), "{with_restart:?}");
    assert_eq!(with_restart.iter().filter(|kind| **kind == "prepare_volume").count(), 1);
}

#[test]
fn flags_that_somebody_changed_are_put_right_though_the_volume_cannot_grow_yet() {
    let mut story = outgrown();
    story.carry_out();
    let volume = story.model.observed.volumes.get_mut(&id(0xd)).expect("its volume");
    volume.flags_right = false;
    let bytes = volume.bytes;
    let planned: Vec<Action> = story.look().work.into_values().flatten().collect();
    assert!(
        matches!(&planned[..], [Action::PrepareVolume { spec }] if spec.volume.as_ref().is_some_and(|volume| volume.bytes == bytes)),
        "{planned:?}"
    );
}
