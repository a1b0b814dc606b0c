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
mod versions;

pub use agent::{AgentEffect, AgentInput, AgentSession, REPORT_RETRY, Renewal};
pub use coordinator::{Admission, CoordinatorEffect, CoordinatorInput, CoordinatorSession};

pub use versions::{VERSIONS_APART, spoken};

use crate::reason::Reason;

fn out_of_turn(what: &str, state: &str) -> Reason {
    Reason::new("frame-out-of-turn", format!("{what} arrived while the session was {state}"))
        .because("the peer broke the protocol, or is of another version")
        .mend("the session is opened anew; if this repeats, compare the versions of agent and coordinator")
}
