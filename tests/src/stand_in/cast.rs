//! Who plays in the contract: the stand-ins, the names that lead to them, and the visits that a hostile bot
//! is ordered to pay.
//!
//! Called by the scenario and the program of the contract. What the bot is allowed is [`ALLOWED_DOMAINS`] on
//! [`ALLOWED_PORT`] and nothing else; whoever else records an arrival has seen a wall fall.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use launchpad_hostile::{How, Transport, Visit};

use super::zone::Zone;
use super::{Port, World};

/// The DNS server that the bots' resolver asks.
pub const UPSTREAM: &str = "198.51.100.53";
/// What the tenant may reach.
pub const ALLOWED_DOMAINS: [&str; 3] = ["api.allowed.test", "alias.allowed.test", "*.rebind.test"];
/// On this port.
pub const ALLOWED_PORT: u16 = 443;
/// Where `api.allowed.test` leads.
pub const ALLOWED_ADDRESS: &str = "203.0.113.10";
/// Where `alias.allowed.test` leads, by way of a name that is not allowed: the name that was asked for
/// counts.
pub const ALIAS_ADDRESS: &str = "203.0.113.11";
/// What the tenant may reach by its address, outside every name.
pub const RANGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
/// On this port.
pub const RANGE_PORT: u16 = 8443;
/// An allowed name leads there as well as inside. Nobody is there; who may go there may go no further.
pub const DEAD_ADDRESS: &str = "203.0.113.99";
/// Where stand-ins inside a host or a neighbour wait.
pub const INSIDE_PORT: u16 = 8099;
/// A service that a bot looks for at its gateway, without being told to.
pub const GATEWAY_PORT: u16 = 9100;
/// The domain under which data is carried out.
pub const TUNNEL_DOMAIN: &str = "evil.test";

/// Stand-ins, the addresses that they carry, and where they wait.
const STAND_INS: &[(&str, &str, &[Port])] = &[
    ("allowed", ALLOWED_ADDRESS, &[Port::Tcp(443), Port::Tcp(80), Port::Tcp(25), Port::Tcp(8443), Port::Udp(443)]),
    ("alias", ALIAS_ADDRESS, &[Port::Tcp(443), Port::Tcp(80)]),
    ("range", "203.0.113.200", &[Port::Tcp(RANGE_PORT), Port::Tcp(443)]),
    ("metadata", "169.254.169.254", &[Port::Tcp(80), Port::Udp(80)]),
    ("metadata-of-tasks", "169.254.170.2", &[Port::Tcp(80)]),
    ("metadata-wireserver", "168.63.129.16", &[Port::Tcp(80)]),
    ("metadata-protocol-range", "192.0.0.192", &[Port::Tcp(80)]),
    ("metadata-v6", "fd00:ec2::254", &[Port::Tcp(80)]),
    ("private-10", "10.1.2.3", &[Port::Tcp(80), Port::Tcp(443), Port::Udp(53)]),
    ("private-172", "172.16.9.9", &[Port::Tcp(443)]),
    ("private-192", "192.168.77.7", &[Port::Tcp(443)]),
    ("carrier", "100.64.1.1", &[Port::Tcp(443)]),
    ("metadata-in-carrier", "100.100.100.200", &[Port::Tcp(80)]),
    ("benchmark-range", "198.19.0.7", &[Port::Tcp(443)]),
    ("unique-local", "fd00:1::7", &[Port::Tcp(443)]),
    ("public", "198.51.100.20", &[Port::Tcp(443), Port::Tcp(22), Port::Udp(443), Port::Udp(123)]),
    ("public-v6", "2001:db8:ffff::20", &[Port::Tcp(443), Port::Udp(443)]),
    ("evil", "198.51.100.66", &[Port::Tcp(443), Port::Tcp(80)]),
    ("other-dns", "8.8.8.8", &[Port::Tcp(443), Port::Tcp(853), Port::Udp(443), Port::Udp(853), Port::Udp(5353)]),
    ("mail", "198.51.100.25", &[Port::Tcp(25), Port::Tcp(465), Port::Tcp(587), Port::Tcp(2525)]),
    // Whoever listens to everybody on an IPv6 link.
    ("link", "::", &[Port::Udp(5355)]),
    ("fabric", crate::netns::FABRIC_ADDRESS, &[Port::Tcp(INSIDE_PORT), Port::Udp(INSIDE_PORT)]),
];

