//! The session's promises, both halves talking to each other over a list of frames.

use std::collections::BTreeMap;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::{AgentFrame, Ask, CoordinatorFrame, Hello, Leases, Question};
use launchpad_protocol::generation::{Accepted, Fence, Generation};
use launchpad_protocol::id::{AskId, DeploymentId, HostId, IncarnationId, JournalId, TypedId};
use launchpad_protocol::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use launchpad_protocol::report::{Capacity, Event, EventBatch, HostReport, Phase};
use launchpad_protocol::session::{
    Admission, AgentEffect, AgentInput, AgentSession, CoordinatorEffect, CoordinatorInput, CoordinatorSession,
    REPORT_RETRY, Renewal, VERSIONS_APART,
};
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::time::{BootMoment, Moment};
use uuid::Uuid;

fn id<I: TypedId>(n: u128) -> I {
    Uuid::from_u128(n).into()
}

fn offer(generation: u64) -> SpecOffer {
    let bytes = vec![u8::try_from(generation).expect("small")];
    SpecOffer { generation: Generation(generation), digest: Digest::of(&bytes), bytes }
}

fn hello(accepted: Option<Accepted>) -> Hello {
    Hello {
        protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
        features: Feature::all(),
        agent_version: "0.1.0".to_owned(),
        boot_id: "boot".to_owned(),
        incarnation: accepted.map(|_| id::<IncarnationId>(1)),
        accepted,
        wall: Moment::from_micros(1),
    }
}

fn report(accepted: Option<Accepted>, through: u64) -> Box<HostReport> {
    let event = |seq| Event {
        seq,
        at: Moment::from_micros(1),
        deployment: id::<DeploymentId>(5),
        phase: Phase::Ready,
        reason: None,
    };
    Box::new(HostReport {
        boot_id: "boot".to_owned(),
        agent_version: "0.1.0".to_owned(),
        wall: Moment::from_micros(1),
        accepted,
        applied: Generation(0),
        capacity: Capacity::default(),
        capabilities: Default::default(),
        instances: Default::default(),
        orphans: Vec::new(),
        buried: Default::default(),
        outcomes: Default::default(),
        troubles: Vec::new(),
        events: EventBatch { journal: id::<JournalId>(6), dropped: 0, events: (1..=through).map(event).collect() },
        denials: BTreeMap::new(),
        gate: None,
    })
}

fn admission(latest: Option<&SpecOffer>) -> CoordinatorInput {
    CoordinatorInput::Admitted(Box::new(Admission {
        incarnation: id(1),
        fence: Fence(3),
        wall: Moment::from_micros(2),
        latest: latest.map(SpecOffer::accepted),
        published: latest.cloned(),
    }))
}

/// A coordinator's session that has admitted a host which holds `held`, and what admitting brought about.
fn admitted(held: Option<Accepted>, latest: Option<&SpecOffer>) -> (CoordinatorSession, Vec<CoordinatorEffect>) {
    let mut session = CoordinatorSession::default();
    let greeted = session.handle(from_agent(AgentFrame::Hello(hello(held))));
    assert!(matches!(greeted.as_slice(), [CoordinatorEffect::Admit(_)]), "{greeted:?}");
    let effects = session.handle(admission(latest));
    (session, effects)
}

fn from_agent(frame: AgentFrame) -> CoordinatorInput {
    CoordinatorInput::Frame(Box::new(frame))
}

fn from_coordinator(frame: CoordinatorFrame) -> AgentInput {
    AgentInput::Frame(Box::new(frame))
}

/// An agent's session that has been welcomed.
fn live_agent() -> AgentSession {
    let mut session = AgentSession::default();
    session.handle(AgentInput::Connected(Box::new(hello(None))));
    let (_, effects) = admitted(None, None);
    let CoordinatorEffect::Send(welcome) = effects[0].clone() else { panic!("{effects:?}") };
    let effects = session.handle(from_coordinator(welcome));
    assert!(matches!(effects.as_slice(), [AgentEffect::Live(_)]), "{effects:?}");
    session
}

fn offered(effects: &[CoordinatorEffect]) -> Vec<u64> {
    let generation = |effect: &CoordinatorEffect| {
        let CoordinatorEffect::Send(CoordinatorFrame::Spec(offer)) = effect else { return None };
        Some(offer.generation.0)
    };
    effects.iter().filter_map(generation).collect()
}

#[test]
fn a_host_that_holds_the_newest_spec_is_offered_nothing() {
    let newest = offer(4);
    let (_, effects) = admitted(Some(newest.accepted()), Some(&newest));
    assert_eq!(offered(&effects), [] as [u64; 0]);
}

