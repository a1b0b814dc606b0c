//! Under which lease a failover instance may run here, and until when. Pure.
//!
//! ```text
//!   report sent ──► stored by the coordinator ──► renewed, from when it was sent
//!                                                    └─ term later, without another ──► ended: it is stopped here
//! ```
//! The coordinator starts it elsewhere only a grace and a margin after that, counted from when it received the report:
//! so it is the longer side, whatever either clock on the wall shows. Everything here is on the boot clock, which counts
//! while the machine is suspended. Losing a renewal is safe, inventing one is not.

use std::time::Duration;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::LEASE_ENDED;
use launchpad_protocol::session::Renewal;
use launchpad_protocol::spec::{HostSpec, Lease};
use launchpad_protocol::time::BootMoment;

/// How an instance's lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It has none that could end: it runs on, whoever falls silent.
    Kept,
    /// It may run until then.
    Until(BootMoment),
    /// It may not run: it has ended, or was never renewed in this boot.
    Ended,
}

/// How a lease stands that was last renewed then, if it was in this boot.
#[must_use]
pub fn hold(lease: Lease, renewed_at: Option<BootMoment>, now: BootMoment) -> Hold {
    match (lease, renewed_at) {
        (Lease::Keep, _) => Hold::Kept,
        (Lease::Failover { term }, Some(at)) if now < at + term => Hold::Until(at + term),
        (Lease::Failover { .. }, _) => Hold::Ended,
    }
}

/// The shortest term among the leases that could end; none: none could.
#[must_use]
pub fn shortest_term(desired: &HostSpec) -> Option<Duration> {
    let term = |lease| match lease {
        Lease::Keep => None,
        Lease::Failover { term } => Some(term),
    };
    desired.instances.values().filter_map(|instance| term(instance.lease)).min()
}

/// When the host's leases were last renewed, after that word. What only extends brings back nothing that has ended:
/// what ran under it may run elsewhere by now. `shortest` is the term of the first to end.
#[must_use]
pub fn renewed(
    before: Option<BootMoment>,
    word: Renewal,
    shortest: Option<Duration>,
    now: BootMoment,
) -> Option<BootMoment> {
    let lasts = |at: BootMoment| shortest.is_some_and(|term| now < at + term);
    // A word about another boot would be from the future of this one's clock.
    if word.from <= now && (word.grants || before.is_some_and(lasts)) { before.max(Some(word.from)) } else { before }
}

/// Why an instance without a lease does not run.
#[must_use]
pub fn ended() -> Reason {
    Reason::new(LEASE_ENDED, "its lease has ended: the coordinator does not confirm that this host is heard")
        .because("it may be started on another host then, and must not run twice")
        .mend("nothing to do: it starts here or there as soon as the coordinator answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> BootMoment {
        BootMoment::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_lease_lasts_its_term_and_not_a_moment_longer() {
        let lease = Lease::Failover { term: TERM };
        assert_eq!(hold(lease, Some(at(5)), at(64)), Hold::Until(at(65)));
        assert_eq!(hold(lease, Some(at(5)), at(65)), Hold::Ended);
        assert_eq!(hold(lease, None, at(65)), Hold::Ended, "after a reboot there is none");
        assert_eq!(hold(Lease::Keep, None, at(65)), Hold::Kept);
    }

    #[test]
    fn what_extends_brings_back_nothing_that_has_ended() {
        let word = |from, grants| Renewal { from: at(from), grants };
        assert_eq!(renewed(Some(at(5)), word(30, false), Some(TERM), at(31)), Some(at(30)));
        assert_eq!(renewed(Some(at(5)), word(70, false), Some(TERM), at(71)), Some(at(5)));
        assert_eq!(renewed(Some(at(5)), word(70, true), Some(TERM), at(71)), Some(at(70)));
        assert_eq!(renewed(None, word(70, false), Some(TERM), at(71)), None);
        assert_eq!(renewed(Some(at(5)), word(6, false), None, at(7)), Some(at(5)), "nothing here needs it");
    }

    #[test]
    fn a_word_that_comes_late_never_shortens_a_lease() {
        let late = Renewal { from: at(3), grants: true };
        assert_eq!(renewed(Some(at(5)), late, Some(TERM), at(6)), Some(at(5)));
        let of_another_boot = Renewal { from: at(900), grants: true };
        assert_eq!(renewed(None, of_another_boot, Some(TERM), at(6)), None);
    }
}
