//! What travels in a session, and what outlives one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use launchpad_agent::link::ports::{Floor, Judged};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::frame::AgentFrame;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Event, EventBatch, Phase};
use launchpad_protocol::session::CoordinatorInput;
use launchpad_protocol::time::Moment;
use tokio::time::{Instant, timeout};

use crate::coordinator::Coordinator;
use crate::world::{Agent, DEADLINE, World, no_events, offer, quick, report, until};

fn verdict(generation: u64, taken: bool) -> impl Fn(&AgentFrame) -> bool {
    move |frame| {
        matches!(frame, AgentFrame::Verdict { generation: told, refusal, .. }
        if *told == Generation(generation) && refusal.is_none() == taken)
    }
}

fn applied(generation: u64) -> impl Fn(&AgentFrame) -> bool {
    move |frame| matches!(frame, AgentFrame::Report { report, .. } if report.applied == Generation(generation))
}

fn one_event(seq: u64) -> EventBatch {
    let deployment = "dep_00000000000000000000000000000001".parse().unwrap();
    let at = Moment::from_micros(0);
    EventBatch { events: vec![Event { seq, at, deployment, phase: Phase::Ready, reason: None }], ..no_events() }
}

#[tokio::test]
async fn a_spec_is_offered_judged_and_answered_and_a_report_is_stored() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let mut agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;

    coordinator.publish(offer(1)).await;
    assert_eq!(agent.accept().await, offer(1));
    until("the verdict arrives", || coordinator.heard.saw(verdict(1, true))).await;

    agent.ports.reports.send_replace(Some(report(1, one_event(7))));
    until("the report arrives", || coordinator.heard.saw(applied(1))).await;
    let forget = timeout(DEADLINE, agent.ports.forgets.recv()).await.unwrap().unwrap();
    assert_eq!((forget.journal, forget.through), (no_events().journal, 7));
    agent.stop().await;
}

#[tokio::test]
async fn the_hello_tells_who_the_agent_is_and_what_it_holds() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let floor = Floor { incarnation: Some(world.incarnation), accepted: Some(offer(4).accepted()) };
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, floor, quick());
    agent.connected().await;
    let (hello, peer) = coordinator.heard.hellos.lock().unwrap()[0].clone();
    assert_eq!(peer.host, world.host);
    assert_eq!((hello.agent_version.as_str(), hello.boot_id.as_str()), ("0.1.0", "boot-1"));
    assert_eq!((hello.incarnation, hello.accepted), (floor.incarnation, floor.accepted));
    assert!(hello.wall.apart(world.now()) < Duration::from_secs(60));
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_spec_is_answered_with_the_reason() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let mut agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    coordinator.publish(offer(1)).await;
    let offered = timeout(DEADLINE, agent.ports.offers.recv()).await.unwrap().unwrap();
    let refusal = Some(Reason::new("spec-stale", "the ledger holds a newer one"));
    offered.reply.send(Judged { held: None, refusal }).unwrap();
    until("the refusal arrives", || coordinator.heard.saw(verdict(1, false))).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_ledger_that_takes_its_time_holds_nothing_else_up_and_is_asked_for_the_newest() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let mut agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    coordinator.publish(offer(1)).await;
    let first = timeout(DEADLINE, agent.ports.offers.recv()).await.unwrap().unwrap();
    for generation in 2..=5 {
        coordinator.publish(offer(generation)).await;
    }
    agent.ports.reports.send_replace(Some(report(9, no_events())));
    until("the report overtakes the ledger", || coordinator.heard.saw(applied(9))).await;
    let held = Some(first.offer.accepted());
    first.reply.send(Judged { held, refusal: None }).unwrap();
    assert_eq!(agent.accept().await, offer(5));
    until("the newest is answered", || coordinator.heard.saw(verdict(5, true))).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_restarts_is_resumed_with_what_the_agent_holds_now() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let mut agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    coordinator.publish(offer(3)).await;
    agent.accept().await;
    agent.ports.reports.send_replace(Some(report(3, one_event(1))));
    timeout(DEADLINE, agent.ports.forgets.recv()).await.expect("the report is not confirmed").unwrap();

    let address = coordinator.fleet;
    drop(coordinator);
    let again = Coordinator::start_at(&world, address).await;
    // The next word on the old connection shows that nobody knows it any more.
    agent.ports.reports.send_replace(Some(report(3, no_events())));
    until("the agent greets again", || again.heard.hello_count() > 0).await;
    let (hello, _) = again.heard.hellos.lock().unwrap()[0].clone();
    assert_eq!(hello.accepted, Some(offer(3).accepted()));
    until("the report is sent anew", || again.heard.saw(applied(3))).await;
    agent.connected().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_farewell_is_told_in_the_coordinators_own_words_and_ends_with_its_cause() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    *coordinator.heard.dismisses.lock().unwrap() = Some(Reason::new("host-retired", "web-1 was retired"));
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    assert_eq!(agent.disconnected("host-retired").await.sentence, "web-1 was retired");
    *coordinator.heard.dismisses.lock().unwrap() = None;
    agent.connected().await;
    coordinator.tell(CoordinatorInput::Dismiss(Reason::new("host-retired", "now it is"))).await;
    agent.disconnected("host-retired").await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_stops_takes_its_leave_of_the_coordinator() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let (agent, process) = Agent::start_apart(&identity, Floor::default(), quick());
    agent.connected().await;
    let began = Instant::now();
    agent.stop().await;
    tokio::task::spawn_blocking(move || process.join().unwrap()).await.unwrap();
    until("the coordinator knows", || coordinator.heard.sessions_over.load(Ordering::SeqCst) > 0).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn no_report_is_forgotten_because_a_frame_came_between() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    let began = Instant::now();
    for round in 1..=20 {
        agent.ports.reports.send_replace(Some(report(round, no_events())));
        // A cancel of what was never asked: a frame that the agent has nothing to do for.
        let nothing = Entropy::system().id(Moment::from_micros(0));
        coordinator.tell(CoordinatorInput::Cancel(nothing)).await;
        until("the report arrives", || coordinator.heard.saw(applied(round))).await;
    }
    assert!(began.elapsed() < REPORT_INTERVAL, "{:?}", began.elapsed());
    agent.stop().await;
}
