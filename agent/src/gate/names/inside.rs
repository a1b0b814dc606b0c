//! Which addresses no answer may lead to: the ranges that are always denied, the host's own, and those that
//! the policy never allows.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use launchpad_protocol::egress::denied_address;
use nix::ifaddrs::getifaddrs;

/// What counts as inside, as it is now.
#[derive(Debug)]
pub(super) struct Inside<'a> {
    own: Vec<Ipv4Addr>,
    never: &'a BTreeSet<Ipv4Addr>,
}

impl<'a> Inside<'a> {
    /// Reads the host's addresses: they change with a lease or a bridge. Where they cannot be read, the
    /// kernel's rules alone keep bots from the public ones; the others are in denied ranges.
    pub(super) fn now(never: &'a BTreeSet<Ipv4Addr>) -> Self {
        let interfaces = getifaddrs().into_iter().flatten();
        let own = interfaces.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
        Self { own: own.collect(), never }
    }

    /// Whether no bot may be led there.
    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        denied_address(address).is_some() || self.own.contains(&address) || self.never.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_and_those_that_are_never_allowed_are_inside() {
        let address = |last| Ipv4Addr::new(203, 0, 113, last);
        let never = BTreeSet::from([address(7)]);
        let inside = Inside { own: vec![address(9)], never: &never };
        assert!(inside.has(address(7)) && inside.has(address(9)) && !inside.has(address(8)));
        assert!(inside.has(Ipv4Addr::new(169, 254, 169, 254)));
        assert!(Inside::now(&never).own.contains(&Ipv4Addr::LOCALHOST), "what the kernel says is read");
    }
}
