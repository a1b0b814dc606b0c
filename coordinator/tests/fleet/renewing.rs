//! The next certificate: in touch, after expiry, and not for whoever was revoked. And the coordinator's own.

use std::time::Duration;

use launchpad_coordinator::domain::host::HostState;
use launchpad_coordinator::store::{Commit, Tx, certificates, hosts};
use launchpad_pki::ca::{HOST_LIFE, SERVER_LIFE};
use launchpad_pki::dial::Route;
use launchpad_pki::enroll::Nonce;
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::HostIdentity;
use launchpad_pki::renewal::{RENEWABLE_FOR, request_renewal};
use launchpad_protocol::wire::{refused_because, v1};
use tonic::Status;

use super::agent::{Agent, Machine, enrolment, hello};
use super::coordinator::{Coordinator, until};
use super::within;

/// Renews a certificate that has expired, as an agent does.
pub async fn renew_expired(
    coordinator: &Coordinator,
    agent: &Agent,
    key: &HostKey,
) -> Result<v1::RenewReply, Status> {
    let clock = &coordinator.home.clock;
    let mut client = enrolment(&coordinator.enroll_endpoint(), coordinator.root, clock).await;
    let certificate_der = agent.chain[0].to_vec();
    let challenge = within(client.challenge(v1::ChallengeRequest { certificate_der })).await?.into_inner();
    let nonce = Nonce::from_bytes(&challenge.nonce).unwrap();
    let request = request_renewal(&agent.chain[0], &agent.key, key, nonce).unwrap();
    let request = v1::RenewExpiredRequest {
        certificate_der: request.certificate_der.to_vec(),
        csr_der: request.csr_der,
        nonce: nonce.as_bytes().to_vec(),
        signature: request.signature,
    };
    within(client.renew_expired(request)).await.map(tonic::Response::into_inner)
}

/// A coordinator whose clock has been moved on, restarted so that its own certificate is in force.
async fn later(coordinator: Coordinator, span: Duration) -> Coordinator {
    coordinator.home.clock.advance(span);
    coordinator.restart().await
}

pub fn renewed(coordinator: &Coordinator, agent: &Agent, key: HostKey, reply: v1::RenewReply) -> Agent {
    let reply = v1::EnrollReply {
        host_id: agent.host.to_string(),
        chain_der: reply.chain_der,
        trust_bundle_pem: reply.trust_bundle_pem,
        fleet_endpoints: vec![coordinator.fleet_addr.to_string()],
        server_name: super::coordinator::SERVER_NAME.to_owned(),
        trust_domain: "launchpad.internal".to_owned(),
    };
    Agent::new(key, &reply, &coordinator.home.clock)
}

#[tokio::test]
async fn a_host_in_touch_gets_its_next_certificate_over_its_own_connection() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    let key = HostKey::generate().unwrap();
    let request = v1::RenewRequest { csr_der: key.csr_der().unwrap() };
    let reply = within(session.client().await.renew(request)).await.unwrap().into_inner();
    let next = renewed(&coordinator, &agent, key, reply);
    let identity = HostIdentity::from_certificate(&next.chain[0]).unwrap();
    assert_eq!(identity.host, agent.host);
    next.connect(Route::Quic, hello(None, None)).await.unwrap().welcome().await;
}

#[tokio::test]
async fn an_expired_host_is_shut_out_and_comes_back_by_a_signature_of_its_old_key() {
    let coordinator = Coordinator::with_manual_clock().await;
    let agent = coordinator.host("web-1").await;
    let coordinator = later(coordinator, HOST_LIFE + Duration::from_secs(60)).await;
    for route in [Route::Quic, Route::Tcp] {
        assert!(agent.is_shut_out(route).await, "an expired certificate over {route}");
    }
    let key = HostKey::generate().unwrap();
    let reply = renew_expired(&coordinator, &agent, &key).await.unwrap();
    let back = renewed(&coordinator, &agent, key, reply);
    assert_eq!(HostIdentity::from_certificate(&back.chain[0]).unwrap().host, agent.host);
    back.connect(Route::Quic, hello(None, None)).await.unwrap().welcome().await;
}

#[tokio::test]
async fn a_host_that_was_away_for_more_than_thirty_days_enrols_anew() {
    let coordinator = Coordinator::with_manual_clock().await;
    let agent = coordinator.host("web-1").await;
    let coordinator = later(coordinator, HOST_LIFE + RENEWABLE_FOR + Duration::from_secs(60)).await;
    let refused = renew_expired(&coordinator, &agent, &HostKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(refused_because(&refused).code, "certificate-too-old");
}

#[tokio::test]
async fn a_revoked_host_gets_no_certificate_after_expiry() {
    let coordinator = Coordinator::with_manual_clock().await;
    let agent = coordinator.host("web-1").await;
    coordinator.revoke(agent.host).await;
    let coordinator = later(coordinator, HOST_LIFE + Duration::from_secs(60)).await;
    let refused = renew_expired(&coordinator, &agent, &HostKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(refused_because(&refused).code, "host-revoked");
    let serial = HostIdentity::from_certificate(&agent.chain[0]).unwrap().serial;
    assert!(coordinator.read(async |tx| certificates::is_revoked(tx, serial).await).await);
}

#[tokio::test]
async fn a_revoked_certificate_renews_nothing_although_its_host_stands() {
    let coordinator = Coordinator::with_manual_clock().await;
    let agent = coordinator.host("web-1").await;
    let now = coordinator.now();
    let revoke = async |tx: &mut Tx| certificates::revoke_all(tx, agent.host, now).await;
    assert_eq!(coordinator.write(Commit::RevokeHost, revoke).await, 1);
    let refused = renew_expired(&coordinator, &agent, &HostKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(refused_because(&refused).code, "host-revoked");
}

#[tokio::test]
async fn a_retired_host_renews_nothing_in_the_moment_before_it_is_cut() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    let mut client = session.client().await;
    let retire = async |tx: &mut Tx| hosts::set_state(tx, agent.host, HostState::Retired).await;
    coordinator.write(Commit::RevokeHost, retire).await;
    let request = v1::RenewRequest { csr_der: HostKey::generate().unwrap().csr_der().unwrap() };
    // Refused in words, or cut off before the words: whichever comes first.
    assert!(within(client.renew(request)).await.is_err());
}

#[tokio::test]
async fn a_renewal_signed_by_another_key_is_refused() {
    let coordinator = Coordinator::start().await;
    let mut agent = coordinator.host("web-1").await;
    agent.key = HostKey::generate().unwrap();
    let refused = renew_expired(&coordinator, &agent, &HostKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(refused_because(&refused).code, "renewal-refused");
}

#[tokio::test]
async fn the_coordinator_renews_its_own_certificate_while_it_runs_and_open_sessions_stay() {
    let coordinator = Coordinator::with_manual_clock().await;
    let agent = coordinator.host("web-1").await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    coordinator.home.clock.advance(SERVER_LIFE + Duration::from_secs(60));
    // The old certificate is out of force: that anybody can enrol shows that a new one is shown.
    let token = coordinator.token().await;
    let machine = Machine::new("web-2", &coordinator.home.clock);
    until("the coordinator shows a new certificate", async || {
        machine.try_ask(&coordinator.enroll_endpoint(), &token).await.is_ok()
    })
    .await;
    let offer = coordinator.publish(agent.host, 1).await;
    assert_eq!(session.spec().await.0, offer);
}
