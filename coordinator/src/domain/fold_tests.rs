//! From reports to states.

use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::JournalId;
use launchpad_protocol::report::{Capacity, EventBatch, MEMORY_KILLS, MEMORY_PRESSURE, VOLUME_FULL};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const NOW: Moment = Moment::from_micros(1_000);

fn dep(number: u128) -> DeploymentId {
    DeploymentId::from(Uuid::from_u128(number))
}

fn instance(phase: Phase) -> InstanceReport {
    InstanceReport {
        phase,
        reason: None,
        revision: Revision(2),
        epoch: Epoch(2),
        container: None,
        restarts: 0,
        ready_at: None,
        enforcement: BTreeMap::new(),
        volume: None,
        oom_kills: 0,
    }
}

/// It answers, and its host says this beside it.
fn ready(code: &str, cause: &str) -> InstanceReport {
    InstanceReport { reason: Some(Reason::new(code, "a sentence").because(cause)), ..instance(Phase::Ready) }
}

fn codes(folded: &Folded) -> Vec<Option<&str>> {
    folded.steps.iter().map(|step| step.transition.reason.as_ref().map(|reason| reason.code.as_str())).collect()
}

fn event(seq: u64, phase: Phase) -> launchpad_protocol::report::Event {
    let at = Moment::from_micros(i64::try_from(seq).expect("small"));
    launchpad_protocol::report::Event { seq, at, deployment: dep(1), phase, reason: None }
}

fn report(now: InstanceReport, events: &[Phase]) -> HostReport {
    HostReport {
        boot_id: String::new(),
        agent_version: String::new(),
        wall: NOW,
        accepted: None,
        applied: Generation::default(),
        capacity: Capacity::default(),
        capabilities: BTreeMap::new(),
        instances: BTreeMap::from([(dep(1), now)]),
        orphans: Vec::new(),
        buried: BTreeSet::new(),
        outcomes: BTreeMap::new(),
        troubles: Vec::new(),
        denials: BTreeMap::new(),
        gate: None,
        events: EventBatch {
            journal: JournalId::from(Uuid::from_u128(1)),
            dropped: 0,
            events: (1..).zip(events).map(|(seq, phase)| event(seq, *phase)).collect(),
        },
    }
}

fn view(state: State) -> View {
    let standing = Standing { state, reason: None, revision: Revision(2), epoch: Epoch(2) };
    View { standings: BTreeMap::from([(dep(1), standing)]), ..View::default() }
}

fn states(folded: &Folded) -> Vec<State> {
    folded.steps.iter().map(|step| step.transition.to).collect()
}

#[test]
fn a_first_start_is_told_step_by_step_with_the_hosts_moments() {
    let phases = [Phase::Pulling, Phase::Preparing, Phase::Starting, Phase::Ready];
    let folded = fold(&report(instance(Phase::Ready), &phases), view(State::Provisioning), NOW);
    assert_eq!(states(&folded), [State::Configuring, State::Starting, State::Running]);
    let moments: Vec<_> = folded.steps.iter().map(|step| step.at.micros()).collect();
    assert_eq!(moments, [2, 3, 4]);
    assert_eq!(folded.folded, 4);
}

#[test]
fn events_that_never_came_are_counted_once() {
    let mut gap = report(instance(Phase::Ready), &[Phase::Starting, Phase::Ready]);
    (gap.events.events[0].seq, gap.events.events[1].seq) = (8, 9);
    let mut view = view(State::Provisioning);
    view.folded = 3;
    let folded = fold(&gap, view.clone(), NOW);
    assert_eq!((folded.lost, folded.folded), (4, 9));
    view.folded = folded.folded;
    assert_eq!(fold(&gap, view, NOW).lost, 0);
}

#[test]
fn a_report_that_comes_twice_is_folded_once() {
    let same = report(instance(Phase::Ready), &[Phase::Starting, Phase::Ready]);
    let first = fold(&same, view(State::Provisioning), NOW);
    let mut after = view(State::Running);
    after.folded = first.folded;
    assert_eq!(fold(&same, after, NOW), Folded { folded: 2, ..Folded::default() });
}

#[test]
fn the_present_truth_counts_even_if_every_event_was_lost() {
    let folded = fold(&report(instance(Phase::Ready), &[]), view(State::Provisioning), NOW);
    assert_eq!(states(&folded), [State::Running]);
}

#[test]
fn a_clock_that_is_ahead_does_not_write_the_future() {
    let mut ahead = report(instance(Phase::Ready), &[Phase::Ready]);
    ahead.events.events[0].at = Moment::from_micros(9_999);
    assert_eq!(fold(&ahead, view(State::Starting), NOW).steps[0].at, NOW);
}

