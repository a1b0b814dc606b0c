//! What the gate was told: tenants and their instances. Plain data; the gate keeps it on disk and acts on nothing else.
//!
//! The agent tells one tenant or one instance at a time ([`Change`]); each change is applied whole or not at all, and one
//! that makes no sense is refused before anything hears of it. What is not told does not pass.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use launchpad_protocol::egress::Cidr;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{EgressPolicy, Ingress};
use serde::{Deserialize, Serialize};

/// Everything that the gate was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePolicy {
    /// Whose networks stand.
    pub tenants: BTreeMap<AccountId, TenantGate>,
    /// What each instance may reach, and under which names it is reached.
    pub instances: BTreeMap<DeploymentId, InstanceGate>,
    /// Addresses that no bot reaches, besides those that none ever does: the coordinators'.
    #[serde(default)]
    pub never: BTreeSet<Ipv4Addr>,
}

/// A tenant's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantGate {
    /// Its bridge: at most 15 characters (IFNAMSIZ).
    pub bridge: String,
    /// Its addresses; the first one after the base is the bridge's own, where bots find their name server.
    #[serde(with = "as_text")]
    pub subnet: Cidr,
}

/// One instance's way out and in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceGate {
    /// Whose it is.
    pub account: AccountId,
    /// Its address on its tenant's network: how it is recognised.
    pub address: Ipv4Addr,
    /// What it may reach.
    pub egress: EgressPolicy,
    /// Under which public names, and on which port, it is reached.
    pub ingress: Ingress,
}

/// One thing that the agent tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A tenant's network stands.
    PutTenant {
        /// Whose.
        account: AccountId,
        /// Which.
        tenant: TenantGate,
    },
    /// It is gone, and its instances with it.
    DropTenant {
        /// Whose.
        account: AccountId,
    },
    /// An instance may be let out, and in to.
    PutInstance {
        /// Which.
        deployment: DeploymentId,
        /// How.
        instance: InstanceGate,
    },
    /// It may not any more.
    DropInstance {
        /// Which.
        deployment: DeploymentId,
    },
    /// These and no others are, for all bots, never to be reached.
    PutNever {
        /// The coordinators'.
        addresses: BTreeSet<Ipv4Addr>,
    },
}

/// How a tenant's bridge is called: these two letters, and digits of its id.
const BRIDGE_PREFIX: &str = "lp";
/// Hexadecimal digits behind them.
const BRIDGE_DIGITS: usize = 12;

/// Whether a network interface is, by its name, a tenant's bridge.
#[must_use]
pub fn is_bridge_of_ours(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix(BRIDGE_PREFIX).is_some_and(|tail| tail.len() == BRIDGE_DIGITS && tail.bytes().all(is_digit))
}

impl TenantGate {
    /// The bridge's own address: gateway and name server of the tenant's bots.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.base()).saturating_add(1))
    }

    /// Whether a bot of that network may have the address: not the network's own, the bridge's, or everybody's.
    #[must_use]
    pub fn has_room_for(&self, address: Ipv4Addr) -> bool {
        let size = u32::MAX.checked_shr(u32::from(self.subnet.bits())).unwrap_or(0);
        let place = u32::from(address).wrapping_sub(u32::from(self.subnet.base()));
        (2..size).contains(&place)
    }
}

impl GatePolicy {
    /// The policy after a change.
    ///
    /// # Errors
    /// When the change contradicts itself or what was told before; nothing is changed then.
    pub fn after(&self, change: &Change) -> Result<Self, Reason> {
        let mut next = self.clone();
        match change {
            Change::PutTenant { account, tenant } => {
                self.check_tenant(*account, tenant)?;
                next.tenants.insert(*account, tenant.clone());
                // An address on the old network says nothing any more; the agent tells the instance anew.
                next.instances.retain(|_, gate| gate.account != *account || tenant.has_room_for(gate.address));
            }
            Change::DropTenant { account } => {
                next.tenants.remove(account);
                next.instances.retain(|_, gate| gate.account != *account);
            }
            Change::PutInstance { deployment, instance } => {
                self.check_instance(*deployment, instance)?;
                next.instances.insert(*deployment, instance.clone());
            }
            Change::DropInstance { deployment } => drop(next.instances.remove(deployment)),
            Change::PutNever { addresses } => next.never.clone_from(addresses),
        }
        Ok(next)
    }

    fn check_tenant(&self, account: AccountId, tenant: &TenantGate) -> Result<(), Reason> {
        if !is_bridge_of_ours(&tenant.bridge) {
            return Err(Reason::new("bridge-name", format!("`{}` is no name of a tenant's bridge", tenant.bridge)));
        }
        let others = self.tenants.iter().filter(|(other, _)| **other != account);
        match others.into_iter().find(|(_, held)| held.bridge == tenant.bridge || held.subnet.overlaps(tenant.subnet))
        {
            Some((other, held)) => Err(Reason::new(
                "network-taken",
                format!("{} on {} is, in part, the network of {other}", tenant.subnet, tenant.bridge),
            )
            .because(format!("that one has {} on {}", held.subnet, held.bridge))),
            None => Ok(()),
        }
    }

