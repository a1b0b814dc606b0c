//! Which protocol version two programs speak with each other, and which of them has to be upgraded when there is none.
//!
//! ```text
//!   agent 1–2, coordinator 2–3   ──►  2
//!   agent 1–1, coordinator 2–3   ──►  apart: upgrade the agent, on its host
//!   agent 3–4, coordinator 1–2   ──►  apart: upgrade the coordinator
//! ```
//! Each speaks its own release's version and the one before. The coordinator decides and says so; an agent that meets one
//! from before this rule decides for itself.

use crate::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use crate::reason::Reason;
use crate::version::OURS;

/// The code of the reason with which two programs of versions too far apart part. Asking again soon changes nothing.
pub const VERSIONS_APART: &str = "versions-apart";

/// What this build speaks, lowest and highest.
#[cfg(not(feature = "killpoints"))]
#[must_use]
pub const fn spoken() -> (u32, u32) {
    (PROTOCOL_MIN, PROTOCOL_MAX)
}

/// The same; a test may have a process pose as a release of another time by `LAUNCHPAD_SPEAKS=<lowest>-<highest>`.
#[cfg(feature = "killpoints")]
#[must_use]
pub fn spoken() -> (u32, u32) {
    let posed = std::env::var("LAUNCHPAD_SPEAKS").ok();
    let range = posed.as_deref().and_then(|text| text.split_once('-'));
    range
        .and_then(|(lowest, highest)| Some((lowest.parse().ok()?, highest.parse().ok()?)))
        .unwrap_or((PROTOCOL_MIN, PROTOCOL_MAX))
}

/// The highest version that both speak. `agent_version` is what the agent calls itself.
///
/// # Errors
/// There is none: why, and which side has to be upgraded to what.
pub(super) fn common(ours: (u32, u32), agent: (u32, u32), agent_version: &str) -> Result<u32, Reason> {
    let highest = ours.1.min(agent.1);
    if highest >= ours.0.max(agent.0) {
        return Ok(highest);
    }
    let what = format!(
        "the agent (version {agent_version}) speaks protocol {}, this coordinator (version {OURS}) {}",
        range(agent),
        range(ours)
    );
    let apart = Reason::new(VERSIONS_APART, what);
    Err(if agent.1 < ours.0 {
        apart.because("the agent is more than one release behind").mend(format!(
            "upgrade launchpad-agent on that host to {OURS}, or to any release that speaks protocol {}: its bots run on \
             meanwhile",
            ours.0
        ))
    } else {
        apart.because("the coordinator is more than one release behind").mend(format!(
            "upgrade launchpad-coordinator to {agent_version}, or to any release that speaks protocol {}",
            agent.0
        ))
    })
}

/// Why an agent parts from a coordinator that has chosen a version which the agent does not speak; none: it does.
pub(super) fn told_another(ours: (u32, u32), theirs: u32) -> Option<Reason> {
    if (ours.0..=ours.1).contains(&theirs) {
        return None;
    }
    let what = format!(
        "the coordinator speaks protocol {theirs} with us, this agent (version {OURS}) speaks {}",
        range(ours)
    );
    let apart = Reason::new(VERSIONS_APART, what).because("it chose what was not offered");
    Some(if theirs > ours.1 {
        apart.mend("upgrade launchpad-agent on this host to the coordinator's version: its bots run on meanwhile")
    } else {
        apart.mend(format!("upgrade launchpad-coordinator to {OURS}"))
    })
}

fn range((lowest, highest): (u32, u32)) -> String {
    if lowest == highest { lowest.to_string() } else { format!("{lowest} to {highest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_release_apart_works_in_both_directions_and_two_do_not() {
        let release = |n: u32| (n.max(1), n + 1);
        for ours in 1..6 {
            for theirs in 1..6_u32 {
                let met = common(release(ours), release(theirs), "0.0.0");
                assert_eq!(met.is_ok(), ours.abs_diff(theirs) <= 1, "{ours} and {theirs}: {met:?}");
            }
        }
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        assert_eq!(common((1, 3), (2, 5), "0.2.0"), Ok(3));
        assert_eq!(common((1, 1), (1, 1), "0.2.0"), Ok(1));
    }

    #[test]
    fn the_older_side_is_named_with_what_to_upgrade_it_to() {
        let old_agent = common((3, 4), (1, 2), "0.1.0").unwrap_err().paragraph();
        assert!(old_agent.contains("upgrade launchpad-agent on that host to"), "{old_agent}");
        let old_coordinator = common((1, 2), (3, 4), "9.0.0").unwrap_err().paragraph();
        assert!(old_coordinator.contains("upgrade launchpad-coordinator to 9.0.0"), "{old_coordinator}");
    }

    #[test]
    fn an_agent_believes_no_version_that_it_does_not_speak() {
        assert_eq!(told_another((1, 2), 2), None);
        let newer = told_another((1, 2), 3).unwrap().paragraph();
        assert!(newer.contains("upgrade launchpad-agent on this host"), "{newer}");
        let older = told_another((2, 3), 1).unwrap().paragraph();
        assert!(older.contains("upgrade launchpad-coordinator to"), "{older}");
    }
}