#[test]
fn a_report_about_an_older_revision_or_a_lower_epoch_says_nothing() {
    for old in [
        InstanceReport { revision: Revision(1), ..instance(Phase::Ready) },
        InstanceReport { epoch: Epoch(1), ..instance(Phase::Ready) },
    ] {
        let folded = fold(&report(old, &[Phase::Ready]), view(State::Updating), NOW);
        assert_eq!((states(&folded), folded.folded), (vec![], 1));
    }
}

#[test]
fn what_is_not_placed_on_the_host_is_foreign_and_changes_nothing() {
    let folded = fold(&report(instance(Phase::Ready), &[Phase::Ready]), View::default(), NOW);
    assert_eq!((states(&folded), folded.foreign), (vec![], BTreeSet::from([dep(1)])));
}

#[test]
fn a_crash_loop_fails_and_a_start_after_it_restarts() {
    let phases = [Phase::Backoff, Phase::Starting, Phase::Ready];
    let folded = fold(&report(instance(Phase::Ready), &phases), view(State::Running), NOW);
    assert_eq!(states(&folded), [State::Failed, State::Restarting, State::Running]);
    let reason = folded.steps[0].transition.reason.as_ref().expect("a failure has a reason");
    assert_eq!(reason.code, "crash-loop");
}

#[test]
fn an_exit_that_passes_by_itself_is_no_failure() {
    let mut passing = instance(Phase::Backoff);
    passing.reason = Some(Reason::new(EXIT_TRANSIENT, "the owner lease is still active"));
    let folded = fold(&report(passing, &[]), view(State::Running), NOW);
    assert_eq!(states(&folded), [State::Restarting]);
}

#[test]
fn an_unready_bot_still_runs_and_says_why() {
    let folded = fold(&report(instance(Phase::Unready), &[]), view(State::Running), NOW);
    assert_eq!(states(&folded), [State::Running]);
    assert_eq!(folded.steps[0].transition.reason.as_ref().map(|reason| reason.code.as_str()), Some("not-ready"));
}

#[test]
fn what_strains_a_ready_bot_is_told_when_it_begins_when_it_changes_and_when_it_ends() {
    let mut at = view(State::Running);
    let mut told = Vec::new();
    for now in [
        ready(VOLUME_FULL, "95 %"),
        ready(VOLUME_FULL, "96 %"),
        ready(MEMORY_PRESSURE, "12 %"),
        instance(Phase::Ready),
        instance(Phase::Ready),
    ] {
        let folded = fold(&report(now, &[]), at.clone(), NOW);
        for step in folded.steps {
            assert_eq!(step.transition.to, State::Running);
            told.push((step.transition.cause, step.transition.reason.as_ref().map(|reason| reason.code.clone())));
            at.standings.get_mut(&dep(1)).expect("placed").reason = step.transition.reason;
        }
    }
    let strained = "the bot is ready, under strain";
    assert_eq!(
        told,
        [
            (strained, Some(VOLUME_FULL.to_owned())),
            (strained, Some(MEMORY_PRESSURE.to_owned())),
            ("the bot is ready", None),
        ]
    );
}

#[test]
fn a_strain_that_came_and_went_between_two_reports_is_in_the_timeline_with_the_hosts_moments() {
    let mut both = report(instance(Phase::Ready), &[Phase::Ready, Phase::Ready]);
    both.events.events[0].reason = Some(Reason::new(VOLUME_FULL, "a sentence"));
    let folded = fold(&both, view(State::Running), NOW);
    assert_eq!(codes(&folded), [Some(VOLUME_FULL), None]);
    let moments: Vec<_> = folded.steps.iter().map(|step| step.at.micros()).collect();
    assert_eq!(moments, [1, 2]);
}

#[test]
fn a_bot_that_comes_up_under_strain_runs() {
    let folded = fold(&report(ready(MEMORY_KILLS, "1"), &[]), view(State::Starting), NOW);
    assert_eq!((states(&folded), codes(&folded)), (vec![State::Running], vec![Some(MEMORY_KILLS)]));
}

#[test]
fn what_a_host_tries_beside_a_ready_bot_neither_begins_a_strain_nor_ends_one() {
    let trying = report(ready("gate-away", "nobody listens"), &[]);
    assert_eq!(codes(&fold(&trying, view(State::Running), NOW)), []);
    let mut strained = view(State::Running);
    strained.standings.get_mut(&dep(1)).expect("placed").reason = ready(VOLUME_FULL, "95 %").reason;
    assert_eq!(codes(&fold(&trying, strained, NOW)), []);
    assert_eq!(states(&fold(&trying, view(State::Updating), NOW)), [State::Running]);
}

