//! What leads into a bot's network and out of it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use launchpad_agent::execute::address::Subnet;
use launchpad_agent::execute::places::bridge_name;
use launchpad_agent::execute::{Eyes as _, Hands as _, bridge};
use launchpad_agent::plan::action::Action;
use launchpad_protocol::spec::InstanceSpec;

use crate::ground::{self, PORT, SECRETS_DIR, deploy, on_ground, until};
use crate::outside::{self, Outside, within};

#[tokio::test]
async fn a_flushed_firewall_is_put_back_by_the_gate_and_the_agent_is_told_of_both() {
    on_ground(|ground| async move {
        let spec = ground.bot("");
        let host = ground.host().await;
        deploy(&host, &spec).await;
        // Not the whole ruleset: Docker's own chains would be gone for every other test.
        outside::run("nft delete table inet launchpad");
        let told = async {
            loop {
                let observed = host.observe(&BTreeSet::new()).await.unwrap();
                let gate = &observed.gates[&spec.deployment];
                if observed.gate.is_some_and(|report| report.flushes > 0) && gate.egress_fault.is_none() {
                    return observed.networks;
                }
                let _ = tokio::time::timeout(Duration::from_secs(1), host.changed()).await;
            }
        };
        let networks = tokio::time::timeout(ground::PATIENCE, told).await.expect("it is told");
        assert_eq!(networks, BTreeSet::from([spec.account]));
    })
    .await;
}

#[tokio::test]
async fn a_bot_resolves_by_our_own_file_and_leaves_by_our_own_translation() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let resolv = ground.dir.path().join(format!("run/resolv/{}/resolv.conf", spec.deployment));
        let subnet: Subnet = ground.networks().await[0].parse().unwrap();
        assert!(fs::read_to_string(&resolv).unwrap().contains(&format!("nameserver {}\n", subnet.gateway())));
        let container = until(&host, "it runs", |container| container.running_since().is_some()).await;
        let found = ground.engine().inspect_container(&container.id, None).await.unwrap();
        let mounts = found.mounts.unwrap_or_default();
        let mount = |target: &str| mounts.iter().find(|mount| mount.destination.as_deref() == Some(target)).cloned();
        let resolv_mount = mount("/etc/resolv.conf").unwrap();
        assert_eq!((resolv_mount.source.as_deref(), resolv_mount.rw), (resolv.to_str(), Some(false)));
        assert_eq!(mount(SECRETS_DIR).unwrap().rw, Some(false));

        let rules = std::process::Command::new("nft").args(["list", "table", "inet", "launchpad"]).output().unwrap();
        let rules = String::from_utf8(rules.stdout).unwrap();
        assert!(rules.contains("masquerade") && rules.contains(&subnet.to_string()), "{rules}");
        let docker_nat =
            std::process::Command::new("iptables").args(["-t", "nat", "-S", "POSTROUTING"]).output().unwrap();
        let docker_nat = String::from_utf8(docker_nat.stdout).unwrap();
        assert!(!docker_nat.contains("172.29."), "Docker's own masquerade is off: {docker_nat}");
    })
    .await;
}

#[tokio::test]
async fn what_a_bot_sends_out_leaves_under_the_hosts_address() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let mut spec = ground.bot("");
        spec.egress.rules.insert(format!("{}/32:443", outside::THERE).parse().unwrap());
        deploy(&host, &spec).await;
        let process = ground.process_of(&host, &spec).await;
        let outside = Outside::new();
        let listener = within(&outside.namespace(), || TcpListener::bind((outside::THERE, 443)).unwrap());
        let there = listener.local_addr().unwrap();
        reaches(process, there).expect("the way out");
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), outside::HERE);
    })
    .await;
}

/// How long a connection that is to fail may try. One that is let through takes a millisecond.
const REFUSED_AFTER: Duration = Duration::from_secs(1);

/// Connects from that process's network.
fn reaches(process: i64, to: SocketAddr) -> io::Result<()> {
    within(&format!("/proc/{process}/ns/net"), || TcpStream::connect_timeout(&to, REFUSED_AFTER).map(drop))
}

#[tokio::test]
async fn another_tenants_bot_is_out_of_reach_by_our_own_wall_and_a_neighbour_of_the_same_tenant_is_not() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let (first, other) = (ground.bot(""), ground.bot(""));
        let neighbour = ground.bot_of(first.account, "");
        for spec in [&first, &neighbour, &other] {
            deploy(&host, spec).await;
        }
        let containers = host.observe(&BTreeSet::new()).await.unwrap().containers;
        let address = |spec: &InstanceSpec| {
            let found = containers.values().find(|container| container.deployment == spec.deployment).unwrap();
            SocketAddr::from((found.address.unwrap(), PORT))
        };
        for spec in [&first, &neighbour, &other] {
            let std::net::IpAddr::V4(ip) = address(spec).ip() else { unreachable!("made of one") };
            ground::answers(&host, ip, &spec.probes.startup).await;
        }
        // What Docker itself puts between networks is taken out of the way: our wall has to stand alone.
        outside::run("iptables -I DOCKER-USER -j ACCEPT");
        let process = ground.process_of(&host, &first).await;
        let (to_neighbour, to_other) = (reaches(process, address(&neighbour)), reaches(process, address(&other)));
        let from_host = TcpStream::connect_timeout(&address(&other), ground::PATIENCE);
        outside::run("iptables -D DOCKER-USER -j ACCEPT");
        to_neighbour.expect("one tenant's bots may talk");
        to_other.expect_err("another tenant's bot");
        from_host.expect("it is there, and answers whoever may come");
    })
    .await;
}

