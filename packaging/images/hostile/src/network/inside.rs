//! What lies next to a bot without an address being given: its gateway, which is its host, and its link.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use launchpad_hostile::{How, Try};

use super::visit::{connect, visit};
use crate::place::Place;

/// Services that hosts have: ssh, http, https, Docker, the agent's and the coordinator's, etcd, Kubernetes,
/// monitoring. Not 53: that is the resolver, which a bot may ask.
const SERVICES: [u16; 18] =
    [22, 25, 80, 111, 443, 2019, 2375, 2376, 2379, 5000, 5432, 7700, 7701, 7702, 8080, 9090, 9100, 10_250];
/// Everybody on the link, and every router.
const MULTICASTS: [&str; 2] = ["ff02::1", "ff02::2"];
/// Where machines on a link look for each other's names (RFC 4795).
const DISCOVERY_PORT: u16 = 5355;

/// Connects to every service of its gateway.
pub(crate) fn gateway(_: &Place) -> Vec<Try> {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let Some(gateway) = default_gateway(&table) else {
        return vec![Try::refused("looks for its gateway", "it has none")];
    };
    let knocking: Vec<_> =
        SERVICES.into_iter().map(|port| thread::spawn(move || connect(SocketAddr::from((gateway, port))))).collect();
    let joined = knocking.into_iter().map(thread::JoinHandle::join);
    joined.map(|tried| tried.unwrap_or_else(|_| Try::untried("connects to its gateway", "the thread died"))).collect()
}

/// The gateway of the default route in the kernel's table, whose addresses are hex in the order of the
/// machine.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    let is_default = |words: &Vec<&str>| words.get(1) == Some(&"00000000") && words.get(2) != Some(&"00000000");
    let route = table.lines().map(|line| line.split_ascii_whitespace().collect()).find(is_default)?;
    let number = u32::from_str_radix(route.get(2)?, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

/// Calls everybody on each link that has an IPv6 address.
pub(crate) fn ipv6(_: &Place) -> Vec<Try> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let links: BTreeSet<u32> = table.lines().filter_map(link).collect();
    if links.is_empty() {
        return vec![Try::refused("looks for a link with IPv6", "none has it")];
    }
    let calls = links.iter().flat_map(|link| MULTICASTS.map(|group| format!("[{group}%{link}]:{DISCOVERY_PORT}")));
    calls.filter_map(|to| to.parse().ok()).flat_map(|to| visit(&How::Udp { to })).collect()
}

/// The number of the interface of a line, unless it is the loopback.
fn link(line: &str) -> Option<u32> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.last() == Some(&"lo") { None } else { u32::from_str_radix(words.get(1)?, 16).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_gateway_is_found_among_other_routes() {
        let table =
            "Iface\tDestination\tGateway \tFlags\neth0\t00001DAC\t00000000\t0001\neth0\t00000000\t01001DAC\t0003\n";
        assert_eq!(default_gateway(table), Some(Ipv4Addr::new(172, 29, 0, 1)));
        assert_eq!(default_gateway("Iface\tDestination\tGateway\n"), None);
    }

    #[test]
    fn the_loopback_is_no_link() {
        let line = "fe80000000000000000000fffe000001 0a 40 20 80     eth0";
        assert_eq!(link(line), Some(10));
        assert_eq!(link("00000000000000000000000000000001 01 80 10 80       lo"), None);
    }
}
