//! Who has which subnet and address: a pure book, kept in a file, rebuildable from what Docker shows.
//!
//! `network.rs` allocates a tenant's subnet here before it makes the network, `docker.rs` an instance's
//! address before it makes the container; both write the book first. An address stays with its instance when
//! the container is made anew, because a bot's neighbours and its own state may remember it. Nothing here
//! does I/O.
//!
//! ```text
//! 172.29.0.0/16 ─┬─ 172.29.0.0/26   acct_1   .1 bridge   .2 dep_1   .3 dep_2
//!                └─ 172.29.0.64/26  acct_2   .65 bridge  .66 dep_3
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

/// Bits of a tenant's network prefix: 61 instances each, a thousand tenants in a /16.
pub const TENANT_PREFIX_BITS: u8 = 26;

/// Where tenants' subnets come from unless the configuration says otherwise: private (RFC 1918), and outside
/// the ranges that Docker hands out by itself first.
pub const DEFAULT_POOL: Subnet = Subnet { base: 0xac1d_0000, bits: 16 };

/// A range of IPv4 addresses: `172.29.0.0/16`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    base: u32,
    bits: u8,
}

/// Why a text is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a subnet: expected an address and a prefix, such as 172.29.0.0/16, with no bits beyond it")]
pub struct SubnetError(String);

impl Subnet {
    /// The subnet of that base and prefix, if no bit of the base lies beyond the prefix.
    #[must_use]
    pub fn new(base: Ipv4Addr, bits: u8) -> Option<Self> {
        let base = u32::from(base);
        (bits <= 32 && base & !mask(bits) == 0).then_some(Self { base, bits })
    }

    /// Whether the two share an address.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        let bits = if self.bits < other.bits { self.bits } else { other.bits };
        self.base & mask(bits) == other.base & mask(bits)
    }

    /// Whether that address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.bits) == self.base
    }

    /// The first address, which names the subnet.
    #[must_use]
    pub const fn base(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    /// How many bits are fixed.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The bridge's own address in a tenant's subnet: the first that a host may have.
    #[must_use]
    pub const fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + 1)
    }

    /// Its parts of that prefix, in order.
    fn parts(self, bits: u8) -> impl Iterator<Item = Self> {
        let count = if bits < self.bits { 0 } else { 1_u64 << (bits - self.bits) };
        let step = 1_u64 << (32 - bits);
        (0..count).filter_map(move |part| {
            Some(Self { base: u32::try_from(u64::from(self.base) + part * step).ok()?, bits })
        })
    }

    /// The addresses that instances may have: not the base, not the gateway, not the broadcast address.
    fn instance_addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        let last = self.base | !mask(self.bits);
        (self.base.saturating_add(2)..last).map(Ipv4Addr::from_bits)
    }
}

const fn mask(bits: u8) -> u32 {
    if bits == 0 { 0 } else { u32::MAX << (32 - bits) }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.bits)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let parsed = text.split_once('/').and_then(|(base, bits)| Self::new(base.parse().ok()?, bits.parse().ok()?));
        parsed.ok_or_else(|| SubnetError(text.to_owned()))
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One tenant's page of the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its subnet.
    pub subnet: Subnet,
    /// Its instances' addresses.
    pub instances: BTreeMap<DeploymentId, Ipv4Addr>,
}

/// Who has what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressBook {
    /// By account.
    pub tenants: BTreeMap<AccountId, Tenant>,
}

impl AddressBook {
    /// The tenant's subnet: the one that it has, or the lowest free one of the pool that overlaps nothing in
    /// `avoid` (the host's routes, and what Docker has refused).
    ///
    /// # Errors
    /// When none is left.
    pub fn subnet_for(
        &mut self,
        account: AccountId,
        pool: Subnet,
        avoid: &BTreeSet<Subnet>,
    ) -> Result<Subnet, Reason> {
        if let Some(tenant) = self.tenants.get(&account) {
            return Ok(tenant.subnet);
        }
        let taken = |part: Subnet| {
            self.tenants.values().any(|tenant| tenant.subnet.overlaps(part))
                || avoid.iter().any(|other| other.overlaps(part))
        };
        let subnet = pool.parts(TENANT_PREFIX_BITS).find(|part| !taken(*part)).ok_or_else(|| pool_empty(pool))?;
        self.tenants.insert(account, Tenant { subnet, instances: BTreeMap::new() });
        Ok(subnet)
    }

    /// The instance's address: the one that it has, or the lowest free one of its tenant's subnet.
    ///
    /// # Errors
    /// When the tenant has no subnet yet, or no address is left in it.
    pub fn address_for(&mut self, account: AccountId, deployment: DeploymentId) -> Result<Ipv4Addr, Reason> {
        let tenant = self
            .tenants
            .get_mut(&account)
            .ok_or_else(|| Reason::new("network-missing", format!("{account} has no network on this host yet")))?;
        if let Some(address) = tenant.instances.get(&deployment) {
            return Ok(*address);
        }
        let used: BTreeSet<Ipv4Addr> = tenant.instances.values().copied().collect();
        let free = tenant.subnet.instance_addresses().find(|address| !used.contains(address));
        let address = free.ok_or_else(|| {
            Reason::new("network-full", format!("the network {} of {account} has no address left", tenant.subnet))
                .mend("place some of this account's deployments on another host")
        })?;
        tenant.instances.insert(deployment, address);
        Ok(address)
    }

    /// Gives up an instance's address, if it had one.
    pub fn release(&mut self, deployment: DeploymentId) {
        for tenant in self.tenants.values_mut() {
            tenant.instances.remove(&deployment);
        }
    }

