//! Who gets in, and as whom.

use std::time::Duration;

use launchpad_pki::admission::Admission;
use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::{CaError, ISSUING_LIFE, RootCa};
use launchpad_pki::dial::Dialer;
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::listener::FleetListener;
use launchpad_pki::pipe::Transport;
use launchpad_pki::quic::ResetKey;
use launchpad_pki::tls::{ClientTls, Credentials, FleetTls, TlsError};

use crate::world::{DEADLINE, ROUTES, SERVER, START, World, answer, any_port, dialer, domain, echo, host_id, within};

#[tokio::test]
async fn both_routes_carry_the_same_peer() {
    let world = World::new();
    let mut fleet = world.serve().await;
    let host = world.host(7);
    let dialer = world.dialer(&host, fleet.address);
    let mut seen = Vec::new();
    for route in ROUTES {
        answer(&dialer, route).await.unwrap();
        seen.push(within(fleet.peers.recv()).await.unwrap());
    }
    assert_eq!((seen[0].transport, seen[1].transport), (Transport::Quic, Transport::Tcp));
    for peer in seen {
        assert_eq!(peer.host, host_id(7));
        assert_eq!(peer.serial, host.issued.serial);
        assert_eq!(peer.not_after, host.issued.not_after);
        assert!(peer.remote.starts_with("127.0.0.1:"), "{}", peer.remote);
    }
}

#[tokio::test]
async fn a_host_of_another_ca_is_refused() {
    let (world, other) = (World::new(), World::new());
    let mut fleet = world.serve().await;
    let stranger = dialer(&other.host(7).credentials, &world.bundle, fleet.address);
    for route in ROUTES {
        assert!(answer(&stranger, route).await.is_err(), "{route}");
    }
    assert!(fleet.peers.try_recv().is_err(), "not a byte reaches the server");
}

#[tokio::test]
async fn a_coordinator_of_another_ca_is_refused() {
    let (world, other) = (World::new(), World::new());
    let mut fleet = world.serve().await;
    let host = dialer(&world.host(7).credentials, &other.bundle, fleet.address);
    for route in ROUTES {
        let error = host.open(route).await.err().unwrap().to_string();
        assert!(error.contains("UnknownIssuer"), "{error}");
    }
    assert!(fleet.peers.try_recv().is_err());
}

#[tokio::test]
async fn a_server_under_another_name_is_refused() {
    let world = World::new();
    let fleet = world.serve().await;
    let host = world.host(7);
    let tls = ClientTls::new(&host.credentials, &world.bundle, &world.clock).unwrap();
    let lost = Dialer::new(vec![fleet.address.to_string()], "other.internal".to_owned(), tls);
    for route in ROUTES {
        assert!(lost.open(route).await.is_err(), "{route}");
    }
}

#[tokio::test]
async fn a_host_whose_certificate_expired_is_refused() {
    let world = World::new();
    let fleet = world.serve().await;
    let dialer = world.dialer(&world.host(7), fleet.address);
    for route in ROUTES {
        answer(&dialer, route).await.unwrap();
    }
    world.clock.advance(Duration::from_hours(25));
    for route in ROUTES {
        let error = answer(&dialer, route).await.err().unwrap().to_string();
        assert!(error.to_lowercase().contains("expired"), "{route}: {error}");
    }
}

#[tokio::test]
async fn an_open_stream_outlives_its_certificate() {
    let world = World::new();
    let fleet = world.serve().await;
    let dialer = world.dialer(&world.host(7), fleet.address);
    let mut open = Vec::new();
    for route in ROUTES {
        open.push(answer(&dialer, route).await.unwrap());
    }
    world.clock.advance(Duration::from_hours(25));
    for pipe in &mut open {
        within(echo(pipe)).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_of_another_trust_domain_is_refused_below_the_same_root() {
    let elsewhere = TrustDomain::new("elsewhere.internal").unwrap();
    let root = RootCa::create(&domain(), START).unwrap();
    let (ca, other) = (root.sign_issuing(&domain(), START).unwrap(), root.sign_issuing(&elsewhere, START).unwrap());
    let world = World::of(ca);
    let crls = [world.crl(&[]), other.crl(&[], START).unwrap()];
    let tls = FleetTls::new(&world.server, &world.bundle, &crls, &domain(), &world.clock).unwrap();
    let reset = ResetKey::of(&world.ca);
    let listener = FleetListener::bind(any_port(), &tls, &reset, Admission::new([], [])).await.unwrap();
    let key = HostKey::generate().unwrap();
    let issued = other.issue_host(&key.csr_der().unwrap(), host_id(7), START, DEADLINE).unwrap();
    let credentials = Credentials::new(issued.chain_der, &key).unwrap();
    let stranger = dialer(&credentials, &world.bundle, listener.local_addr());
    for route in ROUTES {
        assert!(answer(&stranger, route).await.is_err(), "{route}");
    }
}

#[tokio::test]
async fn a_server_certificate_does_not_pass_for_a_host() {
    let world = World::new();
    let fleet = world.serve().await;
    let server = dialer(&world.server, &world.bundle, fleet.address);
    for route in ROUTES {
        assert!(answer(&server, route).await.is_err(), "{route}");
    }
}

#[tokio::test]
async fn a_host_certificate_does_not_pass_for_a_coordinator() {
    let mut world = World::new();
    world.server = world.host(8).credentials;
    let fleet = world.serve().await;
    let dialer = world.dialer(&world.host(7), fleet.address);
    for route in ROUTES {
        assert!(dialer.open(route).await.is_err(), "{route}");
    }
}

#[tokio::test]
async fn hosts_below_both_roots_get_in_while_the_ca_rotates() {
    let (old, new) = (World::new(), World::new());
    let both = [old.bundle.roots(), new.bundle.roots()].concat();
    let both = TrustBundle::from_pem(&TrustBundle::new(both).unwrap().to_pem()).unwrap();
    let fleet = new.serve().await;
    let crls = [old.crl(&[]), new.crl(&[])];
    fleet.control.reload(&FleetTls::new(&new.server, &both, &crls, &domain(), &new.clock).unwrap()).unwrap();
    for host in [old.host(1), new.host(2)] {
        let dialer = dialer(&host.credentials, &both, fleet.address);
        for route in ROUTES {
            answer(&dialer, route).await.unwrap();
        }
    }
}

#[test]
fn a_fleet_listener_without_a_list_of_revoked_certificates_is_refused() {
    let world = World::new();
    let refused = FleetTls::new(&world.server, &world.bundle, &[], &domain(), &world.clock);
    assert!(matches!(refused, Err(TlsError::NoCrl)));
}

#[test]
fn an_expired_issuing_ca_issues_nothing() {
    let world = World::new();
    let late = START + ISSUING_LIFE;
    assert!(matches!(world.ca.issue_server(&[SERVER.to_owned()], late), Err(CaError::Expired(_))));
    let last = world.ca.issue_server(&[SERVER.to_owned()], late - Duration::from_secs(60)).unwrap();
    assert_eq!(last.not_after, world.ca.not_after(), "nothing outlives its CA");
}
