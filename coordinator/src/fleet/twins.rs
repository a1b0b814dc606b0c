//! Two machines with one host's identity: a disk was copied, and its machine id, too, or the agents would have noticed.
//!
//! Each session that opens ends the other's, and the other's agent opens the next one. What gives them away is the boot
//! that a Hello names: one machine's boots follow each other and none comes back; two machines' alternate. Nobody is
//! turned away for it: which of the two is the host only people can tell, and the right one would be turned away with the
//! other. This process's memory: the machines go on, and are noticed again after a restart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;

/// Boots of one host that are remembered: of two machines two would do, and copies come in dozens.
const BOOTS_MAX: usize = 16;

/// How long after a boot came back that is told. Two machines that are up do so every few seconds.
const TOLD_FOR: Duration = Duration::from_secs(3600);

/// The boots of all hosts that have greeted.
#[derive(Debug, Default)]
pub(super) struct Twins(Mutex<BTreeMap<HostId, Boots>>);

/// One host's boots.
#[derive(Debug, Default)]
struct Boots {
    /// The newest last.
    seen: VecDeque<String>,
    /// When one came back last, after another.
    back_at: Option<Moment>,
}

impl Twins {
    /// Notes that a host greeted in that boot; whether one came back for the first time in a while.
    pub(super) fn greeted(&self, host: HostId, boot: &str, now: Moment) -> bool {
        let mut all = self.lock();
        let boots = all.entry(host).or_default();
        let was_told = boots.is_told(now);
        boots.greeted(boot, now);
        boots.is_told(now) && !was_told
    }

    /// What is wrong with the host's identity, if two machines have it.
    pub(super) fn of(&self, host: HostId, now: Moment) -> Option<Reason> {
        self.lock().get(&host).filter(|boots| boots.is_told(now)).map(|_| in_use_twice())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Boots>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Boots {
    fn greeted(&mut self, boot: &str, now: Moment) {
        // Where `/proc` does not tell it, nothing can be told apart.
        if boot.is_empty() || self.seen.back().is_some_and(|newest| newest == boot) {
            return;
        }
        if self.seen.iter().any(|seen| seen == boot) {
            self.back_at = Some(now);
            self.seen.retain(|seen| seen != boot);
        }
        self.seen.push_back(boot.to_owned());
        if self.seen.len() > BOOTS_MAX {
            self.seen.pop_front();
        }
    }

    fn is_told(&self, now: Moment) -> bool {
        self.back_at.is_some_and(|at| at.apart(now) < TOLD_FOR)
    }
}

fn in_use_twice() -> Reason {
    Reason::new(
        "identity-in-use-twice",
        "two machines use this host's identity, and take its session from each other",
    )
    .because("a boot of it greeted again after another one had: somebody has copied its disk")
    .mend("on the copy run `launchpad-agent enroll --replace` with a new token; until then both run the same bots")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn host(number: u128) -> HostId {
        HostId::from(Uuid::from_u128(number))
    }

    /// What was noticed at each greeting, a second apart.
    fn noticed(twins: &Twins, boots: &[&str]) -> Vec<bool> {
        let at = |second: usize| Moment::from_micros(i64::try_from(second).unwrap() * 1_000_000);
        boots.iter().enumerate().map(|(second, boot)| twins.greeted(host(1), boot, at(second))).collect()
    }

    #[test]
    fn a_host_that_reconnects_and_reboots_is_one_machine() {
        let twins = Twins::default();
        assert!(!noticed(&twins, &["a", "a", "b", "b", "c", "", "c"]).contains(&true));
        assert_eq!(twins.of(host(1), Moment::from_micros(0)), None);
    }

    #[test]
    fn a_boot_that_comes_back_after_another_is_a_second_machine_and_is_noticed_once() {
        let twins = Twins::default();
        assert_eq!(noticed(&twins, &["a", "b", "a", "b", "a"]), [false, false, true, false, false]);
        let reason = twins.of(host(1), Moment::from_micros(5_000_000)).unwrap();
        assert!(reason.to_string().contains("enroll --replace"), "{reason}");
        assert_eq!(twins.of(host(2), Moment::from_micros(0)), None);
    }

    #[test]
    fn it_is_told_no_longer_once_the_copy_is_gone() {
        let twins = Twins::default();
        noticed(&twins, &["a", "b", "a"]);
        assert_eq!(twins.of(host(1), Moment::from_micros(3_700_000_000)), None);
    }

    #[test]
    fn what_is_remembered_of_a_host_has_an_end() {
        let mut boots = Boots::default();
        for number in 0..100 {
            boots.greeted(&number.to_string(), Moment::from_micros(0));
        }
        assert_eq!(boots.seen.len(), BOOTS_MAX);
    }
}
