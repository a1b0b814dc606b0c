//! What a host can be, and what turns it from one thing into another.
//!
//! ```text
//!   pending ──(first report)──► active ⇄ cordoned        an operator wants nothing new on it
//!      │                          │  ▲
//!      │                  (quiet) ▼  │ (a report; cordoned again if it was)
//!      │                        silent ──(for long)──► lost ──(a report)──► active
//!      └──────────┬───────────────┴──────────────────────┘
//!                 ▼ (revoked, or retired)
//!              retired
//! ```
//! Only an active host is given deployments. A silent or lost one keeps its own, but for those that may fail over
//! ([`super::lease`]): nothing else is ever started elsewhere merely because a host does not speak.

use std::fmt;
use std::str::FromStr;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::lease::Policy;

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Enrolled; it has not reported yet.
    Pending,
    /// It reports.
    Active,
    /// It reports, and an operator wants nothing new on it.
    Cordoned,
    /// It has not reported for a while.
    Silent,
    /// It has not reported for so long that nobody counts on it any more.
    Lost,
    /// Its certificates are revoked; it does not come back under this id.
    Retired,
}

/// What happens to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostEvent {
    /// It reported.
    Reported,
    /// It has not, for too long.
    FellSilent,
    /// It has been silent for long.
    GivenUp,
    /// An operator wants nothing new on it.
    Cordoned,
    /// An operator lets it have deployments again.
    Uncordoned,
    /// An operator revoked or retired it.
    Revoked,
}

/// What becomes of what is on a revoked host, whoever asks: enrolling it anew takes nothing over, and removes nothing.
pub const LEFT_ON_A_REVOKED_HOST: &str = "what is on that host runs on and is never taken over: remove it there, or wipe \
                                          its disk, before the host is enrolled anew";

/// What a host is after something happened to it. A retired host stays retired; whether an operator wants nothing new on
/// it (`cordoned`) outlives its silence.
#[must_use]
pub const fn step(state: HostState, cordoned: bool, event: HostEvent) -> HostState {
    use HostState::{Active, Cordoned, Lost, Pending, Retired, Silent};
    match (state, event) {
        (Retired, _) | (_, HostEvent::Revoked) => Retired,
        (Pending | Active | Cordoned | Silent | Lost, HostEvent::Reported) if cordoned => Cordoned,
        (Pending | Active | Cordoned | Silent | Lost, HostEvent::Reported) => Active,
        (Active | Cordoned | Silent, HostEvent::FellSilent) => Silent,
        (Silent | Lost, HostEvent::GivenUp) => Lost,
        (Active, HostEvent::Cordoned) => Cordoned,
        (Cordoned, HostEvent::Uncordoned) => Active,
        // A host that never spoke cannot fall silent, and what it is not heard of counts when it is.
        (Pending | Lost, HostEvent::FellSilent)
        | (Pending | Active | Cordoned, HostEvent::GivenUp)
        | (Pending | Cordoned | Silent | Lost, HostEvent::Cordoned)
        | (Pending | Active | Silent | Lost, HostEvent::Uncordoned) => state,
    }
}

/// What a host's deployments are told while it is silent or lost: what is shown of them was true when it last spoke.
/// None: it is neither.
#[must_use]
pub fn silence(state: HostState, last_seen_at: Option<Moment>, policy: Policy) -> Option<Reason> {
    let code = match state {
        HostState::Silent => "host-silent",
        HostState::Lost => "host-lost",
        HostState::Pending | HostState::Active | HostState::Cordoned | HostState::Retired => return None,
    };
    let since = last_seen_at.map_or_else(String::new, |at| format!(" since {at}"));
    let reason = Reason::new(code, format!("its host has not been heard of{since}"))
        .because("the host is down, or cannot reach the coordinator; what runs there may well run on");
    Some(reason.mend(match policy {
        Policy::Keep => "bring the host back: it is never started elsewhere by itself, because it must not run twice",
        Policy::Failover => "nothing to do: it is started elsewhere once it has surely stopped there",
    }))
}

impl HostState {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Pending, Self::Active, Self::Cordoned, Self::Silent, Self::Lost, Self::Retired];

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::Retired => "retired",
        }
    }

    /// Whether new deployments may be put on it.
    #[must_use]
    pub const fn is_placeable(self) -> bool {
        match self {
            Self::Active => true,
            Self::Pending | Self::Cordoned | Self::Silent | Self::Lost | Self::Retired => false,
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no state of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state of a host")]
pub struct HostStateError(String);

impl FromStr for HostState {
    type Err = HostStateError;

    fn from_str(text: &str) -> Result<Self, HostStateError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| HostStateError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [HostEvent; 6] = [
        HostEvent::Reported,
        HostEvent::FellSilent,
        HostEvent::GivenUp,
        HostEvent::Cordoned,
        HostEvent::Uncordoned,
        HostEvent::Revoked,
    ];

    #[test]
    fn a_retired_host_stays_retired_and_any_host_can_be_retired() {
        for event in EVENTS {
            assert_eq!(step(HostState::Retired, false, event), HostState::Retired);
        }
        for state in HostState::ALL {
            assert_eq!(step(state, false, HostEvent::Revoked), HostState::Retired);
        }
    }

    #[test]
    fn only_a_silent_or_lost_host_has_a_silence_to_tell_of() {
        let told = HostState::ALL.map(|state| silence(state, None, Policy::Keep).map(|reason| reason.code));
        let codes = [None, None, None, Some("host-silent".to_owned()), Some("host-lost".to_owned()), None];
        assert_eq!(told, codes);
        let reason = silence(HostState::Silent, Some(Moment::from_micros(0)), Policy::Keep).expect("silent");
        assert!(reason.sentence.contains("1970-01-01"), "{reason}");
        assert_ne!(silence(HostState::Lost, None, Policy::Failover), silence(HostState::Lost, None, Policy::Keep));
    }

    #[test]
    fn a_silent_or_lost_host_that_speaks_is_what_it_was() {
        let quiet = |state, cordoned| step(state, cordoned, HostEvent::FellSilent);
        for (state, cordoned) in [(HostState::Active, false), (HostState::Cordoned, true)] {
            assert_eq!(step(quiet(state, cordoned), cordoned, HostEvent::Reported), state);
            let lost = step(quiet(state, cordoned), cordoned, HostEvent::GivenUp);
            assert_eq!((lost, step(lost, cordoned, HostEvent::Reported)), (HostState::Lost, state));
        }
        assert_eq!(quiet(HostState::Pending, false), HostState::Pending);
        assert_eq!(quiet(HostState::Lost, false), HostState::Lost);
    }

    #[test]
    fn a_host_is_given_up_only_after_it_fell_silent() {
        for state in [HostState::Pending, HostState::Active, HostState::Cordoned] {
            assert_eq!(step(state, false, HostEvent::GivenUp), state);
        }
    }
}
