//! A session: greeted, given the newest spec, replaced by a newer one, ended in good order, and begun again.

use launchpad_coordinator::store::{Commit, hosts, meta, specs, strangers};
use launchpad_pki::dial::Route;
use launchpad_pki::pipe::Transport;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::frame::{CoordinatorFrame, Leases};
use launchpad_protocol::generation::{Accepted, Fence, Generation};
use launchpad_protocol::reason::Reason;

use super::agent::{hello, report};
use super::coordinator::{Coordinator, until};

#[tokio::test]
async fn a_host_is_welcomed_and_given_its_spec_over_either_transport() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let offer = coordinator.publish(agent.host, 1).await;
    for (route, transport, fence) in [(Route::Quic, Transport::Quic, 1), (Route::Tcp, Transport::Tcp, 2)] {
        let mut session = agent.connect(route, hello(None, None)).await.unwrap();
        assert_eq!(session.welcome().await.fence, Fence(fence));
        let (offered, spec) = session.spec().await;
        assert_eq!((&offered, spec.host), (&offer, agent.host));
        assert_eq!(coordinator.fleet.connected(agent.host), Some(transport));
    }
}

#[tokio::test]
async fn a_spec_that_is_published_later_reaches_the_live_session() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    for generation in 1..=3 {
        let offer = coordinator.publish(agent.host, generation).await;
        assert_eq!(session.spec().await.0, offer);
        session.accept(&offer).await;
    }
}

#[tokio::test]
async fn one_hosts_spec_never_reaches_another() {
    let coordinator = Coordinator::start().await;
    let (one, other) = (coordinator.host("web-1").await, coordinator.host("web-2").await);
    let mut session = one.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    coordinator.publish(other.host, 1).await;
    let mine = coordinator.publish(one.host, 1).await;
    assert_eq!(session.spec().await.0, mine);
}

#[tokio::test]
async fn a_newer_session_replaces_the_older_which_is_told_so() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut old = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    let first = old.welcome().await.fence;
    let mut new = agent.connect(Route::Tcp, hello(None, None)).await.unwrap();
    assert!(new.welcome().await.fence > first);
    assert_eq!(old.farewell().await.code, "session-replaced");
    assert_eq!(coordinator.fleet.connected(agent.host), Some(Transport::Tcp));
    new.stored(report(None, coordinator.id())).await;
}

#[tokio::test]
async fn two_machines_with_one_identity_are_noticed_and_told_of_the_host() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let in_boot = |boot: &str| launchpad_protocol::frame::Hello { boot_id: boot.to_owned(), ..hello(None, None) };
    for boot in ["the-host's", "the-copy's"] {
        agent.connect(Route::Tcp, in_boot(boot)).await.unwrap().welcome().await;
        assert_eq!(coordinator.fleet.twins(agent.host), None, "it may have been a reboot");
    }
    agent.connect(Route::Tcp, in_boot("the-host's")).await.unwrap().welcome().await;
    let told = coordinator.fleet.twins(agent.host).expect("no boot comes back");
    assert_eq!(told.code, "identity-in-use-twice");
}

#[tokio::test]
async fn a_session_that_was_replaced_at_another_replica_reports_no_more() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    coordinator.write(Commit::AdmitHost, async |tx| hosts::next_fence(tx, agent.host).await).await;
    session.report(report(None, coordinator.id())).await;
    assert_eq!(session.farewell().await.code, "session-replaced");
}

#[tokio::test]
async fn while_publishing_is_frozen_a_host_is_welcome_and_told_no_spec() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let offer = coordinator.publish(agent.host, 1).await;
    let reason = Reason::new("restored", "restored from a copy");
    coordinator.write(Commit::Freeze, async |tx| meta::freeze(tx, &reason, coordinator.now()).await).await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    coordinator.signals.publisher.notify();
    // What comes first is the confirmation: a spec would have come before it.
    session.report(report(None, coordinator.id())).await;
    assert_eq!(session.hear().await, Some(CoordinatorFrame::ReportStored { seq: 1, leases: Leases::Extended }));
    coordinator.write(Commit::ConfirmRecovery, meta::thaw).await;
    coordinator.signals.publisher.notify();
    assert_eq!(session.spec().await.0, offer);
}

#[tokio::test]
async fn a_floor_above_the_store_freezes_publishing_and_is_remembered() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    coordinator.publish(agent.host, 1).await;
    let held = Accepted { generation: Generation(7), digest: Digest::of(b"from a life that was lost") };
    let mut session = agent.connect(Route::Quic, hello(Some(held), None)).await.unwrap();
    session.welcome().await;
    until("publishing is frozen", async || coordinator.read(meta::frozen).await.is_some()).await;
    let reason = coordinator.read(meta::frozen).await.unwrap();
    assert_eq!(reason.code, "host-above-store");
    assert!(reason.sentence.contains("web-1"), "{reason}");
    assert_eq!(coordinator.read(async |tx| specs::floor(tx, agent.host).await).await, Some(held));
}

