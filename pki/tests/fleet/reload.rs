//! Certificates change under open streams, which stay.

use std::time::Duration;

use launchpad_pki::ca::HOST_LIFE;
use launchpad_pki::dial::Route;
use launchpad_pki::host_key::HostKey;
use launchpad_pki::tls::FleetTls;

use crate::world::{ROUTES, SERVER, START, World, answer, dialer, domain, echo, host_id, within};

#[tokio::test]
async fn a_renewed_host_keeps_its_streams_and_shows_its_new_certificate_on_new_ones() {
    let world = World::new();
    let mut fleet = world.serve().await;
    let host = world.host(7);
    let dialer = world.dialer(&host, fleet.address);
    for route in ROUTES {
        let mut open = answer(&dialer, route).await.unwrap();
        let before = within(fleet.peers.recv()).await.unwrap();

        let key = HostKey::generate().unwrap();
        let renewed = world.ca.issue_host(&key.csr_der().unwrap(), host_id(7), START, HOST_LIFE).unwrap();
        host.credentials.replace(renewed.chain_der, &key).unwrap();

        within(echo(&mut open)).await.unwrap();
        answer(&dialer, route).await.unwrap();
        let after = within(fleet.peers.recv()).await.unwrap();
        assert_eq!((before.host, after.host), (host_id(7), host_id(7)));
        assert_ne!(before.serial, after.serial);
        assert_eq!(after.serial, renewed.serial);
        within(echo(&mut open)).await.unwrap();
    }
}

#[tokio::test]
async fn a_coordinator_changes_its_ca_and_open_streams_stay() {
    let (old, new) = (World::new(), World::new());
    let fleet = old.serve().await;
    for route in ROUTES {
        let mut open = answer(&old.dialer(&old.host(1), fleet.address), route).await.unwrap();

        let server = new.ca.issue_server(&[SERVER.to_owned()], START).unwrap();
        old.server.replace(server.chain_der, &server.key).unwrap();
        let tls = FleetTls::new(&old.server, &new.bundle, &[new.crl(&[])], &domain(), &old.clock).unwrap();
        fleet.control.reload(&tls).unwrap();

        within(echo(&mut open)).await.unwrap();
        answer(&new.dialer(&new.host(2), fleet.address), route).await.unwrap();
        let left_behind = dialer(&old.host(1).credentials, &new.bundle, fleet.address);
        assert!(answer(&left_behind, route).await.is_err(), "{route}");
        within(echo(&mut open)).await.unwrap();

        let server = old.ca.issue_server(&[SERVER.to_owned()], START).unwrap();
        old.server.replace(server.chain_der, &server.key).unwrap();
        fleet.control.reload(&old.tls(&[])).unwrap();
    }
}

#[tokio::test]
async fn a_renewal_under_load_loses_no_byte() {
    let world = World::new();
    let fleet = world.serve().await;
    let host = world.host(7);
    let dialer = world.dialer(&host, fleet.address);
    let mut open = answer(&dialer, Route::Quic).await.unwrap();
    let talk = tokio::spawn(async move {
        for _ in 0..500 {
            echo(&mut open).await.unwrap();
        }
    });
    let mut renewals = 0;
    while !talk.is_finished() || renewals == 0 {
        let key = HostKey::generate().unwrap();
        let life = Duration::from_hours(1);
        let renewed = world.ca.issue_host(&key.csr_der().unwrap(), host_id(7), START, life).unwrap();
        host.credentials.replace(renewed.chain_der, &key).unwrap();
        answer(&dialer, Route::Quic).await.unwrap();
        renewals += 1;
    }
    within(talk).await.unwrap();
}

#[test]
fn a_key_that_is_not_the_certificates_changes_nothing() {
    let world = World::new();
    let host = world.host(7);
    let other = HostKey::generate().unwrap();
    assert!(host.credentials.replace(world.host(7).issued.chain_der, &other).is_err());
    assert_eq!(host.credentials.leaf().as_ref(), host.issued.chain_der.first());
}
