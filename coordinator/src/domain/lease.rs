//! What becomes of a bot whose host falls silent: policies, leases, and when a bot has surely stopped there. Pure.
//!
//! ```text
//!   host:         report sent ──────────────── term ──────────────► stops its failover bots ── stop grace ─► stopped
//!   coordinator:      report received ──────── term ────────── stop grace ────────── margin ──────────► starts elsewhere
//! ```
//! Both count on their boot clocks, and received is never before sent: so the second line is the longer one. What defeats
//! it is a host on which nobody can stop anything: one that its hypervisor has paused and that resumes between two
//! instructions, an agent that does not come back within the margin, an engine that obeys nobody. That is why only what
//! keeps no state may move.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::Lease;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// How long a host may be quiet: three reports may be lost on the way.
pub const SILENT_AFTER: Duration = Duration::from_secs(3 * REPORT_INTERVAL.as_secs());

/// How long a silent host is waited for until it is called lost: a reboot, or a cable that somebody looks for.
const LOST_AFTER: Duration = Duration::from_secs(600);

/// How long a renewal lasts: a coordinator that is restarted, upgraded or fails over to another machine is back by then,
/// and stops nobody.
const LEASE_TERM: Duration = Duration::from_secs(180);

/// What is waited beyond lease and stop grace: systemd notices a hung agent and starts it again (30 s of watchdog, 5 s of
/// pause, seconds to begin), or a suspended host resumes and looks up to a report's interval late; and an engine under
/// load takes seconds to kill.
const MARGIN: Duration = Duration::from_secs(60);

/// How patient a coordinator is with its hosts. Tests are less so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A host that has been quiet for longer is silent.
    pub silent_after: Duration,
    /// One that has been for longer still is lost.
    pub lost_after: Duration,
    /// How long a renewal of a lease lasts.
    pub term: Duration,
    /// What is waited beyond a lease and its stop grace.
    pub margin: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silent_after: SILENT_AFTER, lost_after: LOST_AFTER, term: LEASE_TERM, margin: MARGIN }
    }
}

/// Four numbers of seconds, as `12,60,14,4`: silent, lost, term, margin. For tests.
impl FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds: Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
        match seconds.as_deref() {
            Ok(&[silent, lost, term, margin]) => Ok(Self {
                silent_after: Duration::from_secs(silent),
                lost_after: Duration::from_secs(lost),
                term: Duration::from_secs(term),
                margin: Duration::from_secs(margin),
            }),
            _ => Err("expected four numbers of seconds: SILENT,LOST,TERM,MARGIN".to_owned()),
        }
    }
}

impl Patience {
    /// How long a host must have been unheard until a bot under that lease has surely stopped there. None: it never
    /// stops by itself, and is never started elsewhere.
    #[must_use]
    pub fn stopped_after(&self, lease: Lease, stop_grace: Duration) -> Option<Duration> {
        match lease {
            Lease::Keep => None,
            // What the host holds may have been granted by a coordinator with a longer term than this one's.
            Lease::Failover { term } => Some(term.max(self.term) + stop_grace + self.margin),
        }
    }
}

/// What becomes of a bot when its host falls silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It runs on, and is never started elsewhere by itself.
    #[default]
    Keep,
    /// It stops itself when its lease ends, and is started elsewhere.
    Failover,
}

impl Policy {
    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Failover => "failover",
        }
    }

    /// The lease of a bot under this policy.
    #[must_use]
    pub const fn lease(self, patience: &Patience) -> Lease {
        match self {
            Self::Keep => Lease::Keep,
            Self::Failover => Lease::Failover { term: patience.term },
        }
    }

    /// Whether a bot may have it.
    ///
    /// # Errors
    /// A refusal when it would move without its data.
    pub fn check(self, keeps_state: bool, profile: &str) -> Result<(), Refusal> {
        if self == Self::Keep || !keeps_state {
            return Ok(());
        }
        let sentence =
            format!("a bot of profile `{profile}` keeps its state on its host's disk and cannot fail over");
        let reason = Reason::new("failover-with-volume", sentence)
            .because("on another host it would start without its data")
            .mend("deploy it with the policy `keep`, or choose a profile without a `state_path`");
        Err(Refusal::impossible(reason))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no policy")]
pub struct PolicyError(String);

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        [Self::Keep, Self::Failover]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| PolicyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    #[test]
    fn a_bot_is_waited_for_longer_than_its_lease_its_grace_and_whoever_stops_it_may_take() {
        let patience = Patience::default();
        let lease = Policy::Failover.lease(&patience);
        assert_eq!(patience.stopped_after(lease, GRACE), Some(LEASE_TERM + GRACE + MARGIN));
        assert_eq!(patience.stopped_after(Lease::Keep, GRACE), None);
    }

    #[test]
    fn a_shorter_term_of_this_coordinator_ends_no_lease_of_its_predecessor() {
        let hasty: Patience = "1,2,3,4".parse().unwrap();
        let granted = Lease::Failover { term: LEASE_TERM };
        assert_eq!(hasty.stopped_after(granted, GRACE), Some(LEASE_TERM + GRACE + Duration::from_secs(4)));
    }

    #[test]
    fn only_what_keeps_nothing_may_move() {
        assert_eq!(Policy::Failover.check(true, "echo").unwrap_err().reason.code, "failover-with-volume");
        assert!(Policy::Failover.check(false, "echo").is_ok() && Policy::Keep.check(true, "echo").is_ok());
    }

    #[test]
    fn a_host_is_silent_before_its_lease_ends_and_lost_after_what_could_move_has_moved() {
        let Patience { silent_after, lost_after, term, margin } = Patience::default();
        // A storm of silences is seen for what it is before the first bot moves.
        assert!(silent_after < term && term + margin < lost_after);
    }
}