    fn check_instance(&self, deployment: DeploymentId, instance: &InstanceGate) -> Result<(), Reason> {
        let (account, address) = (instance.account, instance.address);
        let Some(tenant) = self.tenants.get(&account) else {
            return Err(Reason::new("tenant-unknown", format!("the gate was told of no network of {account} yet")));
        };
        if !tenant.has_room_for(address) {
            return Err(Reason::new(
                "address-outside",
                format!("{address} is no bot's address in {}", tenant.subnet),
            ));
        }
        match self.at(address) {
            Some((other, _)) if other != deployment => Err(Reason::new(
                "address-taken",
                format!("{address} belongs to {other}, and {deployment} was to have it"),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Who has that address, if anybody.
    #[must_use]
    pub fn at(&self, address: Ipv4Addr) -> Option<(DeploymentId, &InstanceGate)> {
        self.instances.iter().find(|(_, gate)| gate.address == address).map(|(id, gate)| (*id, gate))
    }

    /// Which instance a public name leads to, in lower case; of several, none is preferred over the first told.
    #[must_use]
    pub fn named(&self, hostname: &str) -> Option<(DeploymentId, &InstanceGate)> {
        let leads = |(_, gate): &(&DeploymentId, &InstanceGate)| gate.ingress.hostnames.contains(hostname);
        self.instances.iter().find(leads).map(|(id, gate)| (*id, gate))
    }
}

/// A range as people write it.
mod as_text {
    use launchpad_protocol::egress::Cidr;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(range: &Cidr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(range)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cidr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: u128) -> AccountId {
        format!("acct_{number:032x}").parse().unwrap()
    }

    fn deployment(number: u128) -> DeploymentId {
        format!("dep_{number:032x}").parse().unwrap()
    }

    fn put_tenant(number: u128, subnet: &str) -> Change {
        let tenant = TenantGate { bridge: format!("lp{number:012x}"), subnet: subnet.parse().unwrap() };
        Change::PutTenant { account: account(number), tenant }
    }

    fn put_instance(number: u128, tenant: u128, address: [u8; 4]) -> Change {
        let instance = InstanceGate {
            account: account(tenant),
            address: address.into(),
            egress: EgressPolicy::default(),
            ingress: Ingress { port: 80, hostnames: BTreeSet::new() },
        };
        Change::PutInstance { deployment: deployment(number), instance }
    }

    fn after(changes: &[Change]) -> Result<GatePolicy, Reason> {
        changes.iter().try_fold(GatePolicy::default(), |policy, change| policy.after(change))
    }

    #[test]
    fn a_tenants_instances_go_with_it_and_with_the_network_on_which_they_were() {
        let told = [put_tenant(1, "172.29.0.0/26"), put_instance(7, 1, [172, 29, 0, 2])];
        let policy = after(&told).unwrap();
        assert_eq!(policy.at([172, 29, 0, 2].into()).map(|(id, _)| id), Some(deployment(7)));
        assert!(policy.after(&put_tenant(1, "172.29.0.0/26")).unwrap().instances.contains_key(&deployment(7)));
        assert!(policy.after(&put_tenant(1, "172.29.9.0/26")).unwrap().instances.is_empty());
        let gone = policy.after(&Change::DropTenant { account: account(1) }).unwrap();
        assert_eq!(gone, GatePolicy::default());
    }

    #[test]
    fn two_never_share_a_network_or_an_address() {
        let first = put_tenant(1, "172.29.0.0/26");
        for subnet in ["172.29.0.0/26", "172.29.0.0/24", "172.29.0.32/27"] {
            assert_eq!(after(&[first.clone(), put_tenant(2, subnet)]).unwrap_err().code, "network-taken", "{subnet}");
        }
        let both = [first, put_instance(7, 1, [172, 29, 0, 2]), put_instance(8, 1, [172, 29, 0, 2])];
        assert_eq!(after(&both).unwrap_err().code, "address-taken");
        assert_eq!(after(&[put_instance(7, 1, [172, 29, 0, 2])]).unwrap_err().code, "tenant-unknown");
    }

    #[test]
    fn a_bot_has_neither_the_networks_nor_the_bridges_nor_everybodys_address() {
        let Change::PutTenant { tenant, .. } = put_tenant(1, "172.29.0.64/26") else {
            unreachable!("it puts a tenant")
        };
        let roomy: Vec<u8> = (0..=255).filter(|last| tenant.has_room_for([172, 29, 0, *last].into())).collect();
        assert_eq!(roomy, (66..=126).collect::<Vec<u8>>());
        assert_eq!(tenant.gateway(), Ipv4Addr::new(172, 29, 0, 65));
    }

    #[test]
    fn nothing_but_the_name_of_a_bridge_of_ours_gets_into_a_rule() {
        assert!(is_bridge_of_ours("lp0123456789ab"));
        for name in [
            "lp0123456789a",
            "lp0123456789abc",
            "lp0123456789AB",
            "eth0",
            "lp",
            "",
            "lp01234567 9ab",
            "lp01234567\"9ab",
        ] {
            assert!(!is_bridge_of_ours(name), "{name:?}");
        }
    }

    #[test]
    fn a_policy_reads_back_as_it_was_written() {
        let told = [put_tenant(1, "172.29.0.0/26"), put_instance(7, 1, [172, 29, 0, 2])];
        let policy = after(&told).unwrap();
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<GatePolicy>(&text).unwrap(), policy);
        let change = serde_json::to_string(&told[1]).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&change).unwrap(), told[1]);
    }
}