/// Connections that nobody may make.
const CONNECTIONS: &[(&str, &str)] = &[
    ("metadata", "169.254.169.254:80"),
    ("metadata-mapped", "[::ffff:169.254.169.254]:80"),
    ("metadata-of-tasks", "169.254.170.2:80"),
    ("metadata-wireserver", "168.63.129.16:80"),
    ("metadata-protocol-range", "192.0.0.192:80"),
    ("metadata-v6", "[fd00:ec2::254]:80"),
    ("metadata-in-carrier", "100.100.100.200:80"),
    ("private-10", "10.1.2.3:80"),
    ("private-172", "172.16.9.9:443"),
    ("private-192", "192.168.77.7:443"),
    ("carrier", "100.64.1.1:443"),
    ("benchmark-range", "198.19.0.7:443"),
    ("unique-local", "[fd00:1::7]:443"),
    ("public", "198.51.100.20:443"),
    ("denied-by-address", "198.51.100.66:443"),
    ("range-other-port", "203.0.113.200:443"),
    ("public-ssh", "198.51.100.20:22"),
    ("public-v6", "[2001:db8:ffff::20]:443"),
    ("public-mapped", "[::ffff:198.51.100.20]:443"),
    ("mail-25", "198.51.100.25:25"),
    ("mail-465", "198.51.100.25:465"),
    ("mail-587", "198.51.100.25:587"),
    ("mail-2525", "198.51.100.25:2525"),
    ("dns-over-https", "8.8.8.8:443"),
    ("dns-over-tls", "8.8.8.8:853"),
    ("coordinator-api", "198.18.0.1:7700"),
    ("coordinator-enrolment", "198.18.0.1:7702"),
    ("registry", "198.18.0.1:5000"),
    ("fabric", "198.18.0.1:8099"),
];

/// Datagrams that nobody may send.
const DATAGRAMS: &[(&str, &str)] = &[
    ("metadata-udp", "169.254.169.254:80"),
    ("private-udp", "10.1.2.3:53"),
    ("public-quic", "198.51.100.20:443"),
    ("public-quic-v6", "[2001:db8:ffff::20]:443"),
    ("public-ntp", "198.51.100.20:123"),
    ("allowed-quic", "203.0.113.10:443"),
    ("dns-over-quic", "8.8.8.8:853"),
    ("dns-elsewhere", "8.8.8.8:5353"),
    ("fabric-udp", "198.18.0.1:8099"),
];

/// Who may not even be pinged.
const PINGS: &[(&str, &str)] = &[
    ("ping-metadata", "169.254.169.254"),
    ("ping-public", "198.51.100.20"),
    ("ping-public-v6", "2001:db8:ffff::20"),
    ("ping-private", "10.1.2.3"),
];

/// Names that are not allowed, some of which look as if they were.
const DENIED_NAMES: &[(&str, &str)] = &[
    ("denied-name", "evil.test"),
    ("denied-below-allowed", "x.api.allowed.test"),
    ("denied-beside-allowed", "notapi.allowed.test"),
    ("denied-allowed-in-front", "api.allowed.test.evil.test"),
    ("denied-wildcard-without-dot", "xrebind.test"),
];

/// Allowed names whose answers lead inside.
const REBINDING: &[(&str, &str)] = &[
    ("rebind-private", "private.rebind.test"),
    ("rebind-metadata", "metadata.rebind.test"),
    ("rebind-loopback", "loopback.rebind.test"),
    ("rebind-unspecified", "unspecified.rebind.test"),
    ("rebind-coordinator", "coordinator.rebind.test"),
    ("rebind-mapped", "mapped.rebind.test"),
    ("rebind-unique-local", "local.rebind.test"),
    ("rebind-by-alias", "alias.rebind.test"),
];