    /// Takes over what is in Docker and not in the book, as after a lost file. Docker is right where they
    /// differ: its networks are what containers are on.
    pub fn adopt(&mut self, account: AccountId, subnet: Subnet, addresses: &BTreeMap<DeploymentId, Ipv4Addr>) {
        let tenant = self.tenants.entry(account).or_insert_with(|| Tenant { subnet, instances: BTreeMap::new() });
        if tenant.subnet != subnet {
            *tenant = Tenant { subnet, instances: BTreeMap::new() };
        }
        for (deployment, address) in addresses {
            if subnet.contains(*address) {
                tenant.instances.retain(|other, held| other == deployment || held != address);
                tenant.instances.insert(*deployment, *address);
            }
        }
    }
}

fn pool_empty(pool: Subnet) -> Reason {
    Reason::new("network-pool-empty", format!("no /{TENANT_PREFIX_BITS} is left of the subnet pool {pool}"))
        .because("its parts belong to tenants, or overlap the host's own routes")
        .mend("give the agent a larger pool, or one that the host does not use")
}

/// The subnets that the host routes already, from the text of `/proc/net/route`; the default route is none.
#[must_use]
pub fn routed(route_table: &str) -> BTreeSet<Subnet> {
    let parse = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let hex = |text: Option<&str>| u32::from_str_radix(text?, 16).ok().map(u32::swap_bytes);
        let base = hex(columns.next())?;
        let mask = hex(columns.nth(5))?;
        let bits = u8::try_from(mask.leading_ones()).ok()?;
        (bits > 0).then(|| Subnet::new(Ipv4Addr::from_bits(base), bits)).flatten()
    };
    route_table.lines().skip(1).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn account(number: u128) -> AccountId {
        format!("acct_{number:032x}").parse().unwrap()
    }

    fn deployment(number: u128) -> DeploymentId {
        format!("dep_{number:032x}").parse().unwrap()
    }

    #[test]
    fn the_default_pool_is_what_the_documentation_says() {
        assert_eq!(DEFAULT_POOL, subnet("172.29.0.0/16"));
        assert!("172.29.0.1/16".parse::<Subnet>().is_err());
    }

    #[test]
    fn a_subnet_that_the_host_routes_is_never_given_out() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     br0\t00001DAC\t00000000\t0001\t0\t0\t0\t80FFFFFF\t0\t0\t0\n";
        let routes = routed(table);
        assert_eq!(routes, BTreeSet::from([subnet("172.29.0.0/25")]));
        let mut book = AddressBook::default();
        assert_eq!(book.subnet_for(account(1), DEFAULT_POOL, &routes), Ok(subnet("172.29.0.128/26")));
    }

    #[test]
    fn a_tenant_with_a_full_network_is_told_so() {
        let mut book = AddressBook::default();
        book.subnet_for(account(1), DEFAULT_POOL, &BTreeSet::new()).unwrap();
        for number in 0..61 {
            book.address_for(account(1), deployment(number)).unwrap();
        }
        assert_eq!(book.address_for(account(1), deployment(99)).unwrap_err().code, "network-full");
        book.release(deployment(7));
        book.release(deployment(7));
        assert_eq!(book.address_for(account(1), deployment(99)), Ok(Ipv4Addr::new(172, 29, 0, 9)));
    }

    #[test]
    fn what_docker_has_replaces_what_the_book_says() {
        let mut book = AddressBook::default();
        book.subnet_for(account(1), DEFAULT_POOL, &BTreeSet::new()).unwrap();
        book.address_for(account(1), deployment(1)).unwrap();
        let found = BTreeMap::from([(deployment(2), Ipv4Addr::new(172, 29, 9, 2))]);
        book.adopt(account(1), subnet("172.29.9.0/26"), &found);
        assert_eq!(book.tenants[&account(1)].subnet, subnet("172.29.9.0/26"));
        assert_eq!(book.address_for(account(1), deployment(1)), Ok(Ipv4Addr::new(172, 29, 9, 3)));
    }

    proptest! {
        #[test]
        fn no_two_share_a_subnet_or_an_address_and_each_keeps_its_own(
            steps in prop::collection::vec((1..40_u128, 1..30_u128, any::<bool>()), 1..200),
            avoided in 0..1024_u32,
        ) {
            let avoid = BTreeSet::from([Subnet { base: DEFAULT_POOL.base + avoided * 64, bits: TENANT_PREFIX_BITS }]);
            let mut book = AddressBook::default();
            let mut given: BTreeMap<DeploymentId, Ipv4Addr> = BTreeMap::new();
            for (tenant, number, release) in steps {
                let id = deployment(tenant * 1000 + number);
                let subnet = book.subnet_for(account(tenant), DEFAULT_POOL, &avoid).unwrap();
                prop_assert!(avoid.iter().all(|other| !other.overlaps(subnet)));
                if release {
                    book.release(id);
                    given.remove(&id);
                    continue;
                }
                let address = book.address_for(account(tenant), id).unwrap();
                prop_assert!(subnet.contains(address) && address != subnet.gateway());
                prop_assert_eq!(*given.entry(id).or_insert(address), address);
            }
            let distinct: BTreeSet<_> = given.values().collect();
            prop_assert_eq!(distinct.len(), given.len());
            let subnets: Vec<Subnet> = book.tenants.values().map(|tenant| tenant.subnet).collect();
            for (index, one) in subnets.iter().enumerate() {
                prop_assert!(subnets[index + 1..].iter().all(|other| !one.overlaps(*other)));
            }
        }
    }
}