#[tokio::test]
async fn a_floor_above_the_store_that_could_not_be_told_is_told_with_the_next_report_and_only_until_it_is_confirmed()
{
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    coordinator.publish(agent.host, 1).await;
    let held = Accepted { generation: Generation(7), digest: Digest::of(b"from a life that was lost") };
    let mut session = agent.connect(Route::Quic, hello(Some(held), None)).await.unwrap();
    session.welcome().await;
    until("publishing is frozen", async || coordinator.read(meta::frozen).await.is_some()).await;
    // As if the store had been away then.
    coordinator.write(Commit::ConfirmRecovery, meta::thaw).await;
    session.stored(report(Some(held), coordinator.id())).await;
    until("publishing is frozen again", async || coordinator.read(meta::frozen).await.is_some()).await;
    // A report may come between an operator's word and the next spec.
    let life = coordinator.read(meta::incarnation).await;
    coordinator.confirm(agent.host, life).await;
    for _ in 0..2 {
        session.stored(report(Some(held), coordinator.id())).await;
    }
    assert_eq!(coordinator.read(meta::frozen).await, None);
}

#[tokio::test]
async fn the_same_generation_with_other_bytes_freezes_publishing_too() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let offer = coordinator.publish(agent.host, 3).await;
    let forked = Accepted { digest: Digest::of(b"another coordinator's"), ..offer.accepted() };
    let mut session = agent.connect(Route::Quic, hello(Some(forked), None)).await.unwrap();
    session.welcome().await;
    until("publishing is frozen", async || coordinator.read(meta::frozen).await.is_some()).await;
}

#[tokio::test]
async fn a_spec_of_another_life_freezes_publishing_whatever_its_number_until_its_host_was_recovered() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let offer = coordinator.publish(agent.host, 9).await;
    let (life, lost) = (coordinator.read(meta::incarnation).await, coordinator.id());
    let held = Accepted { generation: Generation(2), digest: Digest::of(b"from a life that was lost") };
    let mut session = agent.connect(Route::Quic, hello(Some(held), Some(lost))).await.unwrap();
    session.welcome().await;
    let reason = coordinator.read(meta::frozen).await.expect("publishing is frozen");
    assert!(reason.code == "host-above-store" && reason.sentence.contains("web-1"), "{reason}");

    session.stored(report(Some(held), coordinator.id())).await;
    coordinator.confirm(agent.host, life).await;
    let mut session = agent.connect(Route::Quic, hello(Some(held), Some(lost))).await.unwrap();
    session.welcome().await;
    assert_eq!(session.spec().await.0, offer);
    assert_eq!(coordinator.read(meta::frozen).await, None);
}

#[tokio::test]
async fn a_host_that_the_store_has_forgotten_freezes_publishing_once_and_is_shown() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    coordinator.forget(agent.host).await;
    let turned_away = async || {
        let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
        assert_eq!(session.farewell().await.code, "host-revoked");
    };
    turned_away().await;
    let reason = coordinator.read(meta::frozen).await.expect("publishing is frozen");
    assert!(reason.code == "host-above-store" && reason.sentence.contains(&agent.host.to_string()), "{reason}");
    let shown = coordinator.read(strangers::current).await;
    assert_eq!(shown.iter().map(|(host, _)| *host).collect::<Vec<_>>(), [agent.host]);
    coordinator.write(Commit::ConfirmRecovery, meta::thaw).await;
    turned_away().await;
    assert_eq!(coordinator.read(meta::frozen).await, None, "an operator has left it out");
}

#[tokio::test]
async fn a_host_that_holds_the_newest_spec_is_not_sent_it_again() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let offer = coordinator.publish(agent.host, 1).await;
    let mut session = agent.connect(Route::Quic, hello(Some(offer.accepted()), None)).await.unwrap();
    session.welcome().await;
    session.report(report(Some(offer.accepted()), coordinator.id())).await;
    assert_eq!(session.hear().await, Some(CoordinatorFrame::ReportStored { seq: 1, leases: Leases::Granted }));
    assert_eq!(coordinator.read(meta::frozen).await, None);
}

#[tokio::test]
async fn a_coordinator_that_stops_says_farewell_and_one_that_starts_again_goes_on() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let offer = coordinator.publish(agent.host, 1).await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    let before = session.welcome().await;
    session.spec().await;
    let (coordinator, reason) = tokio::join!(coordinator.restart(), session.farewell());
    assert_eq!(reason.code, "coordinator-stops");
    let mut session = agent.connect(Route::Quic, hello(None, Some(before.incarnation))).await.unwrap();
    let after = session.welcome().await;
    assert_eq!(after.incarnation, before.incarnation);
    assert!(after.fence > before.fence);
    assert_eq!(session.spec().await.0, offer);
    assert_eq!(coordinator.fleet.connected(agent.host), Some(Transport::Quic));
}

#[tokio::test]
async fn a_host_that_leaves_gives_its_seat_up() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    assert!(coordinator.fleet.hosts().contains(&agent.host));
    drop(session);
    until("the host is disconnected", async || coordinator.fleet.connected(agent.host).is_none()).await;
}

#[tokio::test]
async fn a_frame_out_of_turn_ends_the_session_with_a_reason() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    session.say(launchpad_protocol::frame::AgentFrame::Hello(hello(None, None))).await;
    assert_eq!(session.farewell().await.code, "frame-out-of-turn");
}

#[tokio::test]
async fn a_frame_that_says_nothing_ends_the_session_with_a_reason() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    session.say_nothing().await;
    assert_eq!(session.farewell().await.code, "message-malformed");
}

#[tokio::test]
async fn a_host_of_another_protocol_is_refused_by_version() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut future = hello(None, None);
    future.protocol = (900, 901);
    let mut session = agent.connect(Route::Quic, future).await.unwrap();
    let reason = session.farewell().await;
    assert_eq!(reason.code, "versions-apart");
    assert!(reason.sentence.contains("900"), "{reason}");
}
