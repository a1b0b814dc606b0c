//! What bots were kept from: counted, and sampled by name and address. Pure but for a lock.
//!
//! The name server tells each refused name ([`Tally::name`]), `keeper.rs` what the kernel has counted ([`Tally::packets`]).
//! A hostile bot may bring thousands a second: each costs one look into a small map, and what is kept is bounded.

use std::collections::BTreeMap;

use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::limits::DENIALS_SAMPLED_MAX;
use launchpad_protocol::report::{Denial, Denials};
use launchpad_protocol::time::Moment;

use super::listing::{DeniedElement, Listing};
use super::policy::GatePolicy;
use super::rules::DENIAL_MINUTES;

/// Samples of one tenant that are kept, of which the latest are reported: so that a few lasting ones are not lost among
/// many that come once.
const SAMPLES_MAX: usize = 4 * DENIALS_SAMPLED_MAX;

/// Seconds for which the kernel remembers a denial after it was last tried.
const REMEMBERED_SECONDS: u64 = DENIAL_MINUTES * 60;

/// What was refused to whom, since the gate started.
#[derive(Debug, Default)]
pub struct Tally {
    accounts: BTreeMap<AccountId, Account>,
}

#[derive(Debug, Default)]
struct Account {
    count: u64,
    samples: BTreeMap<(Option<DeploymentId>, String), Sample>,
    /// What the kernel had counted when it was last looked at.
    packets: u64,
    /// Likewise, of each denial.
    seen: BTreeMap<(std::net::Ipv4Addr, String), u64>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Moment,
    count: u64,
}

impl Tally {
    /// A name was refused.
    pub fn name(&mut self, account: AccountId, deployment: DeploymentId, name: &str, now: Moment) {
        let account = self.accounts.entry(account).or_default();
        account.count += 1;
        account.sample(Some(deployment), name, 1, now);
    }

    /// Takes in what the kernel shows. What it had counted before its rules were made anew is kept.
    pub fn packets(&mut self, policy: &GatePolicy, listing: &Listing, now: Moment) {
        self.accounts.retain(|account, _| policy.tenants.contains_key(account));
        for (id, tenant) in &policy.tenants {
            let account = self.accounts.entry(*id).or_default();
            let packets = listing.refused.get(&tenant.bridge).copied().unwrap_or_default();
            account.count += more(packets, account.packets);
            account.packets = packets;
            let shown = listing.denied.get(&tenant.bridge).map(Vec::as_slice).unwrap_or_default();
            let before = std::mem::take(&mut account.seen);
            for element in shown {
                let key = (element.bot, element.target.clone());
                let fresh = more(element.packets, before.get(&key).copied().unwrap_or_default());
                if fresh > 0 {
                    let deployment = policy.at(element.bot).map(|(deployment, _)| deployment);
                    account.sample(deployment, &element.target, fresh, last_tried(element, now));
                }
                account.seen.insert(key, element.packets);
            }
        }
    }

    /// For the report.
    #[must_use]
    pub fn report(&self) -> BTreeMap<AccountId, Denials> {
        let told = self.accounts.iter().filter(|(_, account)| account.count > 0);
        told.map(|(id, account)| (*id, account.report())).collect()
    }

    /// How much was refused in all: whether there is anything new to tell.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.accounts.values().map(|account| account.count).sum()
    }
}

impl Account {
    fn sample(&mut self, deployment: Option<DeploymentId>, target: &str, count: u64, at: Moment) {
        let sample = self.samples.entry((deployment, target.to_owned())).or_insert(Sample { at, count: 0 });
        sample.count += count;
        sample.at = at.max(sample.at);
        if self.samples.len() > SAMPLES_MAX {
            let oldest = self.samples.iter().min_by_key(|(_, sample)| sample.at).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.samples.remove(&key));
        }
    }

    fn report(&self) -> Denials {
        let mut samples: Vec<Denial> = self.samples.iter().map(denial).collect();
        samples.sort_by_key(|sample| sample.at);
        let samples = samples.split_off(samples.len().saturating_sub(DENIALS_SAMPLED_MAX));
        Denials { count: self.count, samples }
    }
}

fn denial(((deployment, target), sample): (&(Option<DeploymentId>, String), &Sample)) -> Denial {
    Denial { at: sample.at, deployment: *deployment, target: target.clone(), count: sample.count }
}

/// What a counter has counted since; one that is lower was begun anew.
const fn more(now: u64, before: u64) -> u64 {
    if now >= before { now - before } else { now }
}

fn last_tried(element: &DeniedElement, now: Moment) -> Moment {
    now - std::time::Duration::from_secs(REMEMBERED_SECONDS).saturating_sub(element.left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::policy::{Change, TenantGate};

    const MINUTE: i64 = 60_000_000;

    fn account() -> AccountId {
        "acct_0000000000000000000000000000000a".parse().unwrap()
    }

    fn policy() -> GatePolicy {
        let tenant = TenantGate { bridge: "lp00000000000a".to_owned(), subnet: "172.29.0.0/26".parse().unwrap() };
        GatePolicy::default().after(&Change::PutTenant { account: account(), tenant }).unwrap()
    }

    fn shown(packets: u64, left_seconds: u64) -> Listing {
        let denied = DeniedElement {
            bot: [172, 29, 0, 2].into(),
            target: "tcp 203.0.113.5:25".to_owned(),
            packets,
            left: std::time::Duration::from_secs(left_seconds),
        };
        let bridge = "lp00000000000a".to_owned();
        Listing {
            denied: BTreeMap::from([(bridge.clone(), vec![denied])]),
            refused: BTreeMap::from([(bridge, packets)]),
            ..Listing::default()
        }
    }

    #[test]
    fn what_the_kernel_counts_is_added_up_over_tables_that_were_made_anew() {
        let (mut tally, now) = (Tally::default(), Moment::from_micros(100 * MINUTE));
        for packets in [3, 5, 5, 2] {
            tally.packets(&policy(), &shown(packets, 590), now);
        }
        let told = tally.report().remove(&account()).unwrap();
        assert_eq!((told.count, told.samples[0].count), (7, 7));
        assert_eq!(now.since(told.samples[0].at).as_secs(), 10, "it was last tried ten seconds ago");
        tally.packets(&GatePolicy::default(), &Listing::default(), now);
        assert_eq!(tally.report(), BTreeMap::new(), "who is gone is forgotten");
    }

    #[test]
    fn a_flood_of_names_is_counted_and_the_latest_are_shown() {
        let mut tally = Tally::default();
        let bot = "dep_0000000000000000000000000000000d".parse().unwrap();
        for number in 0..1000 {
            let now = Moment::from_micros(number);
            tally.name(account(), bot, &format!("n{number}.example"), now);
            tally.name(account(), bot, "lasting.example", now);
        }
        let told = tally.report().remove(&account()).unwrap();
        assert_eq!((told.count, told.samples.len()), (2000, DENIALS_SAMPLED_MAX));
        let last = told.samples.last_chunk::<2>().unwrap();
        assert_eq!(last.each_ref().map(|sample| sample.target.as_str()), ["lasting.example", "n999.example"]);
        assert_eq!(last[0].count, 1000);
    }
}