#[test]
fn a_host_that_is_behind_is_offered_the_newest_spec_once() {
    let (mut session, effects) = admitted(Some(offer(2).accepted()), Some(&offer(4)));
    assert_eq!(offered(&effects), [4]);
    assert_eq!(offered(&session.handle(CoordinatorInput::Publish(offer(4)))), [] as [u64; 0]);
    assert_eq!(offered(&session.handle(CoordinatorInput::Publish(offer(5)))), [5]);
}

#[test]
fn an_offer_that_two_reports_do_not_know_is_made_again() {
    let held = Some(offer(2).accepted());
    let (mut session, effects) = admitted(held, Some(&offer(4)));
    assert_eq!(offered(&effects), [4]);
    // The first may have crossed the offer on the way.
    let first = session.handle(from_agent(AgentFrame::Report { seq: 1, report: report(held, 0) }));
    assert_eq!(offered(&first), [] as [u64; 0]);
    let second = session.handle(from_agent(AgentFrame::Report { seq: 2, report: report(held, 0) }));
    assert_eq!(offered(&second), [4]);
}

#[test]
fn a_floor_above_the_stores_is_told_and_nothing_is_offered() {
    for latest in [None, Some(offer(4)), Some(SpecOffer { digest: Digest::of(b"fork"), ..offer(9) })] {
        let (_, effects) = admitted(Some(offer(9).accepted()), latest.as_ref());
        assert!(
            effects.contains(&CoordinatorEffect::FloorAbove { held: offer(9).accepted() }),
            "{latest:?}: {effects:?}"
        );
        assert_eq!(offered(&effects), [] as [u64; 0]);
    }
}

#[test]
fn a_floor_above_the_stores_is_told_again_with_each_report() {
    let held = Some(offer(9).accepted());
    let (mut session, _) = admitted(held, Some(&offer(4)));
    for seq in [1, 2] {
        let effects = session.handle(from_agent(AgentFrame::Report { seq, report: report(held, 0) }));
        assert!(effects.contains(&CoordinatorEffect::FloorAbove { held: offer(9).accepted() }), "{effects:?}");
    }
    // A later spec of this store is above it: there is nothing to tell any more.
    session.handle(CoordinatorInput::Publish(offer(10)));
    let after = session.handle(from_agent(AgentFrame::Report { seq: 3, report: report(held, 0) }));
    assert!(!after.iter().any(|effect| matches!(effect, CoordinatorEffect::FloorAbove { .. })), "{after:?}");
}

#[test]
fn a_late_report_is_neither_stored_again_nor_believed_over_a_newer_one() {
    let (mut session, _) = admitted(None, Some(&offer(4)));
    let newer = AgentFrame::Report { seq: 2, report: report(Some(offer(4).accepted()), 0) };
    assert!(matches!(session.handle(from_agent(newer)).as_slice(), [CoordinatorEffect::Store { seq: 2, .. }]));
    let late = AgentFrame::Report { seq: 1, report: report(None, 0) };
    assert_eq!(session.handle(from_agent(late)), []);
}

#[test]
fn an_unknown_protocol_is_refused_by_both_with_the_mend() {
    let mut session = CoordinatorSession::default();
    let stranger = Hello { protocol: (PROTOCOL_MAX + 1, PROTOCOL_MAX + 2), ..hello(None) };
    let effects = session.handle(from_agent(AgentFrame::Hello(stranger)));
    let [CoordinatorEffect::Send(CoordinatorFrame::Farewell(told)), CoordinatorEffect::Close(_)] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(told.code, VERSIONS_APART);
    assert!(told.mend.as_ref().is_some_and(|mend| mend.contains("upgrade launchpad-coordinator")), "{told}");
    let mut agent = AgentSession::default();
    agent.handle(AgentInput::Connected(Box::new(hello(None))));
    let farewell = agent.handle(from_coordinator(CoordinatorFrame::Farewell(told.clone())));
    assert_eq!(farewell, [AgentEffect::Close(told.clone())]);
    assert_eq!(agent.handle(from_coordinator(CoordinatorFrame::Spec(offer(1)))), [], "over is over");
}

