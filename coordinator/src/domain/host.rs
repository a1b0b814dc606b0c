//! What a host can be, and what turns it from one thing into another.
//!
//! ```text
//!   pending ──(first report)──► active ⇄ silent
//!      │                          │        │
//!      └────────────┬─────────────┴────────┘
//!                   ▼ (revoked)
//!                retired
//! ```
//! Only an active host is given deployments. A silent one keeps its own: nothing is ever started elsewhere merely
//! because a host does not speak.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

/// How long a host may be quiet: three reports may be lost on the way.
pub const SILENT_AFTER: Duration = Duration::from_secs(3 * REPORT_INTERVAL.as_secs());

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Enrolled; it has not reported yet.
    Pending,
    /// It reports.
    Active,
    /// It has not reported for a while.
    Silent,
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
    /// An operator revoked it.
    Revoked,
}

/// What becomes of what is on a revoked host, whoever asks: enrolling it anew takes nothing over, and removes nothing.
pub const LEFT_ON_A_REVOKED_HOST: &str = "what is on that host runs on and is never taken over: remove it there, or wipe \
                                          its disk, before the host is enrolled anew";

/// What a host is after something happened to it. A retired host stays retired.
#[must_use]
pub const fn step(state: HostState, event: HostEvent) -> HostState {
    match (state, event) {
        (HostState::Retired, HostEvent::Reported | HostEvent::FellSilent | HostEvent::Revoked)
        | (HostState::Pending | HostState::Active | HostState::Silent, HostEvent::Revoked) => HostState::Retired,
        (HostState::Pending | HostState::Active | HostState::Silent, HostEvent::Reported) => HostState::Active,
        // A host that never spoke cannot fall silent.
        (HostState::Pending, HostEvent::FellSilent) => HostState::Pending,
        (HostState::Active | HostState::Silent, HostEvent::FellSilent) => HostState::Silent,
    }
}

/// What a host's deployments are told while it is silent: what is shown of them was true when it last spoke. None: it is
/// not silent.
#[must_use]
pub fn silence(state: HostState, last_seen_at: Option<Moment>) -> Option<Reason> {
    if state != HostState::Silent {
        return None;
    }
    let since = last_seen_at.map_or_else(String::new, |at| format!(" since {at}"));
    let reason = Reason::new("host-silent", format!("its host has not been heard of{since}"))
        .because("the host is down, or cannot reach the coordinator; what runs there may well run on")
        .mend("bring the host back: it is never started elsewhere by itself, because it must not run twice");
    Some(reason)
}

impl HostState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Active, Self::Silent, Self::Retired];

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Silent => "silent",
            Self::Retired => "retired",
        }
    }

    /// Whether new deployments may be put on it.
    #[must_use]
    pub const fn is_placeable(self) -> bool {
        match self {
            Self::Active => true,
            Self::Pending | Self::Silent | Self::Retired => false,
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

    #[test]
    fn a_retired_host_stays_retired_and_any_host_can_be_retired() {
        for event in [HostEvent::Reported, HostEvent::FellSilent, HostEvent::Revoked] {
            assert_eq!(step(HostState::Retired, event), HostState::Retired);
        }
        for state in HostState::ALL {
            assert_eq!(step(state, HostEvent::Revoked), HostState::Retired);
        }
    }

    #[test]
    fn only_a_silent_host_has_a_silence_to_tell_of() {
        let told = HostState::ALL.map(|state| silence(state, None).is_some());
        assert_eq!(told, HostState::ALL.map(|state| state == HostState::Silent));
        let reason = silence(HostState::Silent, Some(Moment::from_micros(0))).expect("silent");
        assert!(reason.sentence.contains("1970-01-01"), "{reason}");
    }

    #[test]
    fn a_silent_host_that_speaks_is_active_again() {
        assert_eq!(step(step(HostState::Active, HostEvent::FellSilent), HostEvent::Reported), HostState::Active);
        assert_eq!(step(HostState::Pending, HostEvent::FellSilent), HostState::Pending);
    }
}
