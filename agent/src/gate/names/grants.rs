//! What the kernel was asked to let through for each bot, and until when: a name whose addresses it still
//! holds long enough is answered without asking the kernel's keeper again. Pure: the time is an argument.
//!
//! It only ever errs towards asking again. It forgets a bot whose part of the policy changed, and one for
//! which the keeper says that something was lost ([`crate::gate::ports::Admits::losses`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use launchpad_protocol::id::DeploymentId;
use tokio::time::Instant;

use crate::gate::policy::GatePolicy;

/// Pairs of address and port that one bot may have open at once: sixty names of sixteen addresses. A bot with
/// a rule for all names below one could fill the kernel's sets otherwise.
pub(super) const ELEMENTS_PER_BOT_MAX: usize = 1024;

/// All bots' open ways.
#[derive(Debug, Default)]
pub(super) struct Grants(HashMap<DeploymentId, Held>);

#[derive(Debug, Default)]
struct Held {
    /// The keeper's count when this was granted.
    losses: u64,
    until: BTreeMap<(Ipv4Addr, u16), Instant>,
}

/// Ways that one bot needs open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ways<'a> {
    /// Whose.
    pub(super) deployment: DeploymentId,
    /// How often the keeper has lost something of it.
    pub(super) losses: u64,
    /// Where to.
    pub(super) to: &'a [Ipv4Addr],
    /// On which ports.
    pub(super) ports: &'a BTreeSet<u16>,
}

impl Grants {
    /// Whether all of them stay open until then.
    pub(super) fn cover(&self, ways: Ways<'_>, until: Instant) -> bool {
        let held = self.0.get(&ways.deployment).filter(|held| held.losses == ways.losses);
        held.is_some_and(|held| ways.elements().all(|way| held.until.get(&way).is_some_and(|end| *end >= until)))
    }

    /// Whether they fit beside what is open; what has ended makes room.
    pub(super) fn fit(&mut self, ways: Ways<'_>, now: Instant) -> bool {
        let Some(held) = self.0.get_mut(&ways.deployment) else { return true };
        held.until.retain(|_, end| *end > now);
        let new = ways.elements().filter(|way| !held.until.contains_key(way)).count();
        held.until.len() + new <= ELEMENTS_PER_BOT_MAX
    }

    /// Notes that they are open until then.
    pub(super) fn note(&mut self, ways: Ways<'_>, until: Instant) {
        let held = self.0.entry(ways.deployment).or_default();
        if held.losses != ways.losses {
            *held = Held { losses: ways.losses, until: BTreeMap::new() };
        }
        for way in ways.elements() {
            let end = held.until.entry(way).or_insert(until);
            *end = until.max(*end);
        }
    }

    /// Forgets every bot of which the two do not say the same.
    pub(super) fn forget_changed(&mut self, before: &GatePolicy, now: &GatePolicy) {
        self.0.retain(|deployment, _| before.instances.get(deployment) == now.instances.get(deployment));
    }
}

impl Ways<'_> {
    fn elements(&self) -> impl Iterator<Item = (Ipv4Addr, u16)> {
        self.to.iter().flat_map(|to| self.ports.iter().map(|port| (*to, *port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use uuid::Uuid;

    fn bot(n: u128) -> DeploymentId {
        Uuid::from_u128(n).into()
    }

    fn address(n: usize) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + u32::try_from(n).expect("few"))
    }

    #[test]
    fn a_way_is_open_until_its_end_for_that_bot_and_that_port() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let (to, https, other) = ([address(1)], BTreeSet::from([443]), BTreeSet::from([443, 8443]));
        let ways = Ways { deployment: bot(1), losses: 0, to: &to, ports: &https };
        let end = now + Duration::from_secs(60);
        grants.note(ways, end);
        assert!(grants.cover(ways, end) && !grants.cover(ways, end + Duration::from_secs(1)));
        assert!(!grants.cover(Ways { deployment: bot(2), ..ways }, now));
        assert!(!grants.cover(Ways { ports: &other, ..ways }, now));
        grants.note(ways, now);
        assert!(grants.cover(ways, end), "a shorter time takes nothing away");
    }

    #[test]
    fn what_the_keeper_lost_is_not_open_any_more() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let (to, ports) = ([address(1)], BTreeSet::from([443]));
        let ways = Ways { deployment: bot(1), losses: 0, to: &to, ports: &ports };
        grants.note(ways, now + Duration::from_secs(60));
        let after = Ways { losses: 1, ..ways };
        assert!(!grants.cover(after, now));
        grants.note(after, now + Duration::from_secs(60));
        assert!(grants.cover(after, now));
    }

    #[test]
    fn a_bot_opens_so_many_ways_at_once_and_may_open_more_when_some_have_ended() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let ports = BTreeSet::from([443]);
        let many: Vec<_> = (0..ELEMENTS_PER_BOT_MAX).map(address).collect();
        let ways = Ways { deployment: bot(1), losses: 0, to: &many, ports: &ports };
        assert!(grants.fit(ways, now));
        let end = now + Duration::from_secs(60);
        grants.note(ways, end);
        let more = [address(ELEMENTS_PER_BOT_MAX)];
        let more = Ways { to: &more, ..ways };
        assert!(grants.fit(ways, now), "the same ones again");
        assert!(!grants.fit(more, now) && grants.fit(Ways { deployment: bot(2), ..more }, now));
        assert!(grants.fit(more, end));
    }
}