#[test]
fn a_frame_out_of_turn_ends_the_session() {
    let mut agent = AgentSession::default();
    agent.handle(AgentInput::Connected(Box::new(hello(None))));
    let effects = agent.handle(from_coordinator(CoordinatorFrame::Spec(offer(1))));
    assert!(
        matches!(effects.as_slice(), [AgentEffect::Close(reason)] if reason.code == "frame-out-of-turn"),
        "{effects:?}"
    );
    let mut coordinator = CoordinatorSession::default();
    let early = AgentFrame::Report { seq: 1, report: report(None, 0) };
    let effects = coordinator.handle(from_agent(early));
    assert!(matches!(effects.last(), Some(CoordinatorEffect::Close(reason)) if reason.code == "frame-out-of-turn"));
}

#[test]
fn one_report_is_in_flight_and_the_newest_one_waits() {
    let mut agent = live_agent();
    let at = BootMoment::from_micros(0);
    let say = |through| AgentInput::Report { report: report(None, through), now: at };
    assert!(matches!(agent.handle(say(1)).as_slice(), [AgentEffect::Send(AgentFrame::Report { seq: 1, .. })]));
    assert_eq!(agent.handle(say(2)), []);
    assert_eq!(agent.handle(say(3)), []);
    let effects =
        agent.handle(from_coordinator(CoordinatorFrame::ReportStored { seq: 1, leases: Leases::Untouched }));
    let [AgentEffect::Forget { through: 1, .. }, AgentEffect::Send(AgentFrame::Report { seq: 2, report })] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(report.events.events.len(), 3, "the one between was never sent");
}

#[test]
fn a_report_whose_confirmation_is_lost_does_not_silence_the_host() {
    let mut agent = live_agent();
    let at = BootMoment::from_micros(0);
    agent.handle(AgentInput::Report { report: report(None, 1), now: at });
    let later = agent.handle(AgentInput::Report { report: report(None, 2), now: at + REPORT_RETRY });
    assert!(matches!(later.as_slice(), [AgentEffect::Send(AgentFrame::Report { seq: 2, .. })]), "{later:?}");
    let stale = agent.handle(from_coordinator(CoordinatorFrame::ReportStored { seq: 1, leases: Leases::Granted }));
    assert_eq!(stale, [], "a given-up report's confirmation forgets and renews nothing");
}

#[test]
fn a_lease_counts_from_before_its_report_was_sent() {
    let mut agent = live_agent();
    let at = |micros| BootMoment::from_micros(micros);
    let say = |now| AgentInput::Report { report: report(None, 0), now };
    let stored = |seq, leases| from_coordinator(CoordinatorFrame::ReportStored { seq, leases });
    agent.handle(say(at(1)));
    // It waits for the first to be stored, and is sent later than it was handed over.
    agent.handle(say(at(2)));
    let renewed = |effects: Vec<AgentEffect>| {
        effects
            .into_iter()
            .find_map(|effect| if let AgentEffect::Renew(renewal) = effect { Some(renewal) } else { None })
    };
    let first = renewed(agent.handle(stored(1, Leases::Extended)));
    assert_eq!(first, Some(Renewal { from: at(1), grants: false }));
    let second = renewed(agent.handle(stored(2, Leases::Granted)));
    assert_eq!(second, Some(Renewal { from: at(2), grants: true }));
    agent.handle(say(at(9)));
    assert_eq!(renewed(agent.handle(stored(3, Leases::Untouched))), None, "an older coordinator knows no leases");
}

#[test]
fn questions_pass_and_are_cancelled() {
    let ask = Ask {
        id: id::<AskId>(8),
        deadline_ms: 1_000,
        question: Question::Logs { deployment: id(5), tail: 10, follow: false },
    };
    let (mut session, _) = admitted(None, None);
    let sent = session.handle(CoordinatorInput::Ask(ask.clone()));
    assert_eq!(sent, [CoordinatorEffect::Send(CoordinatorFrame::Ask(ask.clone()))]);
    let mut agent = live_agent();
    assert_eq!(agent.handle(from_coordinator(CoordinatorFrame::Ask(ask.clone()))), [AgentEffect::Ask(ask.clone())]);
    assert_eq!(agent.handle(from_coordinator(CoordinatorFrame::Cancel(ask.id))), [AgentEffect::Cancel(ask.id)]);
}

#[test]
fn a_replaced_session_is_dismissed_with_its_reason() {
    let (mut session, _) = admitted(None, None);
    let reason = launchpad_protocol::reason::Reason::new("session-replaced", "this host has opened a newer session");
    let effects = session.handle(CoordinatorInput::Dismiss(reason.clone()));
    assert_eq!(effects.last(), Some(&CoordinatorEffect::Close(reason)));
    let host: HostId = id(1);
    assert_eq!(session.handle(CoordinatorInput::Publish(offer(9))), [], "{host} hears nothing more here");
}
