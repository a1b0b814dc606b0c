//! Hosts that are not heard, as one life of one coordinator has witnessed it; and when so many fall silent together that
//! the coordinator is the likelier suspect. Pure.
//!
//! ```text
//!   a few hosts silent ──► their failover bots move
//!   more than a fifth of the fleet, and two at least ──► frozen: nothing moves
//!        └─ enough are back, or an operator says that they are lost ──► not frozen
//! ```
//! How long a host has been silent counts from when this process first saw its last report in the store, on this
//! process's boot clock. So a coordinator that has just started, was restored, or whose wall clock jumps calls nobody
//! silent for it, and what it allows is later than what any other replica would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::{BootMoment, Moment};
use serde::{Deserialize, Serialize};

use super::host::HostState;

/// Of a hundred hosts, how many may fall silent together before that is suspected to be the coordinator's own doing: a
/// rack may, a fifth of a fleet seldom does.
const SUSPICIOUS_PERCENT: usize = 20;

/// Fewer silent hosts than this are never suspicious: one of two is half of the fleet, and may simply be down.
const SUSPICIOUS_LEAST: usize = 2;

/// When each host was last heard, as far as this life knows.
#[derive(Debug, Clone, Default)]
pub struct Heard(BTreeMap<HostId, (Option<Moment>, BootMoment)>);

impl Heard {
    /// For how long the host has been silent whose last report the store has from `last_seen_at`.
    pub fn silent_for(&mut self, host: HostId, last_seen_at: Option<Moment>, now: BootMoment) -> Duration {
        let (seen, since) = self.0.entry(host).or_insert((last_seen_at, now));
        if *seen != last_seen_at {
            (*seen, *since) = (last_seen_at, now);
        }
        now.since(*since)
    }
}

/// Who fell silent together, and who is believed to be lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Set while nothing moves.
    pub frozen: Option<Frozen>,
    /// Silent hosts that an operator has called lost: they raise no suspicion until they were heard again.
    pub excused: BTreeSet<HostId>,
}

/// Nothing moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Since when.
    pub since: Moment,
    /// The hosts that fell silent together, and are silent still.
    pub suspects: BTreeSet<HostId>,
    /// How many hosts there were.
    pub fleet: usize,
}

impl Frozen {
    /// The same as a reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let sentence =
            format!("{} of {} hosts fell silent together: no bot is moved", self.suspects.len(), self.fleet);
        Reason::new("failover-frozen", sentence)
            .because(format!(
                "more than {SUSPICIOUS_PERCENT} % at once point to the coordinator or its network, and what is silent may well run"
            ))
            .mend("it goes on when enough of them are heard again; if they are lost: `launchpad hosts thaw`")
    }
}

impl Suspicion {
    /// What is suspected now, of a fleet in those states.
    #[must_use]
    pub fn weigh(&self, fleet: &BTreeMap<HostId, HostState>, now: Moment) -> Self {
        let is_silent = |id: &HostId| matches!(fleet.get(id), Some(HostState::Silent | HostState::Lost));
        let excused: BTreeSet<_> = self.excused.iter().copied().filter(is_silent).collect();
        // A host that is called lost fell silent long before those that do now.
        let fresh = fleet.iter().filter(|(id, state)| **state == HostState::Silent && !excused.contains(*id));
        let known = self.frozen.iter().flat_map(|frozen| &frozen.suspects).copied().filter(is_silent);
        let suspects: BTreeSet<_> = fresh.map(|(id, _)| *id).chain(known).collect();
        let heard = fleet.values().filter(|state| matches!(state, HostState::Active | HostState::Cordoned)).count();
        let count = heard + suspects.len();
        let is_suspicious = suspects.len() >= SUSPICIOUS_LEAST && suspects.len() * 100 > count * SUSPICIOUS_PERCENT;
        let since = self.frozen.as_ref().map_or(now, |frozen| frozen.since);
        Self { frozen: is_suspicious.then_some(Frozen { since, suspects, fleet: count }), excused }
    }

    /// The same after an operator's word that the silent hosts are lost.
    #[must_use]
    pub fn thawed(self) -> Self {
        let suspects = self.frozen.into_iter().flat_map(|frozen| frozen.suspects);
        Self { frozen: None, excused: self.excused.into_iter().chain(suspects).collect() }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NOW: Moment = Moment::from_micros(7);

    fn id(n: usize) -> HostId {
        Uuid::from_u128(n as u128 + 1).into()
    }

    /// So many hosts, of which the first `silent` are.
    fn fleet(count: usize, silent: usize) -> BTreeMap<HostId, HostState> {
        let state = |n| if n < silent { HostState::Silent } else { HostState::Active };
        (0..count).map(|n| (id(n), state(n))).collect()
    }

    fn is_frozen(count: usize, silent: usize) -> bool {
        Suspicion::default().weigh(&fleet(count, silent), NOW).frozen.is_some()
    }

    #[test]
    fn one_silent_host_is_never_suspicious_and_two_are_in_a_small_fleet() {
        assert!((1..6).all(|count| !is_frozen(count, 1)));
        assert!((2..10).all(|count| is_frozen(count, 2)));
        assert!(!is_frozen(10, 2) && is_frozen(10, 3), "more than a fifth");
        assert!(!is_frozen(100, 20) && is_frozen(100, 21));
    }

    #[test]
    fn it_thaws_by_itself_when_enough_are_back_and_stays_frozen_while_they_are_called_lost() {
        let frozen = Suspicion::default().weigh(&fleet(10, 4), NOW);
        let lost = fleet(10, 4)
            .into_iter()
            .map(|(id, state)| (id, if state == HostState::Silent { HostState::Lost } else { state }));
        let later = frozen.weigh(&lost.collect(), Moment::from_micros(9));
        assert_eq!(later.frozen.as_ref().map(|frozen| frozen.since), Some(NOW));
        assert_eq!(later.weigh(&fleet(10, 2), NOW).frozen, None);
    }

    #[test]
    fn hosts_that_were_lost_long_ago_raise_no_suspicion() {
        let mut few = fleet(5, 1);
        few.insert(id(3), HostState::Lost);
        few.insert(id(4), HostState::Lost);
        assert_eq!(Suspicion::default().weigh(&few, NOW).frozen, None);
    }

    #[test]
    fn an_operators_word_thaws_until_those_hosts_were_heard_again() {
        let thawed = Suspicion::default().weigh(&fleet(4, 2), NOW).thawed().weigh(&fleet(4, 2), NOW);
        assert_eq!((thawed.frozen.is_none(), thawed.excused.len()), (true, 2));
        let back = thawed.weigh(&fleet(4, 0), NOW);
        assert!(back.weigh(&fleet(4, 2), NOW).frozen.is_some());
    }

    #[test]
    fn a_host_is_silent_from_when_this_life_first_saw_its_last_report() {
        let at = |seconds: u64| BootMoment::from_micros(seconds * 1_000_000);
        let mut heard = Heard::default();
        let seen = |micros| Some(Moment::from_micros(micros));
        assert_eq!(heard.silent_for(id(0), seen(1), at(100)), Duration::ZERO, "however long ago that was");
        assert_eq!(heard.silent_for(id(0), seen(1), at(130)), Duration::from_secs(30));
        assert_eq!(heard.silent_for(id(0), seen(0), at(131)), Duration::ZERO, "a clock that was set back included");
    }
}
