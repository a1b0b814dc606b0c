//! Which way a host takes, and what it makes of a network that fails.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use launchpad_pki::admission::Admission;
use launchpad_pki::dial::{Dialer, FIRST_ANSWER, Route, race};
use launchpad_pki::listener::FleetListener;
use launchpad_pki::quic::ResetKey;
use launchpad_pki::tls::ClientTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::relay::Relay;
use crate::world::{SERVER, World, answer, any_port, echo, host_id, within};

/// A test's stand-in for [`FIRST_ANSWER`].
const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn quic_wins_where_udp_passes() {
    let world = World::new();
    let fleet = world.serve().await;
    let relay = Relay::to(fleet.address).await;
    let dialer = world.dialer(&world.host(1), relay.address);
    let (route, mut pipe) = within(race(Route::Quic, FIRST_ANSWER, |route| answer(&dialer, route))).await.unwrap();
    assert_eq!(route, Route::Quic);
    within(echo(&mut pipe)).await.unwrap();
}

#[tokio::test]
async fn tcp_takes_over_where_udp_is_dropped() {
    let world = World::new();
    let fleet = world.serve().await;
    let relay = Relay::to(fleet.address).await;
    relay.drop_udp();
    let dialer = world.dialer(&world.host(1), relay.address);
    let began = Instant::now();
    let (route, mut pipe) = within(race(Route::Quic, SOON, |route| answer(&dialer, route))).await.unwrap();
    assert_eq!(route, Route::Tcp);
    assert!(began.elapsed() >= SOON, "QUIC had its chance");
    within(echo(&mut pipe)).await.unwrap();
}

#[tokio::test]
async fn a_quic_answer_that_is_late_still_wins_over_no_answer() {
    let refused = Notify::new();
    let attempt = |route| {
        let refused = &refused;
        async move {
            match route {
                Route::Quic => {
                    refused.notified().await;
                    Ok("late")
                }
                Route::Tcp => {
                    refused.notify_one();
                    Err(io::Error::other("refused"))
                }
            }
        }
    };
    let (route, answer) = within(race(Route::Quic, SOON, attempt)).await.unwrap();
    assert_eq!((route, answer), (Route::Quic, "late"));
}

#[tokio::test]
async fn a_quic_that_fails_at_once_does_not_wait_for_its_time_to_be_over() {
    let attempt = |route| async move {
        match route {
            Route::Quic => Err(io::Error::other("no route to host")),
            Route::Tcp => Ok(()),
        }
    };
    let (route, ()) = within(race(Route::Quic, Duration::from_hours(1), attempt)).await.unwrap();
    assert_eq!(route, Route::Tcp);
}

#[tokio::test]
async fn the_route_that_won_last_time_may_go_first() {
    let attempt = |route| async move { if route == Route::Tcp { Ok(()) } else { Err(io::Error::other("late")) } };
    let (route, ()) = within(race(Route::Tcp, Duration::from_hours(1), attempt)).await.unwrap();
    assert_eq!(route, Route::Tcp);
    let refused = |route| async move { Err::<(), _>(io::Error::other(format!("no {route}"))) };
    let error = within(race(Route::Tcp, SOON, refused)).await.unwrap_err();
    assert_eq!((error.quic.to_string(), error.tcp.to_string()), ("no QUIC".to_owned(), "no TLS/TCP".to_owned()));
}

#[tokio::test]
async fn when_neither_answers_both_say_why() {
    let tried = Mutex::new(Vec::new());
    let attempt = |route| {
        tried.lock().unwrap().push(route);
        async move { Err::<(), _>(io::Error::other(format!("no {route}"))) }
    };
    let error = within(race(Route::Quic, SOON, attempt)).await.unwrap_err().to_string();
    assert_eq!(error, "over QUIC: no QUIC; over TLS/TCP: no TLS/TCP");
    assert_eq!(*tried.lock().unwrap(), [Route::Quic, Route::Tcp]);
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_an_unknown_one_is_named() {
    let world = World::new();
    let fleet = world.serve().await;
    let host = world.host(1);
    let closed = UdpSocket::bind(any_port()).await.unwrap().local_addr().unwrap();
    let tls = ClientTls::new(&host.credentials, &world.bundle, &world.clock).unwrap();
    let endpoints = vec![closed.to_string(), fleet.address.to_string()];
    let name = SERVER.to_owned();
    let dialer = Dialer::new(endpoints, name.clone(), tls.clone());
    answer(&dialer, Route::Tcp).await.unwrap();
    let nowhere = Dialer::new(vec![closed.to_string()], name, tls);
    let error = within(nowhere.open(Route::Tcp)).await.err().unwrap().to_string();
    assert!(error.contains(&closed.to_string()) && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_coordinator_that_came_back_after_a_crash_resets_what_died_with_it() {
    let world = World::new();
    let (before, after) = (world.serve().await, world.serve().await);
    let relay = Relay::to(before.address).await;
    let dialer = world.dialer(&world.host(1), relay.address);
    let mut pipe = answer(&dialer, Route::Quic).await.unwrap();

    relay.lead_to(after.address);
    let began = Instant::now();
    // The old connection's next packet tells: long before the 30 s of silence after which it would be given
    // up.
    let lost = within(echo(&mut pipe)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{lost}");
    assert!(lost.to_string().contains("reset") || lost.kind() == io::ErrorKind::ConnectionReset, "{lost:?}");
    answer(&dialer, Route::Quic).await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_stops_says_so() {
    let world = World::new();
    let fleet = world.serve().await;
    let mut pipe = answer(&world.dialer(&world.host(1), fleet.address), Route::Quic).await.unwrap();
    within(fleet.control.close()).await;
    let told = within(pipe.read(&mut [0; 1])).await.unwrap_err().to_string();
    assert!(told.contains("the coordinator stops"), "{told}");
}

#[tokio::test]
async fn a_listener_that_was_dropped_frees_its_port() {
    let world = World::new();
    let fleet = world.serve().await;
    let (address, control) = (fleet.address, fleet.control.clone());
    drop(fleet);
    within(control.close()).await;
    drop(control);
    let bind = async {
        loop {
            let reset = ResetKey::of(&world.ca);
            match FleetListener::bind(address, &world.tls(&[]), &reset, Admission::new([], [])).await {
                Ok(listener) => return listener,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    assert_eq!(within(bind).await.local_addr(), address);
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let world = World::new();
    let fleet = world.serve().await;
    let reset = ResetKey::of(&world.ca);
    let again = FleetListener::bind(fleet.address, &world.tls(&[]), &reset, Admission::new([], [])).await;
    let error = again.err().unwrap().to_string();
    assert!(error.contains(&fleet.address.to_string()) && error.contains("TCP"), "{error}");
}

#[tokio::test]
async fn noise_on_the_port_is_not_a_pipe() {
    let world = World::new();
    let mut fleet = world.serve().await;
    let udp = UdpSocket::bind(any_port()).await.unwrap();
    udp.send_to(&[0xc3; 1_200], fleet.address).await.unwrap();
    let mut tcp = TcpStream::connect(fleet.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    tcp.read_to_end(&mut Vec::new()).await.unwrap();
    answer(&world.dialer(&world.host(1), fleet.address), Route::Quic).await.unwrap();
    assert_eq!(within(fleet.peers.recv()).await.unwrap().host, host_id(1), "the host is the first to come out");
}
