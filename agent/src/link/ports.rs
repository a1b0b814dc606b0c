//! The channels between the link and the reconciler: all that either knows of the other.
//!
//! ```text
//!            link                                   reconcile
//!   Offer {spec, reply}  ── offers ──────────────►  ledger judges, answers Judged
//!   Forget {journal, n}  ── forgets ─────────────►  journal drops what is stored
//!   Renewal              ── renewals ────────────►  leases count from when that report was sent
//!   LinkStatus           ── status (newest) ─────►  the report's troubles, `status`
//!   for a report         ◄─ reports (newest) ────  HostReport, whenever it changed
//!   for the next Hello   ◄─ floor (newest) ──────  what the ledger holds
//! ```
//! [`ports`] makes both ends. Neither side waits for the other here: an offer is answered when the ledger has it on
//! disk, a forget that finds its queue full is left out (the next confirmation says as much and more), and of reports,
//! floors and states only the newest counts. A link that is down changes nothing on the reconciler's side.

use std::fmt;
use std::sync::Arc;

use launchpad_pki::pipe::Transport;
use launchpad_protocol::generation::Accepted;
use launchpad_protocol::id::{IncarnationId, JournalId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::session::Renewal;
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

/// Offers that wait for the ledger: one. A spec may have 16 MiB, and a newer one makes an older one pointless.
const OFFERS_QUEUED: usize = 1;

/// Confirmations that wait for the journal. One comes per report, and one that is left out is repeated by the next.
const FORGETS_QUEUED: usize = 4;

/// Renewals that wait for the loop, which takes them before it does anything slow. One that is left out ends a lease
/// sooner, and the next report brings another.
const RENEWALS_QUEUED: usize = 4;

/// A spec that the coordinator offers, for the ledger to judge.
#[derive(Debug)]
pub struct Offer {
    /// The spec, its digest not checked yet.
    pub offer: SpecOffer,
    /// Where the judgement goes, once it is on disk. Dropped: the session closes, and the spec is offered again.
    pub reply: oneshot::Sender<Judged>,
}

/// What the ledger says to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What the ledger holds now. It equals the offer when that was taken, or was held before.
    pub held: Option<Accepted>,
    /// Why the offer was not taken.
    pub refusal: Option<Reason>,
}

/// Events of this journal up to this number are stored by the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forget {
    /// The journal.
    pub journal: JournalId,
    /// The last number.
    pub through: u64,
}

/// What the ledger holds: the floor that every Hello tells the coordinator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// The life of the store that made the spec in the ledger.
    pub incarnation: Option<IncarnationId>,
    /// The spec in the ledger.
    pub accepted: Option<Accepted>,
}

/// Whether the coordinator answers. "Connected" means that it did: a Welcome came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "link")]
pub enum LinkStatus {
    /// A session stands.
    Connected {
        /// What carries it.
        transport: Transport,
        /// Which endpoint answered, as `HOST:PORT`.
        endpoint: String,
        /// When the Welcome came.
        since: Moment,
    },
    /// None does. Nothing on the host changes for it.
    Disconnected {
        /// Why the last attempt or session ended.
        reason: Reason,
        /// Since when there is none.
        since: Moment,
    },
}

/// In a few words, for a table.
impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { transport, endpoint, since } => {
                write!(f, "connected to {endpoint} over {transport} since {since}")
            }
            Self::Disconnected { reason, since } => write!(f, "not connected since {since}: {reason}"),
        }
    }
}

/// The link's ends.
#[derive(Debug)]
pub struct LinkPorts {
    /// Specs for the ledger.
    pub offers: mpsc::Sender<Offer>,
    /// Confirmations for the journal.
    pub forgets: mpsc::Sender<Forget>,
    /// From when on the host's leases count.
    pub renewals: mpsc::Sender<Renewal>,
    /// Whether the coordinator answers.
    pub status: watch::Sender<LinkStatus>,
    /// The newest report; none until the host was observed once.
    pub reports: watch::Receiver<Option<Arc<HostReport>>>,
    /// What the ledger holds.
    pub floor: watch::Receiver<Floor>,
}

/// The reconciler's ends.
#[derive(Debug)]
pub struct ReconcilePorts {
    /// Specs to judge, and to answer.
    pub offers: mpsc::Receiver<Offer>,
    /// Events that need not be kept any longer.
    pub forgets: mpsc::Receiver<Forget>,
    /// From when on the host's leases count.
    pub renewals: mpsc::Receiver<Renewal>,
    /// Whether the coordinator answers.
    pub status: watch::Receiver<LinkStatus>,
    /// Takes every new report. The link sends what is new at most every few milliseconds, and the newest again every
    /// [`launchpad_protocol::limits::REPORT_INTERVAL`]; the reconciler refreshes what ages in it (`wall`) by itself.
    pub reports: watch::Sender<Option<Arc<HostReport>>>,
    /// Takes what the ledger holds: set before an offer is answered, so that no Hello is behind a verdict.
    pub floor: watch::Sender<Floor>,
}

/// Both ends, with what the ledger holds at the start, at `now`.
#[must_use]
pub fn ports(floor: Floor, now: Moment) -> (LinkPorts, ReconcilePorts) {
    let starting = Reason::new("link-starting", "the agent has just started and has not met the coordinator yet");
    let (offers, offers_end) = mpsc::channel(OFFERS_QUEUED);
    let (forgets, forgets_end) = mpsc::channel(FORGETS_QUEUED);
    let (renewals, renewals_end) = mpsc::channel(RENEWALS_QUEUED);
    let (status, status_end) = watch::channel(LinkStatus::Disconnected { reason: starting, since: now });
    let (reports, reports_end) = watch::channel(None);
    let (floor, floor_end) = watch::channel(floor);
    (
        LinkPorts { offers, forgets, renewals, status, reports: reports_end, floor: floor_end },
        ReconcilePorts {
            offers: offers_end,
            forgets: forgets_end,
            renewals: renewals_end,
            status: status_end,
            reports,
            floor,
        },
    )
}
