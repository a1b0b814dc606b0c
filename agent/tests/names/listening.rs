//! Where it listens: on the gateways of its tenants, as these come and go.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use launchpad_agent::gate::policy::{GatePolicy, TenantGate};
use launchpad_protocol::egress::Cidr;
use tokio::net::{TcpListener, UdpSocket};

use crate::bot::Bot;
use crate::ground::{Ground, network, soon, tenant, within};
use crate::server::{Says, Server, leads};

const NAME: &str = "api.example.com";

async fn world() -> (Server, Ground) {
    let server = Server::new().await;
    server.says(NAME, Says::Records(leads(NAME, 300, &[[203, 0, 113, 7]])));
    let ground = Ground::new(&[server.address], &[&[NAME]]).await;
    (server, ground)
}

#[tokio::test]
async fn a_tenant_that_goes_takes_its_name_server_along_and_one_that_comes_back_finds_it() {
    let (_server, ground) = world().await;
    let before = Arc::clone(&ground.policy.borrow());
    ground.policy.send_replace(Arc::new(GatePolicy::default()));
    soon("the gateway to be let go of", || ground.names.look().tenants.is_empty()).await;
    // Both are free again.
    within("the port", async {
        let datagrams = UdpSocket::bind(ground.gateway()).await.expect("free");
        let connections = TcpListener::bind(ground.gateway()).await.expect("free");
        drop((datagrams, connections));
    })
    .await;
    ground.policy.send_replace(before);
    soon("the gateway to be listened on again", || ground.names.look().tenants.get(&tenant(1)) == Some(&None)).await;
    assert_eq!(Bot::new(&ground, 2).await.ask(NAME).await.answers.len(), 1);
}

#[tokio::test]
async fn a_port_that_another_server_holds_is_told_with_its_mend_and_taken_once_it_is_free() {
    let (_server, ground) = world().await;
    let before = Arc::clone(&ground.policy.borrow());
    ground.policy.send_replace(Arc::new(GatePolicy::default()));
    soon("the gateway to be let go of", || ground.names.look().tenants.is_empty()).await;
    let other = UdpSocket::bind(ground.gateway()).await.expect("free");
    ground.policy.send_replace(before);
    let trouble = || ground.names.look().tenants.get(&tenant(1)).cloned().flatten();
    soon("the trouble to be told", || trouble().is_some()).await;
    let reason = trouble().expect("told");
    assert!(reason.code == "names-deaf" && reason.mend.is_some(), "{reason}");
    drop(other);
    soon("the port to be taken", || trouble().is_none()).await;
    assert_eq!(Bot::new(&ground, 2).await.ask(NAME).await.answers.len(), 1);
}

#[tokio::test]
async fn a_gateway_that_does_not_exist_yet_is_listened_on_all_the_same() {
    let (_server, ground) = world().await;
    let mut policy = GatePolicy::clone(&ground.policy.borrow());
    // TEST-NET-1: no address of this machine.
    let subnet: Cidr = "192.0.2.0/24".parse().expect("a range");
    policy.tenants.insert(tenant(2), TenantGate { bridge: "lp2".to_owned(), subnet });
    ground.policy.send_replace(Arc::new(policy));
    soon("both to be listened on", || {
        let tenants = ground.names.look().tenants;
        tenants.len() == 2 && tenants.values().all(Option::is_none)
    })
    .await;
}

#[tokio::test]
async fn a_bot_is_refused_at_its_neighbours_gateway() {
    let (server, ground) = world().await;
    let mut policy = GatePolicy::clone(&ground.policy.borrow());
    let subnet = Cidr::new(network().into(), 24).expect("a network");
    let tenant_gate = TenantGate { bridge: "lp2".to_owned(), subnet };
    let other = tenant_gate.gateway();
    policy.tenants.insert(tenant(2), tenant_gate);
    ground.policy.send_replace(Arc::new(policy));
    soon("both to be listened on", || ground.names.look().tenants.len() == 2).await;
    let bot = Bot::at(ground.address(2), (other, ground.gateway().port()).into()).await;
    assert_eq!(bot.ask(NAME).await.metadata.response_code, ResponseCode::Refused);
    assert!(server.came().is_empty());
}

#[tokio::test]
async fn it_ends_when_it_is_told_to_and_leaves_no_ear_behind() {
    let (_server, ground) = world().await;
    ground.stop.cancel();
    let gateway = ground.gateway();
    within("the end", ground.serving).await.expect("no panic");
    within("the port", async {
        while UdpSocket::bind(gateway).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
