//! One issuing CA takes over from another: what a host sees that has missed it.

use std::collections::BTreeSet;
use std::time::Duration;

use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::{HOST_LIFE, RootCa, SERVER_BACKDATED};
use launchpad_pki::dial::{Route, enroll_dial};
use launchpad_pki::enroll_listener::EnrollListener;
use launchpad_pki::pipe::Lane;
use launchpad_pki::tls::{ClientTls, Credentials, FleetTls, enroll_client_config, enroll_server_config};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::time::Clock;

use crate::world::{ROUTES, SERVER, START, World, answer, any_port, dialer, domain};

/// A world whose root is at hand.
fn world_of(root: &RootCa) -> World {
    World::of(root.sign_issuing(&domain(), START).unwrap())
}

/// The new world's server, with the bridge from the old root in its chain.
fn bridged(old_root: &RootCa, new: &World) -> std::sync::Arc<Credentials> {
    let mut own = new.ca.issue_server(&[SERVER.to_owned()], START).unwrap();
    own.chain_der.push(old_root.bridge_to(&new.ca, START).unwrap());
    own.chain_der.push(old_root.certificate().clone());
    Credentials::new(own.chain_der, &own.key).unwrap()
}

fn both(old: &World, new: &World) -> TrustBundle {
    TrustBundle::new([old.bundle.roots(), new.bundle.roots()].concat()).unwrap()
}

#[tokio::test]
async fn a_host_that_knows_only_the_root_before_is_led_over_a_bridge() {
    let (old_root, new_root) = (RootCa::create(&domain(), START).unwrap(), RootCa::create(&domain(), START).unwrap());
    let (old, mut new) = (world_of(&old_root), world_of(&new_root));
    let host = old.host(7);
    new.server = bridged(&old_root, &new);
    let fleet = new.serve().await;
    let crls = [old.crl(&[]), new.crl(&[])];
    let tls = FleetTls::new(&new.server, &both(&old, &new), &crls, &domain(), &new.clock).unwrap();
    fleet.control.reload(&tls).unwrap();
    for (knows, bundle) in [("the old root", &old.bundle), ("the new root", &new.bundle), ("both", &both(&old, &new))]
    {
        let dialer = dialer(&host.credentials, bundle, fleet.address);
        for route in ROUTES {
            answer(&dialer, route).await.unwrap_or_else(|error| panic!("{knows} over {route}: {error}"));
        }
    }
}

#[tokio::test]
async fn without_the_bridge_it_is_refused() {
    let (old, new) = (World::new(), World::new());
    let fleet = new.serve().await;
    let lost = dialer(&new.host(7).credentials, &old.bundle, fleet.address);
    assert!(answer(&lost, Route::Tcp).await.is_err());
}

#[tokio::test]
async fn whoever_pins_either_root_meets_the_enrolment_listener() {
    let (old_root, new_root) = (RootCa::create(&domain(), START).unwrap(), RootCa::create(&domain(), START).unwrap());
    let new = world_of(&new_root);
    let clock = Clock::manual(START);
    let config = enroll_server_config(&bridged(&old_root, &new), &clock).unwrap();
    let listener = EnrollListener::bind(any_port(), config).await.unwrap();
    for root in [&old_root, &new_root] {
        let pins = BTreeSet::from([Digest::of(root.certificate())]);
        let dial = enroll_dial(listener.local_addr().to_string(), enroll_client_config(pins, &clock).unwrap());
        dial(Lane::Renew).await.unwrap();
    }
}

#[tokio::test]
async fn a_ca_without_a_list_has_ended_although_its_root_stands() {
    let root = RootCa::create(&domain(), START).unwrap();
    let (old, new) = (world_of(&root), world_of(&root));
    let (before, after) = (old.host(1), new.host(2));
    let fleet = new.serve().await;
    for route in ROUTES {
        let error = answer(&old.dialer(&before, fleet.address), route).await.err().unwrap().to_string();
        assert!(
            error.contains("UnknownCA") || error.contains("unknown_ca") || error.contains("48"),
            "{route}: {error}"
        );
        answer(&new.dialer(&after, fleet.address), route).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_whose_clock_is_an_hour_off_either_way_knows_a_server_of_this_minute() {
    let world = World::new();
    let fleet = world.serve().await;
    let host = world.host(7);
    let hour = Duration::from_hours(1);
    for theirs in [START - hour, START + hour] {
        let tls = ClientTls::new(&host.credentials, &world.bundle, &Clock::manual(theirs)).unwrap();
        let dialer = launchpad_pki::dial::Dialer::new(vec![fleet.address.to_string()], SERVER.to_owned(), tls);
        for route in ROUTES {
            answer(&dialer, route).await.unwrap();
        }
    }
    let tls =
        ClientTls::new(&host.credentials, &world.bundle, &Clock::manual(START - SERVER_BACKDATED - hour)).unwrap();
    let lost = launchpad_pki::dial::Dialer::new(vec![fleet.address.to_string()], SERVER.to_owned(), tls);
    assert!(answer(&lost, Route::Tcp).await.is_err(), "and beyond what is backdated it does not");
    assert!(hour < HOST_LIFE);
}

#[test]
fn bundles_are_told_apart_by_their_roots_in_any_order() {
    let (one, other) = (World::new(), World::new());
    let (ab, ba) = (both(&one, &other), both(&other, &one));
    assert_eq!(ab.digest(), ba.digest());
    assert_ne!(ab.digest(), one.bundle.digest());
    assert_ne!(one.bundle.digest(), other.bundle.digest());
}
