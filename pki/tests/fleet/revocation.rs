//! A revoked host does not get in, and what it has open closes within a second.

use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::admission::CONNECTIONS_PER_HOST_MAX;
use launchpad_pki::ca::{CRL_LIFE, HOST_LIFE};
use launchpad_pki::dial::{Dialer, Route};
use launchpad_pki::host_key::HostKey;
use launchpad_pki::pipe::Lane;
use launchpad_pki::tls::{Carrier, ClientTls, Credentials, FleetTls, client_config};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::world::{ROUTES, SERVER, World, answer, domain, echo, host_id, until, within};

/// What the issue asks of a revocation.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_certificate_on_the_list_is_refused_and_others_are_not() {
    let world = World::new();
    let fleet = world.serve().await;
    let (bad, good) = (world.host(1), world.host(2));
    let (bad_dialer, good_dialer) = (world.dialer(&bad, fleet.address), world.dialer(&good, fleet.address));
    for route in ROUTES {
        answer(&bad_dialer, route).await.unwrap();
    }
    fleet.control.reload(&world.tls(&[bad.issued.serial])).unwrap();
    for route in ROUTES {
        let error = answer(&bad_dialer, route).await.err().unwrap().to_string();
        assert!(error.to_lowercase().contains("revoked"), "{route}: {error}");
        answer(&good_dialer, route).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_that_would_resume_its_session_is_checked_again() {
    let world = World::new();
    let fleet = world.serve().await;
    let ours = client_config(&world.host(1).credentials, &world.bundle, Carrier::Tcp, &world.clock).unwrap();
    let mut resuming = ClientConfig::clone(&ours);
    resuming.resumption = Resumption::in_memory_sessions(8);
    let connector = TlsConnector::from(Arc::new(resuming));
    for _ in 0..2 {
        let tcp = TcpStream::connect(fleet.address).await.unwrap();
        let mut stream = connector.connect(ServerName::try_from(SERVER).unwrap(), tcp).await.unwrap();
        // A ticket, if there were one, would come before the echo.
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn an_outdated_list_lets_nobody_in() {
    let world = World::new();
    let fleet = world.serve().await;
    world.clock.advance(CRL_LIFE + Duration::from_secs(1));
    // Everything is in force now but the list.
    let now = world.clock.wall();
    let server = world.ca.issue_server(&[SERVER.to_owned()], now).unwrap();
    world.server.replace(server.chain_der, &server.key).unwrap();
    let key = HostKey::generate().unwrap();
    let issued = world.ca.issue_host(&key.csr_der().unwrap(), host_id(1), now, HOST_LIFE).unwrap();
    let credentials = Credentials::new(issued.chain_der, &key).unwrap();
    let tls = ClientTls::new(&credentials, &world.bundle, &world.clock).unwrap();
    let dialer = Dialer::new(vec![fleet.address.to_string()], SERVER.to_owned(), tls);
    for route in ROUTES {
        assert!(answer(&dialer, route).await.is_err(), "{route}");
    }
    let fresh = [world.ca.crl(&[], now).unwrap()];
    let tls = FleetTls::new(&world.server, &world.bundle, &fresh, &domain(), &world.clock).unwrap();
    fleet.control.reload(&tls).unwrap();
    for route in ROUTES {
        answer(&dialer, route).await.unwrap();
    }
}

#[tokio::test]
async fn a_revocation_closes_what_is_open_and_lets_nothing_in() {
    let world = World::new();
    for route in ROUTES {
        let fleet = world.serve().await;
        let (bad, good) = (world.host(1), world.host(2));
        let dialer = world.dialer(&bad, fleet.address);
        let mut pipe = answer(&dialer, route).await.unwrap();
        let mut other = answer(&world.dialer(&good, fleet.address), route).await.unwrap();
        assert_eq!(fleet.admission.live(host_id(1)), 1);

        assert_eq!(fleet.admission.revoke_host(host_id(1)), 1);

        let end = timeout(CLOSED_WITHIN, pipe.read(&mut [0; 1])).await.expect("closed within a second");
        assert!(end.is_err() || end.is_ok_and(|bytes| bytes == 0), "{route}");
        assert!(answer(&dialer, route).await.is_err(), "{route}: the certificate alone would still do");
        within(echo(&mut other)).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_that_was_only_closed_may_come_back() {
    let world = World::new();
    let fleet = world.serve().await;
    let dialer = world.dialer(&world.host(1), fleet.address);
    for route in ROUTES {
        let mut pipe = answer(&dialer, route).await.unwrap();
        assert_eq!(fleet.admission.close_host(host_id(1)), 1);
        assert!(within(echo(&mut pipe)).await.is_err());
        answer(&dialer, route).await.unwrap();
        fleet.admission.close_host(host_id(1));
    }
}

#[tokio::test]
async fn a_denied_certificate_is_refused_though_its_host_is_not() {
    let world = World::new();
    let fleet = world.serve().await;
    let (old, new) = (world.host(1), world.host(1));
    fleet.admission.deny_serial(old.issued.serial);
    for route in ROUTES {
        assert!(answer(&world.dialer(&old, fleet.address), route).await.is_err(), "{route}");
        answer(&world.dialer(&new, fleet.address), route).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_that_reconnects_for_ever_loses_its_oldest_connections_only() {
    let world = World::new();
    let fleet = world.serve().await;
    let most = CONNECTIONS_PER_HOST_MAX;
    for route in ROUTES {
        let dialer = world.dialer(&world.host(1), fleet.address);
        let mut open = Vec::new();
        for _ in 0..=most {
            open.push(answer(&dialer, route).await.unwrap());
        }
        assert!(within(echo(&mut open[0])).await.is_err(), "{route}: the oldest went");
        for pipe in &mut open[1..] {
            within(echo(pipe)).await.unwrap();
        }
        assert_eq!(fleet.admission.live(host_id(1)), most);
        drop(open);
        until("connections that ended are forgotten", || fleet.admission.live(host_id(1)) == 0).await;
    }
}

#[tokio::test]
async fn the_lanes_of_one_quic_connection_close_together() {
    let world = World::new();
    let fleet = world.serve().await;
    let dial = world.dialer(&world.host(1), fleet.address).open(Route::Quic).await.unwrap();
    let mut lanes = Vec::new();
    for lane in [Lane::Control, Lane::Answer, Lane::Renew] {
        let mut pipe = dial(lane).await.unwrap();
        within(echo(&mut pipe)).await.unwrap();
        lanes.push(pipe);
    }
    assert_eq!(fleet.admission.revoke_host(host_id(1)), 1, "three lanes, one connection");
    for pipe in &mut lanes {
        assert!(within(echo(pipe)).await.is_err());
    }
}
