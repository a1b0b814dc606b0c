//! What the gate keeps on disk: its policy, and the numbers of the rules in it.
//!
//! `keeper.rs` opens it, and writes it after the kernel has taken a change: a crash between the two leaves the older
//! policy, which the next start applies and the agent brings up to date. Lost or damaged, it is begun anew: nothing
//! passes until the agent has told everything again, and no bot is touched.
//!
//! **Numbers.** Each port of each egress rule of each instance has a number of its own, which nftables writes on every
//! connection that it lets out. A connection stays open for as long as its number is in the set of open ones, however
//! long the name's addresses are out of date; with the rule goes the number, and with the number exactly the connections
//! that it had let out. They are kept on disk so that a restart of the gate cuts nothing.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::egress::{Destination, EgressRule};
use launchpad_protocol::id::DeploymentId;
use serde::{Deserialize, Serialize};

use super::policy::GatePolicy;
use crate::disk::{Disk, DiskError, Found};

/// The state file.
const FILE: &str = "gate";

/// The largest number: they share a connection's mark with the eight bits that say that it is ours
/// ([`super::routes::MARK_MASK`]).
const NUMBER_MAX: u32 = 0x00ff_ffff;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the gate was told.
    pub policy: GatePolicy,
    /// The numbers of its rules.
    pub numbers: Numbers,
}

/// The number of every way out of every instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    last: u32,
    /// A way is a rule with one port.
    given: BTreeMap<DeploymentId, BTreeMap<EgressRule, u32>>,
}

impl State {
    /// What was kept; where that was damaged, a blank one, and the file is set aside.
    ///
    /// # Errors
    /// When the operating system will not read it.
    pub fn read(disk: &Disk) -> Result<Self, DiskError> {
        let bytes = match disk.read(FILE)? {
            Found::Whole(bytes) => bytes,
            Found::Nothing => return Ok(Self::default()),
            Found::SetAside(path) => {
                tracing::warn!(path = %path.display(), "what the gate was told is damaged; the agent tells it anew");
                return Ok(Self::default());
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(state) => Ok(state),
            Err(error) => {
                let path = disk.set_aside(FILE)?;
                tracing::warn!(%error, path = %path.display(), "the gate cannot read what it was told; the agent tells it anew");
                Ok(Self::default())
            }
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When it cannot be written; the older one is still there.
    pub fn write(&self, disk: &Disk) -> Result<(), DiskError> {
        // Texts, numbers and addresses: none of it can fail to be JSON.
        disk.write(FILE, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// The state with another policy: rules that stay keep their numbers.
    #[must_use]
    pub fn with(&self, policy: GatePolicy) -> Self {
        let mut numbers = self.numbers.clone();
        numbers.follow(&policy);
        Self { policy, numbers }
    }
}

/// The ways out that rules come to: each with one port.
fn ways(rules: &BTreeSet<EgressRule>) -> BTreeSet<EgressRule> {
    let of = |rule: &EgressRule| {
        let to = rule.to.clone();
        let way = move |port: &u16| EgressRule { to: to.clone(), ports: BTreeSet::from([*port]) };
        rule.ports.iter().map(way).collect::<Vec<_>>()
    };
    rules.iter().flat_map(of).collect()
}

impl Numbers {
    /// Where an instance may go, on which port, and under which number.
    pub fn of(&self, deployment: DeploymentId) -> impl Iterator<Item = (&Destination, u16, u32)> {
        let ways = self.given.get(&deployment).into_iter().flatten();
        ways.filter_map(|(way, number)| Some((&way.to, *way.ports.first()?, *number)))
    }

    /// Under which number a name that was asked for lets its asker out on a port; none: it does not.
    #[must_use]
    pub fn named(&self, deployment: DeploymentId, name: &str, port: u16) -> Option<u32> {
        let leads = |to: &Destination| match to {
            Destination::Domain(pattern) => pattern.matches(name),
            Destination::Network(_) => false,
        };
        self.of(deployment).find(|(to, on, _)| *on == port && leads(to)).map(|(_, _, number)| number)
    }

    fn follow(&mut self, policy: &GatePolicy) {
        let wanted: BTreeMap<DeploymentId, BTreeSet<EgressRule>> =
            policy.instances.iter().map(|(deployment, gate)| (*deployment, ways(&gate.egress.rules))).collect();
        for (deployment, given) in &mut self.given {
            let stays = wanted.get(deployment);
            given.retain(|way, _| stays.is_some_and(|stays| stays.contains(way)));
        }
        self.given.retain(|_, given| !given.is_empty());
        let mut taken: BTreeSet<u32> = self.given.values().flat_map(BTreeMap::values).copied().collect();
        for (deployment, ways) in wanted {
            for way in ways {
                if self.given.get(&deployment).is_some_and(|given| given.contains_key(&way)) {
                    continue;
                }
                // A number that was given back is used again last: a connection may still bear it.
                let mut later = (self.last + 1..=NUMBER_MAX).chain(1..=self.last);
                let Some(free) = later.find(|number| !taken.contains(number)) else { return };
                self.last = free;
                taken.insert(free);
                self.given.entry(deployment).or_default().insert(way, free);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::policy::{InstanceGate, TenantGate};

    fn told(rules: &[&str]) -> GatePolicy {
        let account = "acct_0000000000000000000000000000000a".parse().unwrap();
        let tenant = TenantGate { bridge: "lp00000000000a".to_owned(), subnet: "172.29.0.0/26".parse().unwrap() };
        let egress = launchpad_protocol::spec::EgressPolicy {
            rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        };
        let ingress = launchpad_protocol::spec::Ingress { port: 80, hostnames: BTreeSet::new() };
        let bot = InstanceGate { account, address: [172, 29, 0, 2].into(), egress, ingress };
        GatePolicy {
            tenants: BTreeMap::from([(account, tenant)]),
            instances: BTreeMap::from([(bot_id(), bot)]),
            ..GatePolicy::default()
        }
    }

    fn bot_id() -> DeploymentId {
        "dep_0000000000000000000000000000000d".parse().unwrap()
    }

    #[test]
    fn what_stays_keeps_its_number_and_what_comes_later_gets_one_that_nobody_bears() {
        let first = State::default().with(told(&["a.example:443,8443", "*.b.example"]));
        let number = |state: &State, name, port| state.numbers.named(bot_id(), name, port);
        let narrower = first.with(told(&["a.example"]));
        assert_eq!(number(&narrower, "a.example", 443), number(&first, "a.example", 443));
        assert_eq!(number(&narrower, "a.example", 8443), None);
        let wider = narrower.with(told(&["a.example:443,8443", "*.b.example", "203.0.113.0/24"]));
        assert_ne!(number(&wider, "a.example", 8443), number(&first, "a.example", 8443));
        let all: BTreeSet<u32> = wider.numbers.of(bot_id()).map(|(_, _, number)| number).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(number(&wider, "c.b.example", 443), number(&wider, "d.b.example", 443), "one rule, one number");
        assert_eq!(number(&wider, "b.example", 443), None);
    }

    #[test]
    fn a_state_reads_back_from_the_disk_and_a_damaged_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let state = State::default().with(told(&["a.example:443,8443", "203.0.113.0/24"]));
        state.write(&disk).unwrap();
        assert_eq!(State::read(&disk).unwrap(), state);
        std::fs::write(disk.path(FILE), b"no state at all").unwrap();
        assert_eq!(State::read(&disk).unwrap(), State::default());
        disk.write(FILE, b"{\"policy\": 7}").unwrap();
        assert_eq!(State::read(&disk).unwrap(), State::default());
    }
}
