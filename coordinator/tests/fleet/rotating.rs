//! One issuing CA takes over from another, at the doors: who signs, who is let in, and how a host that was away comes back.

use launchpad_coordinator::domain::rotation::{Phase, Side};
use launchpad_coordinator::store::issuers::{self, CaRotation, Held, Issuer, Standing};
use launchpad_coordinator::store::{Commit, StoreError, Tx};
use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::{HOST_LIFE, RootCa};
use launchpad_pki::dial::Route;
use launchpad_pki::envelope::{Envelope, EnvelopeContext};
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::TrustDomain;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::{refused_because, v1};
use std::time::Duration;

use super::agent::{Agent, Session, hello};
use super::coordinator::{Coordinator, Home, until};
use super::renewing::{renew_expired, renewed};
use super::within;
use crate::postgres::Schema;

/// Whether another root comes with the CA.
#[derive(Clone, Copy, PartialEq)]
enum Root {
    Same,
    New,
}

/// Begins a rotation, as the machine with the root's key does.
async fn begin(coordinator: &Coordinator, root: Root) -> CaRotation {
    let (now, domain) = (coordinator.now(), TrustDomain::new("launchpad.internal").unwrap());
    let old_root = coordinator.home.ca_files().load_root().unwrap();
    let new_root = RootCa::create(&domain, now).unwrap();
    let signs = if root == Root::New { &new_root } else { &old_root };
    let ca = signs.sign_issuing(&domain, now).unwrap();
    let context = EnvelopeContext::of_issuer(ca.digest());
    let issuer = Issuer {
        id: ca.digest(),
        root: ca.root().clone(),
        certificate: ca.certificate().clone(),
        bridge: (root == Root::New).then(|| old_root.bridge_to(&ca, now).unwrap()),
        key: Some(Envelope::encrypt(&*coordinator.home.keys(), &context, &ca.key_pkcs8()).await.unwrap()),
        added_at: now + Duration::from_micros(1),
        ended_at: None,
    };
    let old = coordinator.read(async |tx| Standing::read(tx).await).await.signer().unwrap().id;
    let id = coordinator.id();
    let rotation = CaRotation { id, old, new: issuer.id, phase: Phase::Distribute, begun_at: now, phase_at: now };
    let commit = async |tx: &mut Tx| {
        issuers::insert(tx, &issuer).await?;
        issuers::begin(tx, &rotation).await
    };
    coordinator.write(Commit::BeginCaRotation, commit).await;
    coordinator.fleet.ca_changed();
    rotation
}

/// Moves it to a phase, as `app` does once `domain` has said yes.
async fn step(coordinator: &Coordinator, to: Phase) {
    let now = coordinator.now();
    let commit = async |tx: &mut Tx| {
        let rotation = Standing::read(tx).await?.rotation.unwrap();
        issuers::advance(tx, &rotation, to, now).await?;
        for side in [Side::Old, Side::New] {
            if !to.accepts(side) {
                issuers::end(tx, rotation.issuer(side), now).await?;
            }
        }
        Ok::<_, StoreError>(())
    };
    coordinator.write(Commit::StepCaRotation, commit).await;
    coordinator.fleet.ca_changed();
}

fn issuer_of(agent: &Agent) -> Digest {
    Digest::of(&agent.chain[1])
}

/// What the coordinator answers a host that holds these.
async fn ask(session: &Session, bundle: &TrustBundle, issuer: Digest) -> v1::TrustReply {
    let request = v1::TrustRequest {
        bundle_digest: bundle.digest().as_bytes().to_vec(),
        issuer_digest: issuer.as_bytes().to_vec(),
    };
    within(session.client().await.trust(request)).await.unwrap().into_inner()
}

/// Renews over the host's own connection.
async fn renew(coordinator: &Coordinator, agent: &Agent, session: &Session) -> Agent {
    let key = HostKey::generate().unwrap();
    let request = v1::RenewRequest { csr_der: key.csr_der().unwrap() };
    let reply = within(session.client().await.renew(request)).await.unwrap().into_inner();
    renewed(coordinator, agent, key, reply)
}

async fn connected(agent: &Agent) -> Session {
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    session
}

async fn old_bundle(coordinator: &Coordinator) -> TrustBundle {
    coordinator.home.ca_files().load().unwrap().bundle().unwrap()
}

#[tokio::test]
async fn a_connected_host_is_led_through_a_rotation_over_one_open_session() {
    for root in [Root::Same, Root::New] {
        let coordinator = Coordinator::start().await;
        let agent = coordinator.host("web-1").await;
        let session = connected(&agent).await;
        let one = old_bundle(&coordinator).await;
        let before = ask(&session, &one, issuer_of(&agent)).await;
        assert!(before.trust_bundle_pem.is_empty() && !before.renew, "{before:?}");

        let rotation = begin(&coordinator, root).await;
        let mut both = one.clone();
        if root == Root::New {
            until("both roots are told", async || {
                let told = ask(&session, &one, issuer_of(&agent)).await;
                if told.trust_bundle_pem.is_empty() {
                    return false;
                }
                assert!(!told.renew, "the old CA signs");
                both = TrustBundle::from_pem(&told.trust_bundle_pem).unwrap();
                true
            })
            .await;
            assert_eq!(both.roots().len(), 2);
        }
        let told = ask(&session, &both, issuer_of(&agent)).await;
        assert!(told.trust_bundle_pem.is_empty() && !told.renew, "{told:?}");

        step(&coordinator, Phase::Issue).await;
        until("it is to renew", async || ask(&session, &both, issuer_of(&agent)).await.renew).await;
        let next = renew(&coordinator, &agent, &session).await;
        assert_eq!(issuer_of(&next), rotation.new);
        assert!(!agent.is_shut_out(Route::Tcp).await, "the old one is let in as well");

        step(&coordinator, Phase::Retired).await;
        until("the old CA is refused", async || agent.is_shut_out(Route::Tcp).await).await;
        assert!(agent.is_shut_out(Route::Quic).await);
        assert!(!next.is_shut_out(Route::Quic).await);
        let told = ask(&session, &both, rotation.new).await;
        assert_eq!(told.trust_bundle_pem.is_empty(), root == Root::Same, "the old root is no longer told");
        let held: Held = coordinator.read(async |tx| issuers::held_by(tx, agent.host).await).await.unwrap();
        assert_eq!(
            held.issuer, rotation.new,
            "what a host said is remembered, over the session that it had all along"
        );
    }
}

