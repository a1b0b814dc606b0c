//! The session between one agent and a coordinator, without I/O: frames in, effects out.
//!
//! `agent/link.rs` drives [`AgentSession`], `coordinator/fleet/session.rs` drives [`CoordinatorSession`], and the cluster
//! test drives both in one event heap. One value lives as long as one connection; what outlives it (the ledger's floor,
//! the store's fence) arrives in [`crate::frame::Hello`] and [`Admission`]: resuming is starting again, well informed.
//!
//! ```text
//!  agent     Greeting ── Welcome ─► Live ── Farewell, or a frame out of turn ─► Over
//!  coord.    Listening ── Hello ──► Admitting ── Admission ─► Live ───────────► Over
//! ```
//! Nothing here trusts delivery: a spec is offered again when a report shows that it did not arrive, a report is sent
//! anew when its confirmation does not come, and numbers make every repeat harmless.

mod agent;
mod coordinator;

pub use agent::{AgentEffect, AgentInput, AgentSession, REPORT_RETRY};
pub use coordinator::{Admission, CoordinatorEffect, CoordinatorInput, CoordinatorSession};

use crate::reason::Reason;

/// The highest protocol version that both ranges hold.
fn common_version(ours: (u32, u32), theirs: (u32, u32)) -> Option<u32> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

fn out_of_turn(what: &str, state: &str) -> Reason {
    Reason::new("frame-out-of-turn", format!("{what} arrived while the session was {state}"))
        .because("the peer broke the protocol, or is of another version")
        .mend("the session is opened anew; if this repeats, compare the versions of agent and coordinator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        assert_eq!(common_version((1, 3), (2, 5)), Some(3));
        assert_eq!(common_version((1, 1), (1, 1)), Some(1));
        assert_eq!(common_version((1, 2), (3, 4)), None);
    }
}
