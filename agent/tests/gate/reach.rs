//! What a bot reaches, and what it does not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};

use launchpad_agent::gate::policy::Change;
use tokio::time::Instant;

use crate::lab::{AT_ONCE, HERE, Lab, PATIENCE, THERE, Tenant, echoes, run, within};
use crate::world::{Server, name_server, resolve};

#[tokio::test]
async fn what_a_rule_names_passes_under_the_hosts_address_and_the_rest_is_refused_at_once_and_counted() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    let allowed = Server::at(&lab.outside(), (THERE, 8080));
    let denied = Server::at(&lab.outside(), (THERE, 8081));
    bot.reaches((THERE, 8080)).expect("the rule");
    allowed.was_visited(1);
    assert_eq!(allowed.last_visitor(), HERE);
    let asked = Instant::now();
    for _ in 0..20 {
        bot.reaches((THERE, 8081)).expect_err("no rule names that port");
    }
    assert!(asked.elapsed() < AT_ONCE, "twenty refusals took {:?}", asked.elapsed());
    assert_eq!(denied.visits(), 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let denials = lab.look().await.denials.remove(&bot.tenant.account()).unwrap_or_default();
        if let [sample] = denials.samples.as_slice()
            && denials.count == 20
        {
            assert_eq!((sample.target.as_str(), sample.count), ("tcp 198.51.100.9:8081", 20));
            assert_eq!(sample.deployment, Some(bot.deployment()));
            return;
        }
        assert!(Instant::now() < deadline, "counted: {denials:?}");
    }
}

#[tokio::test]
async fn no_rule_opens_what_no_bot_may_ever_reach() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    // The widest that the grammar allows, and names that lead anywhere.
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:80,8080", "*.example.com:80"]).await;
    let forbidden = ["169.254.169.254", "10.0.0.7", "192.168.1.1", "172.16.3.4", "100.100.100.200", "168.63.129.16"];
    let servers: Vec<(Ipv4Addr, Server)> = forbidden
        .iter()
        .map(|address| {
            let address = address.parse().unwrap();
            lab.world_has(address);
            (address, Server::at(&lab.outside(), (address, 80)))
        })
        .collect();
    for (address, server) in &servers {
        let host_reaches = within(lab.name(), || TcpStream::connect_timeout(&(*address, 80).into(), AT_ONCE));
        host_reaches.expect("nothing but the walls stands between");
        bot.reaches((*address, 80)).expect_err("a denied range");
        server.was_visited(1);
    }
    // Mail and other name servers are denied by port, even where the network is allowed.
    for port in [25, 53, 465, 587, 853, 2525] {
        let server = Server::at(&lab.outside(), (THERE, port));
        bot.reaches((THERE, port)).expect_err("a denied port");
        server.was_visited(0);
    }
    // The coordinator, once the agent has named it.
    let server = Server::at(&lab.outside(), (THERE, 8080));
    let mut open = bot.reaches((THERE, 8080)).expect("a rule allows it");
    lab.tell(Change::PutNever { addresses: [THERE].into() }).await;
    bot.reaches((THERE, 8080)).expect_err("the coordinator");
    echoes(&mut open).expect_err("nor over a connection that was open");
    server.was_visited(1);
}

#[tokio::test]
async fn the_host_is_out_of_reach_under_each_of_its_addresses_but_for_its_name_server() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:80", "api.example.com"]).await;
    let gateway = bot.tenant.told().gateway();
    let servers = [HERE, gateway].map(|address| Server::at(lab.name(), (address, 80)));
    for address in [HERE, gateway] {
        bot.reaches((address, 80)).expect_err("the host");
    }
    // To all on its bridge, where the host listens to everybody.
    let everybody = within(lab.name(), || UdpSocket::bind("0.0.0.0:9999").unwrap());
    everybody.set_nonblocking(true).unwrap();
    within(&bot.namespace, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        for address in [Ipv4Addr::new(172, 29, 1, 63), Ipv4Addr::BROADCAST, gateway, Ipv4Addr::new(224, 0, 0, 251)] {
            let _ = socket.send_to(b"hello", (address, 9999));
        }
    });
    // Its own answer to a question shows that what was sent before has been dealt with.
    name_server(&lab.outside(), THERE, &[("api.example.com", THERE)]);
    assert_eq!(resolve(&bot, "api.example.com"), Some(THERE), "the name server answers");
    assert!(everybody.recv(&mut [0; 16]).is_err(), "a datagram reached the host");
    assert!(servers.iter().all(|server| server.visits() == 0));
}