#[tokio::test]
async fn a_bot_reaches_its_name_server_at_the_gate_and_neither_the_host_nor_a_clouds_metadata() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let process = ground.process_of(&host, &spec).await;
        let outside = Outside::new();
        outside.answers_also_at("169.254.169.254");
        let metadata = within(&outside.namespace(), || TcpListener::bind("169.254.169.254:0").unwrap());
        let metadata = metadata.local_addr().unwrap();
        // The host reaches it, so that nothing but the wall stands between.
        TcpStream::connect_timeout(&metadata, ground::PATIENCE).expect("the host reaches the metadata service");
        let subnet: Subnet = ground.networks().await[0].parse().unwrap();
        let at_gateway = TcpListener::bind((subnet.gateway(), 0)).unwrap();
        let elsewhere = TcpListener::bind((outside::HERE, 0)).unwrap();

        reaches(process, (subnet.gateway(), 53).into()).expect("the name server");
        for (listener, what) in [(&at_gateway, "the host's end of the bridge"), (&elsewhere, "its own address")] {
            reaches(process, listener.local_addr().unwrap()).expect_err(what);
        }
        reaches(process, metadata).expect_err("the metadata service");
    })
    .await;
}

#[tokio::test]
async fn two_bots_of_one_tenant_that_come_at_once_share_one_network() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let first = ground.bot("");
        let second = ground.bot_of(first.account, "");
        let other = ground.bot("");
        let ensure = |account| {
            let host = &host;
            async move { host.execute(&Action::EnsureNetwork { account }).await }
        };
        let ended = tokio::join!(ensure(first.account), ensure(second.account), ensure(other.account));
        assert!(ended.0.and(ended.1).and(ended.2).is_ok());
        let networks = ground.networks().await;
        assert_eq!(networks.len(), 2, "{networks:#?}");
        assert_eq!(
            host.observe(&BTreeSet::new()).await.unwrap().networks,
            BTreeSet::from([first.account, other.account])
        );
    })
    .await;
}

#[tokio::test]
async fn a_subnet_that_another_network_has_is_passed_over() {
    on_ground(|ground| async move {
        let engine = ground.engine();
        // Somebody's network on the very first subnet of the pool, without a route yet: only Docker knows of
        // it.
        let range = bollard::models::IpamConfig { subnet: Some("172.29.0.0/26".to_owned()), ..Default::default() };
        let theirs = bollard::models::NetworkCreateRequest {
            name: "somebody-elses".to_owned(),
            ipam: Some(bollard::models::Ipam { config: Some(vec![range]), ..Default::default() }),
            ..Default::default()
        };
        let theirs = engine.create_network(theirs).await.unwrap().id;
        let link = format!("br-{}", &theirs[..12]);
        let down = std::process::Command::new("ip").args(["link", "set", &link, "down"]).status().unwrap();
        let spec = ground.bot("");
        let ensured = ground.host().await.execute(&Action::EnsureNetwork { account: spec.account }).await;
        engine.remove_network(&theirs).await.unwrap();
        assert!(down.success());
        ensured.unwrap();
        let subnets = ground.networks().await;
        assert_eq!(subnets, ["172.29.0.64/26"]);
    })
    .await;
}

#[tokio::test]
async fn what_a_dying_engine_left_of_a_network_goes_with_the_tenant() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        for engine_is_asked_again_before in [true, false] {
            let account = ground.bot("").account;
            let bridge = bridge_name(account);
            host.execute(&Action::EnsureNetwork { account }).await.unwrap();
            let filters = engines_filters(&bridge);
            assert!(!filters.is_empty());
            host.execute(&Action::RemoveNetwork { account }).await.unwrap();
            assert_eq!(engines_filters(&bridge), Vec::<String>::new());

            // As it is when the engine was killed before it wrote the network down.
            outside::run(&format!("ip link add {bridge} type bridge"));
            filters.iter().for_each(|filter| outside::run(&format!("iptables {filter}")));
            if engine_is_asked_again_before {
                host.execute(&Action::EnsureNetwork { account }).await.unwrap();
            }
            for _ in ["once", "twice"] {
                host.execute(&Action::RemoveNetwork { account }).await.unwrap();
            }
            assert!(!bridge::is_there(account), "{bridge} is left over");
            assert_eq!(engines_filters(&bridge), Vec::<String>::new());
        }
    })
    .await;
}

/// What Docker filters at that bridge, as iptables would be told of it.
fn engines_filters(bridge: &str) -> Vec<String> {
    let saved = std::process::Command::new("iptables-save").args(["-t", "filter"]).output().unwrap();
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let saved = String::from_utf8(saved.stdout).unwrap();
    saved.lines().filter(|line| line.starts_with("-A ") && line.contains(bridge)).map(str::to_owned).collect()
}
