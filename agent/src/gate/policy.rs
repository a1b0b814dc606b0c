//! What the gate was told: tenants and their instances. Plain data; the gate keeps it on disk and acts on nothing else.
//!
//! The agent tells one tenant or one instance at a time; each change is applied whole or not at all. What is not told
//! does not pass.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use launchpad_protocol::egress::Cidr;
use launchpad_protocol::id::{AccountId, DeploymentId};
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

impl TenantGate {
    /// The bridge's own address: gateway and name server of the tenant's bots.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.base()).saturating_add(1))
    }
}

impl GatePolicy {
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