/// Whether the bots' resolver may ask its upstream for that name: one that is allowed, or that an allowed
/// alias leads to.
pub fn may_be_asked(name: &str) -> bool {
    let allowed = |pattern: &str| match pattern.strip_prefix('*') {
        Some(suffix) => name.ends_with(suffix),
        None => name == pattern,
    };
    ALLOWED_DOMAINS.iter().any(|pattern| allowed(pattern)) || name.ends_with(".elsewhere.test")
}

/// What the upstream knows.
fn upstream_zone() -> Zone {
    let denied = DENIED_NAMES.iter().fold(Zone::default(), |zone, (_, name)| zone.address(name, "198.51.100.66"));
    denied
        .address("api.allowed.test", ALLOWED_ADDRESS)
        .alias("alias.allowed.test", "cdn.elsewhere.test")
        .address("cdn.elsewhere.test", ALIAS_ADDRESS)
        .address("private.rebind.test", "10.1.2.3")
        .address("metadata.rebind.test", "169.254.169.254")
        .address("loopback.rebind.test", "127.0.0.1")
        .address("unspecified.rebind.test", "0.0.0.0")
        .address("coordinator.rebind.test", crate::netns::FABRIC_ADDRESS)
        .address("mapped.rebind.test", "::ffff:10.1.2.3")
        .address("local.rebind.test", "fd00:1::7")
        .alias("alias.rebind.test", "inside.elsewhere.test")
        .address("inside.elsewhere.test", "10.1.2.3")
        // A public address beside one inside: who takes the second has been led there.
        .address("mixed.rebind.test", DEAD_ADDRESS)
        .address("mixed.rebind.test", "10.1.2.3")
        .address("direct.test", "198.51.100.66")
        .address(&format!("*.{TUNNEL_DOMAIN}"), "198.51.100.66")
        .text(&format!("*.{TUNNEL_DOMAIN}"), "an answer that carries data in")
}

/// What only the other DNS server knows.
fn other_zone() -> Zone {
    Zone::default().address("leak.test", "198.51.100.66")
}

/// The names of all stand-ins that are in the world from the start, without its upstream DNS server.
pub fn names() -> impl Iterator<Item = &'static str> {
    STAND_INS.iter().map(|(name, _, _)| *name)
}

/// Everybody on their places.
#[derive(Debug)]
pub struct Cast {
    /// What the upstream says; a test may change it meanwhile.
    pub upstream: Arc<Mutex<Zone>>,
    visits: Vec<Visit>,
}

impl Cast {
    /// Brings every stand-in into the world.
    ///
    /// # Errors
    /// When an address cannot be carried, or a port is taken.
    pub fn on(world: &World) -> Result<Self> {
        for (name, address, ports) in STAND_INS {
            world.stand_in(name, address, ports)?;
        }
        let upstream = Arc::new(Mutex::new(upstream_zone()));
        world.dns("upstream", UPSTREAM, &upstream)?;
        world.dns("other-dns", "8.8.8.8", &Arc::new(Mutex::new(other_zone())))?;
        Ok(Self { upstream, visits: fixed_visits()? })
    }

    /// Adds visits to an address that is known only once it is there: the host's, a neighbour's. There,
    /// somebody waits on [`INSIDE_PORT`], or on the `others`.
    pub fn visit_inside(&mut self, name: &str, address: IpAddr, others: &[u16]) {
        let at = |port| SocketAddr::new(address, port);
        let connections = [INSIDE_PORT]
            .iter()
            .chain(others)
            .map(|port| Visit::new(&format!("{name}-{port}"), How::Tcp { to: at(*port) }));
        let rest = [
            Visit::new(&format!("{name}-udp"), How::Udp { to: at(INSIDE_PORT) }),
            Visit::new(&format!("{name}-ping"), How::Ping { to: address }),
        ];
        self.visits.extend(connections.chain(rest));
    }

