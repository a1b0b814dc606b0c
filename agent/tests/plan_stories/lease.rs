//! Stories of a bot that may run elsewhere, and of its lease.

use std::time::Duration;

use insta::assert_snapshot;
use launchpad_agent::plan::Plan;
use launchpad_agent::plan::action::StopCause;
use launchpad_agent::plan::record::Trouble;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{LEASE_ENDED, Phase};
use launchpad_protocol::spec::{InstanceSpec, Lease, Power};
use launchpad_protocol::time::BootMoment;

use super::Story;
use super::support::{bot, id};

const TERM_S: i64 = 60;

fn failover() -> InstanceSpec {
    let term = Duration::from_secs(TERM_S.unsigned_abs());
    InstanceSpec { lease: Lease::Failover { term }, volume: None, ..bot() }
}

/// One whose lease was renewed now, and that runs.
fn leased() -> Story {
    let mut story = Story::of(failover());
    renew(&mut story);
    story.carry_out();
    story.look();
    renew(&mut story);
    story
}

fn renew(story: &mut Story) {
    story.renewed_at = Some(BootMoment::from_micros(story.now.unsigned_abs()));
}

fn phase(plan: &Plan) -> (Phase, Option<&str>) {
    let standing = plan.standings.values().next().expect("one bot");
    (standing.phase, standing.reason.as_ref().map(|reason| reason.code.as_str()))
}

#[test]
fn without_a_lease_nothing_is_started_and_with_one_it_is_without_a_volume() {
    let mut story = Story::of(failover());
    let waits = story.look();
    assert_eq!((phase(&waits), waits.work.len()), ((Phase::Backoff, Some(LEASE_ENDED)), 0));
    renew(&mut story);
    let kinds: Vec<_> = story.look().work.values().flatten().map(|action| action.kind()).collect();
    assert!(kinds.contains(&"start_container") && !kinds.contains(&"prepare_volume"), "{kinds:?}");
}

#[test]
fn a_bot_is_stopped_when_its_lease_ends_and_started_when_it_has_another() {
    let mut story = leased();
    let plan = story.look();
    let end = BootMoment::from_micros(0) + Duration::from_micros(story.renewed_at.expect("renewed").micros());
    assert_eq!((phase(&plan), plan.wake_at), ((Phase::Ready, None), Some(end + Duration::from_secs(60))));
    // Each look is a second later.
    story.pass(TERM_S - 3);
    assert!(story.look().work.is_empty(), "not a moment too early");
    assert_snapshot!(story.look(), @r"
    dep_0000000000000000000000000000000d Stopping: its lease has ended: the coordinator does not confirm that this host is heard (it may be started on another host then, and must not run twice); nothing to do: it starts here or there as soon as the coordinator answers
    to do for dep_0000000000000000000000000000000d:
      stop_container dep_0000000000000000000000000000000d-1 within 10s: its lease has ended
    ");
    let (container, now) = (story.container().id.clone(), BootMoment::from_micros(story.now.unsigned_abs()));
    story.record.expect_stop(&container, &StopCause::LeaseEnded, now);
    story.carry_out();
    assert_eq!(phase(&story.look()), (Phase::Backoff, Some(LEASE_ENDED)));
    renew(&mut story);
    story.carry_out();
    assert_eq!((phase(&story.look()).0, story.record.crashes), (Phase::Ready, 0), "it has not crashed");
}

#[test]
fn neither_a_step_that_fails_nor_a_refusal_keeps_a_lease_from_ending() {
    let mut story = leased();
    story.pass(TERM_S);
    let now = BootMoment::from_micros(story.now.unsigned_abs());
    // Failed often, and so tried again in a minute: not this.
    story.record.trouble = Some(Trouble::new(Reason::new("engine-error", "no"), 6, now));
    let stops = |plan: &Plan| plan.work.values().flatten().filter(|action| action.kind() == "stop_container").count();
    story.pass(-1);
    assert_eq!(stops(&story.look()), 0, "a pause of a second");
    story.pass(1);
    assert_eq!(stops(&story.look()), 1);
    story.record.trouble = None;
    story.record.refusal = Some(Reason::new("refused", "no"));
    assert_eq!(stops(&story.look()), 1);
    assert_eq!(id::<launchpad_protocol::id::DeploymentId>(13), story.bot().deployment);
}

#[test]
fn one_that_is_off_needs_no_lease_and_one_that_is_kept_has_no_end() {
    let mut story = leased();
    story.bot().power = Power::Off;
    story.carry_out();
    story.pass(TERM_S);
    assert_eq!(phase(&story.look()), (Phase::Stopped, None));
    let mut kept = Story::running(bot());
    kept.pass(1_000 * TERM_S);
    assert_eq!((phase(&kept.look()).0, kept.renewed_at), (Phase::Ready, None));
}
