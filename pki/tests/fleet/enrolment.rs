//! A host that knows nothing but a token meets its coordinator, and nobody else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use launchpad_pki::dial::{Route, enroll_dial};
use launchpad_pki::enroll_listener::{ENROLL_CONNECTION_LIFE, EnrollListener, EnrollPeer};
use launchpad_pki::pipe::Lane;
use launchpad_pki::tls::{Credentials, enroll_client_config, enroll_server_config};
use launchpad_pki::token::JoinToken;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::JoinTokenId;
use launchpad_protocol::time::Clock;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::server::Connected as _;

use crate::world::{START, World, any_port, echo, within};

struct Desk {
    endpoint: String,
    callers: mpsc::UnboundedReceiver<EnrollPeer>,
    task: JoinHandle<()>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn desk(credentials: &Arc<Credentials>) -> Desk {
    desk_for(credentials, ENROLL_CONNECTION_LIFE).await
}

async fn desk_for(credentials: &Arc<Credentials>, life: Duration) -> Desk {
    let config = enroll_server_config(credentials, &Clock::manual(START)).unwrap();
    let mut listener = EnrollListener::bind_for(any_port(), config, life).await.unwrap();
    // A name that no certificate carries: the pin decides, not the address.
    let endpoint = format!("localhost:{}", listener.local_addr().port());
    let (seen, callers) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Some(Ok(pipe)) = listener.next().await {
            let _ = seen.send(pipe.connect_info());
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(pipe);
                drop(tokio::io::copy(&mut read, &mut write).await);
            });
        }
    });
    Desk { endpoint, callers, task }
}

async fn meets(endpoint: &str, pins: BTreeSet<Digest>) -> std::io::Result<()> {
    let config = enroll_client_config(pins, &Clock::manual(START)).unwrap();
    let dial = enroll_dial(endpoint.to_owned(), config);
    within(async {
        let mut pipe = dial(Lane::Renew).await?;
        echo(&mut pipe).await
    })
    .await
}

#[tokio::test]
async fn a_token_leads_to_its_coordinator_under_any_name() {
    let world = World::new();
    let mut desk = desk(&world.server).await;
    let id = JoinTokenId::from(uuid::Uuid::from_u128(1));
    let text = JoinToken::new(id, world.ca.root_digest()).unwrap().to_text();
    let token: JoinToken = text.parse().unwrap();
    meets(&desk.endpoint, [token.root].into()).await.unwrap();
    assert!(within(desk.callers.recv()).await.unwrap().remote.ip().is_loopback());
}

#[tokio::test]
async fn a_coordinator_below_another_root_is_refused_before_the_token_is_shown() {
    let (world, other) = (World::new(), World::new());
    let mut desk = desk(&other.server).await;
    let error = meets(&desk.endpoint, [world.ca.root_digest()].into()).await.unwrap_err().to_string();
    assert!(error.contains("token is of another coordinator"), "{error}");
    assert!(desk.callers.try_recv().is_err());
}

#[tokio::test]
async fn showing_the_right_root_beside_a_chain_of_ones_own_does_not_help() {
    let (world, thief) = (World::new(), World::new());
    let server = thief.ca.issue_server(&["localhost".to_owned()], START).unwrap();
    let chain = [server.chain_der, world.bundle.roots().to_vec()].concat();
    let desk = desk(&Credentials::new(chain, &server.key).unwrap()).await;
    let error = meets(&desk.endpoint, [world.ca.root_digest()].into()).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_host_of_the_same_installation_cannot_play_the_coordinator() {
    let world = World::new();
    let host = world.host(1);
    let chain = [host.issued.chain_der, world.bundle.roots().to_vec()].concat();
    let desk = desk(&Credentials::new(chain, &host.key).unwrap()).await;
    assert!(meets(&desk.endpoint, [world.ca.root_digest()].into()).await.is_err());
}

#[tokio::test]
async fn a_bundle_of_two_roots_pins_either() {
    let (old, new) = (World::new(), World::new());
    let desk = desk(&new.server).await;
    let pins = [old.ca.root_digest(), new.ca.root_digest()].into();
    meets(&desk.endpoint, pins).await.unwrap();
}

#[tokio::test]
async fn the_fleet_listener_is_shut_to_whoever_shows_no_certificate() {
    let world = World::new();
    let mut fleet = world.serve().await;
    assert!(meets(&fleet.address.to_string(), world.bundle.digests()).await.is_err());
    assert!(fleet.peers.try_recv().is_err());
    let dialer = world.dialer(&world.host(1), fleet.address);
    crate::world::answer(&dialer, Route::Tcp).await.unwrap();
}

#[tokio::test]
async fn a_stranger_cannot_hold_a_connection_for_ever() {
    let world = World::new();
    let desk = desk_for(&world.server, Duration::from_millis(50)).await;
    let config = enroll_client_config(world.bundle.digests(), &Clock::manual(START)).unwrap();
    let mut pipe = enroll_dial(desk.endpoint.clone(), config)(Lane::Renew).await.unwrap();
    let end = within(pipe.read(&mut [0; 1])).await;
    assert!(end.is_err() || end.is_ok_and(|bytes| bytes == 0));
}