#[test]
fn a_bot_that_was_ready_before_its_restart_is_not_taken_for_restarted() {
    let operation = OperationId::from(Uuid::from_u128(5));
    let mut awaiting = view(State::Restarting);
    awaiting.operations.insert(operation, dep(1));
    let before = report(instance(Phase::Ready), &[]);
    assert_eq!(states(&fold(&before, awaiting.clone(), NOW)), []);
    assert_eq!(states(&fold(&report(ready(VOLUME_FULL, "95 %"), &[]), awaiting.clone(), NOW)), []);
    let mut after = before;
    after.outcomes.insert(operation, Outcome::Done { at: NOW });
    let folded = fold(&after, awaiting, NOW);
    assert_eq!(states(&folded), [State::Running]);
    assert!(folded.answered.contains_key(&operation));
}

#[test]
fn a_refused_restart_is_told_and_leaves_the_bot_what_it_is() {
    let operation = OperationId::from(Uuid::from_u128(5));
    let mut awaiting = view(State::Restarting);
    awaiting.operations.insert(operation, dep(1));
    let mut refused = report(instance(Phase::Stopped), &[]);
    let reason = Reason::new("instance-off", "somebody stopped it on the host");
    refused.outcomes.insert(operation, Outcome::Refused { reason: reason.clone() });
    let folded = fold(&refused, awaiting, NOW);
    assert_eq!(states(&folded), [State::Restarting, State::Failed]);
    assert_eq!(folded.steps[0].transition.reason, Some(reason));
}

#[test]
fn an_answer_to_nothing_that_was_asked_is_dropped() {
    let mut odd = report(instance(Phase::Ready), &[]);
    odd.outcomes.insert(OperationId::from(Uuid::from_u128(5)), Outcome::Done { at: NOW });
    odd.buried.insert(TombstoneId::from(Uuid::from_u128(5)));
    let folded = fold(&odd, view(State::Running), NOW);
    assert!(folded.answered.is_empty() && folded.buried.is_empty());
}

#[test]
fn a_carried_out_tombstone_ends_what_it_names() {
    let (container, data) = (TombstoneId::from(Uuid::from_u128(5)), TombstoneId::from(Uuid::from_u128(6)));
    let mut leaving = view(State::Terminating);
    leaving.tombstones.insert(container, (dep(1), TombstoneScope::Container));
    leaving.tombstones.insert(data, (dep(1), TombstoneScope::Data));
    let mut gone = report(instance(Phase::Absent), &[]);
    gone.buried.insert(container);
    let folded = fold(&gone, leaving.clone(), NOW);
    assert_eq!(states(&folded), [State::Terminating]);
    assert_eq!(folded.steps[0].transition.reason.as_ref().map(|reason| reason.code.as_str()), Some("data-kept"));
    gone.buried.insert(data);
    assert_eq!(states(&fold(&gone, leaving, NOW)), [State::Terminating, State::Terminated]);
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(vec![
        Phase::Absent,
        Phase::Pulling,
        Phase::Preparing,
        Phase::Starting,
        Phase::Ready,
        Phase::Unready,
        Phase::Backoff,
        Phase::Stopping,
        Phase::Stopped,
        Phase::Refused,
    ])
}

proptest! {
    #[test]
    fn folding_is_idempotent_and_ends_where_the_host_is(
        events in prop::collection::vec(phase(), 0..12),
        now in phase(),
        beside in prop::sample::select(vec![None, Some(VOLUME_FULL), Some(MEMORY_KILLS), Some("gate-away")]),
        from in prop::sample::select(State::ALL.to_vec()),
    ) {
        let reason = beside.map(|code| Reason::new(code, "a sentence"));
        let report = report(InstanceReport { reason, ..instance(now) }, &events);
        let first = fold(&report, view(from), NOW);
        let mut after = view(first.steps.last().map_or(from, |step| step.transition.to));
        after.folded = first.folded;
        if let (Some(standing), Some(last)) = (after.standings.get_mut(&dep(1)), first.steps.last()) {
            standing.reason.clone_from(&last.transition.reason);
        }
        let ended = after.standings[&dep(1)].state;
        let again = fold(&report, after, NOW);
        prop_assert_eq!(again.steps, vec![]);
        let alive = !matches!(from, State::Requested | State::Suspended | State::Terminating | State::Terminated);
        if alive && now == Phase::Ready {
            prop_assert_eq!(ended, State::Running);
        }
        if alive && now == Phase::Refused {
            prop_assert_eq!(ended, State::Failed);
        }
        if matches!(from, State::Terminating | State::Terminated) {
            prop_assert_eq!(ended, from);
        }
    }
}