    /// Every visit that must fail.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.clone()
    }

    /// The visits that must succeed: without them, failures would prove nothing.
    pub fn controls() -> Vec<Visit> {
        let connect = |host: &str| How::Connect { host: host.to_owned(), port: ALLOWED_PORT };
        let range = SocketAddr::new(IpAddr::V4(RANGE_ADDRESS), RANGE_PORT);
        vec![
            Visit::new("control-allowed", connect("api.allowed.test")),
            Visit::new("control-alias", connect("alias.allowed.test")),
            Visit::new("control-range", How::Tcp { to: range }),
        ]
    }
}

fn fixed_visits() -> Result<Vec<Visit>> {
    let mut visits = Vec::new();
    for (name, to) in CONNECTIONS {
        visits.push(Visit::new(name, How::Tcp { to: to.parse()? }));
    }
    for (name, to) in DATAGRAMS {
        visits.push(Visit::new(name, How::Udp { to: to.parse()? }));
    }
    for (name, to) in PINGS {
        visits.push(Visit::new(name, How::Ping { to: to.parse()? }));
    }
    visits.extend(
        DENIED_NAMES
            .iter()
            .chain(REBINDING)
            .map(|(name, host)| Visit::new(name, How::Resolve { host: (*host).to_owned() })),
    );
    visits.extend(other_ways()?);
    Ok(visits)
}

/// What is one of its kind: other ports of an allowed address, other servers, other protocols, borrowed
/// addresses.
fn other_ways() -> Result<Vec<Visit>> {
    let connect = |name: &str, host: &str, port| Visit::new(name, How::Connect { host: host.to_owned(), port });
    let ask = |name: &str, server: &str, over, host: &str| -> Result<Visit> {
        Ok(Visit::new(name, How::Dns { server: SocketAddr::new(server.parse()?, 53), over, host: host.to_owned() }))
    };
    let quic: SocketAddr = "198.51.100.20:443".parse()?;
    Ok(vec![
        connect("denied-name-visited", "evil.test", ALLOWED_PORT),
        connect("allowed-other-port", "api.allowed.test", 8443),
        connect("allowed-in-clear", "api.allowed.test", 80),
        connect("allowed-mail", "api.allowed.test", 25),
        connect("rebind-mixed", "mixed.rebind.test", ALLOWED_PORT),
        ask("other-dns-udp", "8.8.8.8", Transport::Udp, "leak.test")?,
        ask("other-dns-tcp", "8.8.8.8", Transport::Tcp, "leak.test")?,
        ask("upstream-udp", UPSTREAM, Transport::Udp, "direct.test")?,
        ask("upstream-tcp", UPSTREAM, Transport::Tcp, "direct.test")?,
        Visit::new("tunnel", How::Tunnel { below: TUNNEL_DOMAIN.to_owned() }),
        Visit::new("udp-lite", How::UdpLite { to: quic }),
        Visit::new("spoof-neighbour", How::Spoof { from: "172.29.0.130".parse()?, to: quic }),
        Visit::new("spoof-public", How::Spoof { from: ALLOWED_ADDRESS.parse()?, to: quic }),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_visit_has_a_name_of_its_own_and_somebody_who_waits_for_it() {
        let visits: Vec<Visit> = fixed_visits().unwrap().into_iter().chain(Cast::controls()).collect();
        let names: BTreeSet<_> = visits.iter().map(|visit| &visit.name).collect();
        assert_eq!(names.len(), visits.len());
        let waits = |to: SocketAddr, port: Port| {
            let there = |(_, address, ports): &(&str, &str, &[Port])| {
                address.parse() == Ok(to.ip().to_canonical()) && ports.contains(&port)
            };
            // The coordinator and the registry are there themselves.
            STAND_INS.iter().any(there)
                || (to.ip().to_string() == crate::netns::FABRIC_ADDRESS && to.port() != INSIDE_PORT)
        };
        for Visit { name, how } in &visits {
            if let How::Tcp { to } = how {
                assert!(waits(*to, Port::Tcp(to.port())), "{name}");
            }
            if let How::Udp { to } = how {
                assert!(waits(*to, Port::Udp(to.port())), "{name}");
            }
        }
    }
}
