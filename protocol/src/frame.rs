//! What travels on the control stream, one enum each way.
//!
//! ```text
//! agent ── Hello ──► coordinator
//!       ◄─ Welcome ─            (or Farewell with a reason)
//!       ◄─ Spec ────   ── Verdict ──►
//!       ── Report n ►  ◄─ ReportStored n ─
//!       ◄─ Ask ─────   (answered on a stream of its own, see [`Answer`])
//! ```
//! [`crate::session`] decides what is sent when; [`crate::wire`] turns these into bytes.

use std::collections::BTreeSet;

use crate::feature::Feature;
use crate::generation::{Accepted, Fence, Generation};
use crate::id::{AskId, DeploymentId, IncarnationId};
use crate::reason::Reason;
use crate::report::HostReport;
use crate::spec::SpecOffer;
use crate::time::Moment;

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFrame {
    /// First, and once.
    Hello(Hello),
    /// What became of an offered spec.
    Verdict {
        /// The generation that was offered.
        generation: Generation,
        /// What the ledger holds now. It equals the offer when that was taken.
        held: Option<Accepted>,
        /// Why it was not taken.
        refusal: Option<Reason>,
    },
    /// What the host is now.
    Report {
        /// Rises by one in a session.
        seq: u64,
        /// The report.
        report: Box<HostReport>,
    },
}

/// An agent's first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The protocol versions that it speaks, lowest and highest.
    pub protocol: (u32, u32),
    /// What it can do.
    pub features: BTreeSet<Feature>,
    /// Its version, for people.
    pub agent_version: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The incarnation of the store that made the spec in its ledger.
    pub incarnation: Option<IncarnationId>,
    /// The spec in its ledger: its floor.
    pub accepted: Option<Accepted>,
    /// The host's wall clock.
    pub wall: Moment,
}

/// What a coordinator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorFrame {
    /// The answer to Hello.
    Welcome(Welcome),
    /// The end of the session, and why. The connection closes behind it.
    Farewell(Reason),
    /// Desired state.
    Spec(SpecOffer),
    /// A report, and all events in it, are stored.
    ReportStored {
        /// The report's number.
        seq: u64,
        /// What that means for the host's leases.
        leases: Leases,
    },
    /// A question.
    Ask(Ask),
    /// Nobody waits for that answer any more.
    Cancel(AskId),
}

/// What a stored report means for the leases under which its host's failover instances run. They count from when the
/// report was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// Nothing: the coordinator knows of no leases.
    Untouched,
    /// Those that have not ended go on. One that has ended stays so: what ran under it may run elsewhere by now.
    Extended,
    /// The host holds all that is wished of it: one that has ended begins anew as well.
    Granted,
}

/// A coordinator's first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version that both speak.
    pub protocol: u32,
    /// The store's life.
    pub incarnation: IncarnationId,
    /// This session's number: the store takes no report under a lower one.
    pub fence: Fence,
    /// The coordinator's wall clock.
    pub wall: Moment,
}

/// A question to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Which question.
    pub id: AskId,
    /// When the asker stops waiting, in milliseconds from receipt: clocks differ.
    pub deadline_ms: u64,
    /// What is asked.
    pub question: Question,
}

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The output of an instance.
    Logs {
        /// Whose.
        deployment: DeploymentId,
        /// Lines from the past, at most.
        tail: u32,
        /// Whether to go on with new lines.
        follow: bool,
    },
}

/// One piece of an answer, on a stream of its own: pieces, then exactly one `End`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A line of output.
    Line(LogLine),
    /// The end; a reason if there is less than was asked for.
    End(Option<Reason>),
}

/// One line that a bot wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the engine took it.
    pub at: Moment,
    /// Where the bot wrote it.
    pub stream: OutputStream,
    /// The text, without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