#[tokio::test]
async fn the_host_reaches_its_bots_and_nobody_else_does() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &[]).await;
    let other = lab.tenant_with_bot(Tenant(2), &["198.51.100.0/24"]).await;
    let neighbour = lab.bot(Tenant(1), 3);
    lab.tell(neighbour.may(&[])).await;
    let server = Server::at(&bot.namespace, (bot.address(), 80));
    let to_bot = || TcpStream::connect_timeout(&(bot.address(), 80).into(), AT_ONCE);
    echoes(&mut within(lab.name(), to_bot).expect("the host's probes, and Caddy")).unwrap();
    echoes(&mut within(&neighbour.namespace, to_bot).expect("bots of one tenant share a network")).unwrap();
    other.reaches((bot.address(), 80)).expect_err("another tenant's bot");
    run(&format!("ip -n {} route add 172.29.0.0/16 via {HERE}", lab.outside()));
    within(&lab.outside(), to_bot).expect_err("somebody beside the host");
    server.was_visited(2);
}

#[tokio::test]
async fn a_bot_speaks_under_its_own_address_alone_and_without_ipv6() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    let server = Server::at(&lab.outside(), (THERE, 8080));
    run(&format!("ip -n {} addr add 172.29.1.9/26 dev eth0", bot.namespace));
    let under = |source: &str| {
        run(&format!("ip -n {} route replace {THERE} via 172.29.1.1 src {source}", bot.namespace));
        bot.reaches((THERE, 8080))
    };
    under("172.29.1.9").expect_err("nobody has that address");
    under("172.29.1.2").expect("its own");
    server.was_visited(1);

    let bridge = bot.tenant.told().bridge;
    lab.host(&format!("ip -6 addr replace fe80::1/64 dev {bridge} nodad"));
    run(&format!("ip -n {} -6 addr replace fe80::2/64 dev eth0 nodad", bot.namespace));
    let scope = within(lab.name(), || nix::net::if_::if_nametoindex(bridge.as_str()).unwrap());
    let at = |scope| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 8080, 0, scope));
    let listener = within(lab.name(), || TcpListener::bind(at(scope)).unwrap());
    listener.set_nonblocking(true).unwrap();
    let there = within(&bot.namespace, || nix::net::if_::if_nametoindex("eth0").unwrap());
    bot.reaches(at(there)).expect_err("the host over IPv6");
    assert!(listener.accept().is_err());
}

#[tokio::test]
async fn a_name_opens_the_way_for_whoever_asked_and_for_nobody_else() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["api.example.com:8080"]).await;
    let neighbour = lab.bot(Tenant(1), 3);
    lab.tell(neighbour.may(&["api.example.com:8080"])).await;
    let there = Ipv4Addr::new(203, 0, 113, 5);
    lab.world_has(there);
    let server = Server::at(&lab.outside(), (there, 8080));
    name_server(&lab.outside(), THERE, &[("api.example.com", there), ("other.example.com", there)]);
    bot.reaches((there, 8080)).expect_err("nobody has asked yet");
    assert_eq!(resolve(&bot, "other.example.com"), None);
    bot.reaches((there, 8080)).expect_err("a name that no rule allows opens nothing");
    assert_eq!(resolve(&bot, "api.example.com"), Some(there));
    // The answer comes after the kernel has been told: the very next packet passes.
    let mut stream = bot.reaches((there, 8080)).expect("the name is resolved");
    echoes(&mut stream).unwrap();
    neighbour.reaches((there, 8080)).expect_err("it has not asked");
    server.was_visited(1);
    let refused = lab.look().await.denials.remove(&bot.tenant.account()).unwrap_or_default();
    assert!(refused.samples.iter().any(|sample| sample.target.contains("other.example.com")), "{refused:?}");
    assert_eq!(lab.look().await.instances[&bot.deployment()].egress_fault, None);
}
