//! Which route carries the session, and that no stranger does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use launchpad_agent::link::Pace;
use launchpad_agent::link::ports::Floor;
use launchpad_pki::pipe::Transport;
use tokio::time::Instant;

use crate::coordinator::Coordinator;
use crate::relay::Relay;
use crate::world::{Agent, SERVER, World, any_port, quick, until};

#[tokio::test]
async fn the_session_is_carried_by_quic_where_datagrams_pass() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), Pace::default());
    agent.connected().await;
    assert_eq!(coordinator.heard.last_transport(), Some(Transport::Quic));
    agent.stop().await;
}

#[tokio::test]
async fn where_datagrams_vanish_tcp_answers_within_three_seconds_and_a_little() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let relay = Relay::without_udp(coordinator.fleet).await;
    let identity = world.identity(Duration::ZERO, &[relay.address], coordinator.enroll);
    let began = Instant::now();
    let agent = Agent::start(&identity, Floor::default(), Pace::default());
    agent.connected().await;
    let took = began.elapsed();
    assert_eq!(coordinator.heard.last_transport(), Some(Transport::Tcp));
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(4_500), "{took:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_session_over_tcp_moves_to_quic_once_datagrams_pass() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let relay = Relay::without_udp(coordinator.fleet).await;
    let identity = world.identity(Duration::ZERO, &[relay.address], coordinator.enroll);
    let pace = Pace { quic_again: Duration::from_millis(200), ..quick() };
    let agent = Agent::start(&identity, Floor::default(), pace);
    agent.connected().await;
    assert_eq!(coordinator.heard.last_transport(), Some(Transport::Tcp));
    relay.let_udp_through();
    until("QUIC carries it", || coordinator.heard.last_transport() == Some(Transport::Quic)).await;
    agent.connected().await;
    assert_eq!(coordinator.heard.hello_count(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_route_on_which_nobody_answers_is_not_taken_for_a_connection() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    coordinator.heard.mute_on_quic.store(true, Ordering::SeqCst);
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    assert_eq!(coordinator.heard.last_transport(), Some(Transport::Tcp));
    agent.stop().await;
}

#[tokio::test]
async fn after_an_endpoint_that_is_dead_the_next_is_tried() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let dead = tokio::net::TcpListener::bind(any_port()).await.unwrap().local_addr().unwrap();
    let identity = world.identity(Duration::ZERO, &[dead, coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_coordinator_below_another_root_is_refused_before_anything_is_said() {
    let (world, other) = (World::new(), World::new());
    let stranger = Coordinator::start(&other).await;
    let identity = world.identity(Duration::ZERO, &[stranger.fleet], stranger.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    let reason = agent.disconnected("coordinator-unreachable").await;
    assert!(reason.to_string().contains("UnknownIssuer"), "{reason}");
    assert_eq!(stranger.heard.hello_count(), 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_host_of_another_installation_is_not_let_in_and_does_not_believe_it_is() {
    let (world, other) = (World::new(), World::new());
    let coordinator = Coordinator::start(&world).await;
    let mut identity = other.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    identity.bundle = world.bundle.clone();
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.disconnected("certificate-out-of-date").await;
    assert_eq!(coordinator.heard.hello_count(), 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_coordinator_whose_certificate_has_another_name_is_told_apart_from_one_that_is_away() {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let mut identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    identity.server_name = "fleet.elsewhere.example".to_owned();
    let agent = Agent::start(&identity, Floor::default(), quick());
    let reason = agent.disconnected("coordinator-misnamed").await;
    let text = reason.to_string();
    assert!(text.contains("fleet.elsewhere.example") && text.contains(SERVER), "{text}");
    assert!(text.contains("server_names"), "{text}");
    assert_eq!(coordinator.heard.hello_count(), 0);
    agent.stop().await;
}
