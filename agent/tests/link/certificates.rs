//! A certificate is renewed in time, under load, and after its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use launchpad_agent::identity::IdentityFiles;
use launchpad_agent::link::ports::Floor;
use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::identity::HostIdentity;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::frame::{Answer, Ask, Question};
use launchpad_protocol::session::CoordinatorInput;
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::AnswerPart;

use crate::coordinator::Coordinator;
use crate::world::{Agent, World, no_events, offer, quick, report, until};

/// Well beyond half a certificate's life, well before its end.
const DUE: Duration = Duration::from_secs(20 * 3600);

/// A certificate of this minute.
const FRESH: Duration = Duration::ZERO;

/// A day beyond the end.
const EXPIRED: Duration = Duration::from_secs(48 * 3600);

/// More than thirty days beyond the end.
const LOST: Duration = Duration::from_secs(32 * 24 * 3600);

fn serial_on_disk(agent: &Agent) -> launchpad_pki::serial::Serial {
    let identity = IdentityFiles::open(agent.data_dir()).unwrap().load().unwrap();
    HostIdentity::from_certificate(&identity.chain[0]).unwrap().serial
}

#[tokio::test]
async fn a_certificate_is_renewed_under_load_without_a_break() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(DUE, &[coordinator.fleet], coordinator.enroll);
    let old = HostIdentity::from_certificate(&identity.chain[0]).unwrap().serial;
    let mut agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    let deployment = "dep_00000000000000000000000000000001".parse().unwrap();
    let question = Question::Logs { deployment, tail: 0, follow: true };
    let id = Entropy::system().id(Moment::from_micros(0));
    coordinator.tell(CoordinatorInput::Ask(Ask { id, deadline_ms: 1, question })).await;

    until("it is renewed", || coordinator.heard.renewals.load(Ordering::SeqCst) > 0).await;
    until("it is on disk", || serial_on_disk(&agent) != old).await;
    let shown = HostIdentity::from_certificate(&agent.enrolled.credentials().leaf().unwrap()).unwrap().serial;
    assert_eq!(shown, serial_on_disk(&agent));

    let lines = || {
        let answers = coordinator.heard.answers.lock().unwrap();
        answers.iter().filter(|part| matches!(part, AnswerPart::Piece(Answer::Line(_)))).count()
    };
    let before = lines();
    until("the log flows on", || lines() > before + 100).await;
    coordinator.publish(offer(1)).await;
    agent.accept().await;
    assert_eq!(coordinator.heard.hello_count(), 1, "the session never broke");
    assert_eq!(coordinator.heard.answers_over.load(Ordering::SeqCst), 0, "nor did the log");
    assert_eq!(coordinator.heard.renewals.load(Ordering::SeqCst), 1, "and once is enough");
    agent.stop().await;
}

#[tokio::test]
async fn a_host_comes_back_with_its_new_certificate_after_a_renewal() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(DUE, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    until("it is renewed", || coordinator.heard.renewals.load(Ordering::SeqCst) > 0).await;
    let address = coordinator.fleet;
    drop(coordinator);
    let again = Coordinator::start_at(&world, address).await;
    // The next word on the old connection shows that nobody knows it any more.
    agent.ports.reports.send_replace(Some(report(0, no_events())));
    until("the agent greets again", || again.heard.hello_count() > 0).await;
    assert_eq!(again.heard.hellos.lock().unwrap()[0].1.serial, serial_on_disk(&agent));
    agent.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_on_the_enrolment_listener() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(EXPIRED, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    let (_, peer) = coordinator.heard.hellos.lock().unwrap()[0].clone();
    assert_eq!(peer.host, world.host);
    assert_eq!(peer.serial, serial_on_disk(&agent));
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_beyond_renewal_says_what_to_do() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(LOST, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    let reason = agent.disconnected("certificate-too-old").await;
    assert!(reason.to_string().contains("enroll --replace"), "{reason}");
    assert_eq!(coordinator.heard.renewals.load(Ordering::SeqCst), 0);
    agent.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_shown_to_a_stranger() {
    let (world, other) = (World::new(), World::new());
    let stranger = Coordinator::start(&other).await;
    let identity = world.identity(EXPIRED, &[stranger.fleet], stranger.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.disconnected("coordinator-untrusted").await;
    assert_eq!(stranger.heard.renewals.load(Ordering::SeqCst), 0);
    agent.stop().await;
}

#[tokio::test]
async fn an_order_to_renew_is_carried_out_over_the_open_session_and_told() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(FRESH, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    until("it tells what it trusts", || !coordinator.heard.trusts.lock().unwrap().is_empty()).await;
    assert_eq!(coordinator.heard.renewals.load(Ordering::SeqCst), 0, "nobody has ordered anything");
    coordinator.heard.orders_renewal.store(true, Ordering::SeqCst);
    until("it renews", || coordinator.heard.renewals.load(Ordering::SeqCst) == 1).await;
    let told = coordinator.heard.trusts.lock().unwrap().len();
    until("it tells what it has now", || coordinator.heard.trusts.lock().unwrap().len() > told).await;
    assert_eq!(coordinator.heard.hello_count(), 1, "the session never broke");
    agent.stop().await;
}

#[tokio::test]
async fn other_roots_are_on_the_disk_before_the_agent_says_that_it_trusts_them() {
    let (world, other) = (World::new(), World::new());
    let coordinator = Coordinator::start(&world).await;
    let mut identity = world.identity(FRESH, &[coordinator.fleet], coordinator.enroll);
    identity.bundle = TrustBundle::new([world.bundle.roots(), other.bundle.roots()].concat()).unwrap();
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    let said = || coordinator.heard.trusts.lock().unwrap().last().map(|told| told.bundle_digest.clone());
    until("it says so", || said().is_some_and(|digest| digest == world.bundle.digest().as_bytes())).await;
    let kept = IdentityFiles::open(agent.data_dir()).unwrap().load().unwrap();
    assert_eq!(kept.bundle, world.bundle);
    assert_eq!(coordinator.heard.renewals.load(Ordering::SeqCst), 0);
    agent.stop().await;
}
