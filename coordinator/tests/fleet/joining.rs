//! A machine becomes a host: once a token, with the clock right, and never under somebody else's name.

use std::time::Duration;

use launchpad_coordinator::domain::host::HostState;
use launchpad_coordinator::store::{audit, hosts};
use launchpad_pki::identity::HostIdentity;
use launchpad_pki::token::{JoinToken, TOKEN_LIFE, TokenSecret};
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::refused_because;
use tonic::{Code, Status};

use super::agent::Machine;
use super::coordinator::Coordinator;

fn code(status: &Status) -> String {
    refused_because(status).code
}

#[tokio::test]
async fn a_machine_with_a_token_becomes_a_host() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("WEB-1.example.com").await;
    let identity = HostIdentity::from_certificate(&agent.chain[0]).unwrap();
    assert_eq!(identity.host, agent.host);
    let row = coordinator.read(async |tx| hosts::get(tx, agent.host).await).await.unwrap();
    assert_eq!((row.name.as_str(), row.pool.as_str(), row.state), ("web-1", "shared", HostState::Pending));
    let log = coordinator.read(audit::all).await;
    assert!(log.iter().any(|(entry, _)| entry.action == "host.join" && entry.target == agent.host.to_string()));
}

#[tokio::test]
async fn a_used_token_is_refused() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().await;
    let clock = &coordinator.home.clock;
    Machine::new("web-1", clock).enroll(&coordinator.enroll_endpoint(), &token).await;
    let refused = Machine::new("web-2", clock).ask(&coordinator.enroll_endpoint(), &token).await.unwrap_err();
    assert_eq!((refused.code(), code(&refused).as_str()), (Code::PermissionDenied, "token-used"));
    assert_eq!(coordinator.read(hosts::all).await.len(), 1);
}

#[tokio::test]
async fn a_machine_whose_answer_was_lost_asks_again_and_is_the_same_host() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().await;
    let machine = Machine::new("web-1", &coordinator.home.clock);
    let first = machine.ask(&coordinator.enroll_endpoint(), &token).await.unwrap();
    let again = machine.ask(&coordinator.enroll_endpoint(), &token).await.unwrap();
    assert_eq!(first.host_id, again.host_id);
    assert_ne!(first.chain_der, again.chain_der, "a certificate of its own each time");
    assert_eq!(coordinator.read(hosts::all).await.len(), 1);
}

#[tokio::test]
async fn two_machines_with_one_token_make_one_host() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().await;
    let endpoint = coordinator.enroll_endpoint();
    let clock = &coordinator.home.clock;
    let (one, other) = (Machine::new("web-1", clock), Machine::new("web-2", clock));
    let (one, other) = tokio::join!(one.ask(&endpoint, &token), other.ask(&endpoint, &token));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(coordinator.read(hosts::all).await.len(), 1);
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let coordinator = Coordinator::with_manual_clock().await;
    let token = coordinator.token().await;
    coordinator.home.clock.advance(TOKEN_LIFE + Duration::from_secs(1));
    let machine = Machine::new("web-1", &coordinator.home.clock);
    let refused = machine.ask(&coordinator.enroll_endpoint(), &token).await.unwrap_err();
    assert_eq!(code(&refused), "token-expired");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_in_the_same_words_as_an_unknown_token() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().await;
    let wrong = JoinToken { secret: TokenSecret::random().unwrap(), ..token.clone() };
    let unknown = JoinToken::new(coordinator.id(), coordinator.root).unwrap();
    let machine = Machine::new("web-1", &coordinator.home.clock);
    let wrong = machine.ask(&coordinator.enroll_endpoint(), &wrong).await.unwrap_err();
    let unknown = machine.ask(&coordinator.enroll_endpoint(), &unknown).await.unwrap_err();
    assert_eq!(refused_because(&wrong), refused_because(&unknown));
    assert!(machine.ask(&coordinator.enroll_endpoint(), &token).await.is_ok(), "a guess spends nothing");
}

#[tokio::test]
async fn clocks_apart_are_refused_with_both_times_and_spend_no_token() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().await;
    let behind = Machine::new("web-1", &Clock::skewed(-600_000_000));
    let mut request = behind.request(&token);
    let mut client =
        super::agent::enrolment(&coordinator.enroll_endpoint(), token.root, &coordinator.home.clock).await;
    let refused = client.enroll(request.clone()).await.unwrap_err();
    assert_eq!(code(&refused), "clocks-apart");
    assert!(refused.message().matches('T').count() >= 2, "both times: {}", refused.message());
    request.wall_us = coordinator.now().micros();
    assert!(client.enroll(request).await.is_ok());
}

#[tokio::test]
async fn a_taken_name_is_refused_and_spends_no_token() {
    let coordinator = Coordinator::start().await;
    coordinator.host("web-1").await;
    let token = coordinator.token().await;
    let clock = &coordinator.home.clock;
    let refused = Machine::new("web-1", clock).ask(&coordinator.enroll_endpoint(), &token).await.unwrap_err();
    assert_eq!(code(&refused), "host-name-taken");
    assert!(Machine::new("web-2", clock).ask(&coordinator.enroll_endpoint(), &token).await.is_ok());
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_by_field() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().await;
    let good = Machine::new("web-1", &coordinator.home.clock).request(&token);
    let mut client =
        super::agent::enrolment(&coordinator.enroll_endpoint(), token.root, &coordinator.home.clock).await;
    let mut id = good.clone();
    id.token_id = "host_1".to_owned();
    let mut secret = good.clone();
    secret.secret.truncate(31);
    let mut key = good.clone();
    key.sealing_public_key.truncate(31);
    let mut csr = good.clone();
    csr.csr_der.truncate(40);
    for (request, expected) in [
        (id, "message-malformed"),
        (secret, "message-malformed"),
        (key, "sealing-key-malformed"),
        (csr, "csr-refused"),
    ] {
        assert_eq!(code(&client.enroll(request).await.unwrap_err()), expected);
    }
    assert!(client.enroll(good).await.is_ok(), "nothing of it spent the token");
}
