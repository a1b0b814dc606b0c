//! What leads into a bot's network and out of it.

use std::collections::BTreeSet;
use std::fs;

use launchpad_agent::execute::{Eyes as _, Hands as _};
use launchpad_agent::plan::action::Action;

use crate::ground::{self, SECRETS_DIR, deploy, on_ground, until};

#[tokio::test]
async fn a_flushed_firewall_is_seen_and_mended() {
    on_ground(|ground| async move {
        let spec = ground.bot("");
        let host = ground.host();
        deploy(&host, &spec).await;
        let flushed = std::process::Command::new("nft").args(["delete", "table", "inet", "launchpad_nat"]).status();
        assert!(flushed.unwrap().success());
        // A restarted agent looks at everything, as a running one does every minute.
        let host = ground.host();
        assert_eq!(host.observe(&BTreeSet::new()).await.unwrap().networks, BTreeSet::new());
        host.execute(&Action::EnsureNetwork { account: spec.account }).await.unwrap();
        assert_eq!(host.observe(&BTreeSet::new()).await.unwrap().networks, BTreeSet::from([spec.account]));
    })
    .await;
}

#[tokio::test]
async fn a_bot_resolves_by_our_own_file_and_leaves_by_our_own_translation() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let resolv = ground.dir.path().join(format!("run/resolv/{}/resolv.conf", spec.deployment));
        assert!(fs::read_to_string(&resolv).unwrap().contains("nameserver 192.0.2.53\n"));
        let container = until(&host, "it runs", |container| container.running_since().is_some()).await;
        let found = ground.engine().inspect_container(&container.id, None).await.unwrap();
        let mounts = found.mounts.unwrap_or_default();
        let mount = |target: &str| mounts.iter().find(|mount| mount.destination.as_deref() == Some(target)).cloned();
        let resolv_mount = mount("/etc/resolv.conf").unwrap();
        assert_eq!((resolv_mount.source.as_deref(), resolv_mount.rw), (resolv.to_str(), Some(false)));
        assert_eq!(mount(SECRETS_DIR).unwrap().rw, Some(false));

        let rules =
            std::process::Command::new("nft").args(["list", "table", "inet", "launchpad_nat"]).output().unwrap();
        let rules = String::from_utf8(rules.stdout).unwrap();
        assert!(rules.contains("masquerade") && rules.contains(&spec.account.to_string()), "{rules}");
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
        let host = ground.host();
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let container = until(&host, "it runs", |container| container.running_since().is_some()).await;
        let found = ground.engine().inspect_container(&container.id, None).await.unwrap();
        let process = found.state.unwrap().pid.unwrap();
        let outside = Outside::new();
        let seen = tokio::task::spawn_blocking(move || outside.sees(process)).await.unwrap();
        assert_eq!(seen, "198.18.77.1", "and not {:?}", container.address);
    })
    .await;
}

/// A network namespace beyond the host's, which has no way back to a tenant's addresses.
struct Outside;

impl Outside {
    const NAME: &str = "lp-test-outside";

    fn new() -> Self {
        let outside = Self;
        for command in [
            "ip netns add lp-test-outside",
            "ip link add lp-out-a type veth peer name lp-out-b netns lp-test-outside",
            "ip addr add 198.18.77.1/30 dev lp-out-a",
            "ip link set lp-out-a up",
            "ip -n lp-test-outside addr add 198.18.77.2/30 dev lp-out-b",
            "ip -n lp-test-outside link set lp-out-b up",
        ] {
            let mut words = command.split(' ');
            let ended = std::process::Command::new(words.next().unwrap()).args(words).output().unwrap();
            assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
        }
        outside
    }

    /// The address under which a connection from that process's network arrives.
    fn sees(&self, process: i64) -> String {
        let within = |namespace: String| {
            let namespace = fs::File::open(namespace).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        };
        let (listening, address) = std::sync::mpsc::channel();
        let listener = std::thread::spawn(move || {
            within(format!("/run/netns/{}", Self::NAME));
            let listener = std::net::TcpListener::bind("198.18.77.2:0").unwrap();
            listening.send(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap().1.ip().to_string()
        });
        let address = address.recv().unwrap();
        let caller = std::thread::spawn(move || {
            within(format!("/proc/{process}/ns/net"));
            std::net::TcpStream::connect_timeout(&address, ground::PATIENCE).map(drop)
        });
        caller.join().unwrap().expect("the way out");
        listener.join().unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Its end of the link goes with it, and ours with that.
        let _ = std::process::Command::new("ip").args(["netns", "delete", Self::NAME]).status();
    }
}

#[tokio::test]
async fn two_bots_of_one_tenant_that_come_at_once_share_one_network() {
    on_ground(|ground| async move {
        let host = ground.host();
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
        let ensured = ground.host().execute(&Action::EnsureNetwork { account: spec.account }).await;
        engine.remove_network(&theirs).await.unwrap();
        assert!(down.success());
        ensured.unwrap();
        let subnets = ground.networks().await;
        assert_eq!(subnets, ["172.29.0.64/26"]);
    })
    .await;
}