#[tokio::test]
async fn a_rotation_that_is_taken_back_leads_hosts_back() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let session = connected(&agent).await;
    let one = old_bundle(&coordinator).await;
    let rotation = begin(&coordinator, Root::Same).await;
    step(&coordinator, Phase::Issue).await;
    until("it is to renew", async || ask(&session, &one, rotation.old).await.renew).await;
    let next = renew(&coordinator, &agent, &session).await;
    step(&coordinator, Phase::Distribute).await;
    until("it is to renew again", async || ask(&session, &one, rotation.new).await.renew).await;
    let back = renew(&coordinator, &next, &session).await;
    assert_eq!(issuer_of(&back), rotation.old);
    step(&coordinator, Phase::Abandoned).await;
    until("the new CA is refused", async || next.is_shut_out(Route::Tcp).await).await;
    assert!(!back.is_shut_out(Route::Tcp).await);
}

#[tokio::test]
async fn a_host_that_missed_all_of_a_rotation_comes_back_with_the_root_that_it_knows() {
    let coordinator = Coordinator::with_manual_clock().await;
    let agent = coordinator.host("web-1").await;
    let rotation = begin(&coordinator, Root::New).await;
    step(&coordinator, Phase::Issue).await;
    coordinator.home.clock.advance(HOST_LIFE + Duration::from_secs(60));
    step(&coordinator, Phase::Retired).await;
    // Restarted: what was done is found in the store.
    let coordinator = coordinator.restart().await;
    assert!(agent.is_shut_out(Route::Quic).await);
    let key = HostKey::generate().unwrap();
    let reply = renew_expired(&coordinator, &agent, &key).await.unwrap();
    let back = renewed(&coordinator, &agent, key, reply);
    assert_eq!(issuer_of(&back), rotation.new);
    let _session = connected(&back).await;
}

#[tokio::test]
async fn of_a_ca_that_has_ended_only_remembered_certificates_renew() {
    let coordinator = Coordinator::with_manual_clock().await;
    let agent = coordinator.host("web-1").await;
    begin(&coordinator, Root::Same).await;
    step(&coordinator, Phase::Issue).await;
    step(&coordinator, Phase::Retired).await;
    // Somebody has the old CA's key, and makes a certificate with it.
    let ca = coordinator.home.ca_files().load().unwrap();
    let key = HostKey::generate().unwrap();
    let forged = ca.issue_host(&key.csr_der().unwrap(), agent.host, coordinator.now(), HOST_LIFE).unwrap();
    let bundle = old_bundle(&coordinator).await;
    let reply = v1::RenewReply {
        chain_der: forged.chain_der.iter().map(|der| der.to_vec()).collect(),
        trust_bundle_pem: bundle.to_pem(),
        fleet_endpoints: Vec::new(),
    };
    let thief = renewed(&coordinator, &agent, key, reply);
    let coordinator = coordinator.restart().await;
    assert!(thief.is_shut_out(Route::Tcp).await);
    let refused = renew_expired(&coordinator, &thief, &HostKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(refused_because(&refused).code, "renewal-refused");
    renew_expired(&coordinator, &agent, &HostKey::generate().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_second_replica_follows_a_rotation_and_a_revocation_through_the_store() {
    let case = "a_second_replica_follows_a_rotation_and_a_revocation_through_the_store";
    let Some(schema) = Schema::new(case).await else { return };
    let home = Home::at(schema.url(), Clock::machine()).await;
    let (one, other) = (home.clone().start(None).await, home.start(None).await);
    let mut agent = other.host("web-1").await;
    let session = connected(&agent).await;
    assert!(other.fleet.connected(agent.host).is_some());
    let rotation = begin(&one, Root::Same).await;
    step(&one, Phase::Issue).await;
    let bundle = old_bundle(&other).await;
    until("the other tells its host", async || ask(&session, &bundle, rotation.old).await.renew).await;
    agent = renew(&other, &agent, &session).await;
    assert_eq!(issuer_of(&agent), rotation.new, "the other signs with a key that it took from the store");

    let mut session = connected(&agent).await;
    one.revoke(agent.host).await;
    let told = tokio::time::Instant::now();
    one.fleet.revoked();
    session.ends().await;
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert!(agent.is_shut_out(Route::Tcp).await);
    one.stop().await;
    other.stop().await;
    schema.remove().await;
}
