//! A revoked host is cut off at once, and does not come back.

use std::time::Duration;

use launchpad_pki::dial::Route;
use launchpad_protocol::id::HostId;
use tokio::time::Instant;

use super::agent::{Agent, Session, hello};
use super::coordinator::Coordinator;

/// What the product promises.
const CUT_WITHIN: Duration = Duration::from_secs(1);

async fn connected(coordinator: &Coordinator, route: Route) -> (Agent, Session) {
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(route, hello(None, None)).await.unwrap();
    session.welcome().await;
    (agent, session)
}

async fn is_gone(coordinator: &Coordinator, host: HostId) {
    super::coordinator::until("its seat is free", async || coordinator.fleet.connected(host).is_none()).await;
}

#[tokio::test]
async fn a_revoked_host_is_cut_within_a_second_over_either_transport() {
    for route in [Route::Quic, Route::Tcp] {
        let coordinator = Coordinator::start().await;
        let (agent, mut session) = connected(&coordinator, route).await;
        coordinator.revoke(agent.host).await;
        let told = Instant::now();
        coordinator.fleet.revoked();
        session.ends().await;
        assert!(told.elapsed() < CUT_WITHIN, "{route}: {:?}", told.elapsed());
        is_gone(&coordinator, agent.host).await;
    }
}

#[tokio::test]
async fn a_revoked_host_does_not_come_back() {
    let coordinator = Coordinator::start().await;
    let (agent, mut session) = connected(&coordinator, Route::Quic).await;
    coordinator.revoke(agent.host).await;
    coordinator.fleet.revoked();
    session.ends().await;
    for route in [Route::Quic, Route::Tcp] {
        assert!(agent.is_shut_out(route).await, "over {route}");
    }
    let coordinator = coordinator.restart().await;
    assert!(agent.is_shut_out(Route::Quic).await, "nor after a restart");
    assert_eq!(coordinator.fleet.connected(agent.host), None);
}

#[tokio::test]
async fn a_host_that_another_replica_revoked_is_cut_without_a_signal() {
    let coordinator = Coordinator::start().await;
    let (agent, mut session) = connected(&coordinator, Route::Quic).await;
    coordinator.revoke(agent.host).await;
    session.ends().await;
    is_gone(&coordinator, agent.host).await;
}

#[tokio::test]
async fn a_neighbours_revocation_leaves_a_host_alone() {
    let coordinator = Coordinator::start().await;
    let (agent, mut session) = connected(&coordinator, Route::Quic).await;
    let neighbour = coordinator.host("web-2").await;
    let mut theirs = neighbour.connect(Route::Quic, hello(None, None)).await.unwrap();
    theirs.welcome().await;
    coordinator.revoke(neighbour.host).await;
    coordinator.fleet.revoked();
    theirs.ends().await;
    let offer = coordinator.publish(agent.host, 1).await;
    assert_eq!(session.spec().await.0, offer);
    let mut again = agent.connect(Route::Tcp, hello(None, None)).await.unwrap();
    again.welcome().await;
}
