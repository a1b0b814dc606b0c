//! The agent's half of the session.

use std::time::Duration;

use super::out_of_turn;
use super::versions::{spoken, told_another};
use crate::frame::{AgentFrame, Ask, CoordinatorFrame, Hello, Leases, Welcome};
use crate::generation::{Accepted, Generation};
use crate::id::{AskId, JournalId};
use crate::reason::Reason;
use crate::report::HostReport;
use crate::spec::SpecOffer;
use crate::time::BootMoment;

/// How long a report may stay unconfirmed before the next one is sent all the same: two report intervals.
pub const REPORT_RETRY: Duration = Duration::from_secs(20);

/// What the agent's session is told.
#[derive(Debug, Clone)]
pub enum AgentInput {
    /// A connection stands: greet.
    Connected(Box<Hello>),
    /// A frame came.
    Frame(Box<CoordinatorFrame>),
    /// The ledger has judged the offered spec, and holds this now.
    Judged {
        /// The generation that was offered.
        generation: Generation,
        /// What the ledger holds.
        held: Option<Accepted>,
        /// Why the offer was not taken.
        refusal: Option<Reason>,
    },
    /// The host as it is now.
    Report {
        /// The report.
        report: Box<HostReport>,
        /// Now.
        now: BootMoment,
    },
}

/// What the agent's session asks for, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEffect {
    /// Send this.
    Send(AgentFrame),
    /// The session stands: a first answer came.
    Live(Welcome),
    /// Let the ledger judge this, and answer with [`AgentInput::Judged`].
    Offer(SpecOffer),
    /// Events of this journal up to this number are stored: forget them.
    Forget {
        /// The journal.
        journal: JournalId,
        /// The last number.
        through: u64,
    },
    /// The leases of this host count from then: that is when the report was sent which is stored now.
    Renew(Renewal),
    /// Answer this on a stream of its own.
    Ask(Ask),
    /// Stop answering that.
    Cancel(AskId),
    /// The session is over.
    Close(Reason),
}

/// What a stored report means for the leases under which this host's failover instances run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// From when on they count: a moment at which the report had not left yet, so that they end here before anybody
    /// else believes so.
    pub from: BootMoment,
    /// Whether a lease that has ended begins anew, or only those go on that have not.
    pub grants: bool,
}

/// One connection's session, as the agent sees it.
#[derive(Debug, Default)]
pub struct AgentSession {
    state: State,
    last_seq: u64,
    in_flight: Option<InFlight>,
    /// The newest report, and when it was handed over.
    waiting: Option<(Box<HostReport>, BootMoment)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Silent,
    Greeting,
    Live,
    Over,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Greeting => "greeting",
            Self::Live => "live",
            Self::Over => "over",
        }
    }
}

/// A report that is not confirmed yet, and what its confirmation lets us forget.
#[derive(Debug)]
struct InFlight {
    seq: u64,
    sent_at: BootMoment,
    journal: JournalId,
    through: Option<u64>,
}

impl AgentSession {
    /// Takes one input; the effects are to be carried out in order.
    pub fn handle(&mut self, input: AgentInput) -> Vec<AgentEffect> {
        if self.state == State::Over {
            return Vec::new();
        }
        match input {
            AgentInput::Connected(hello) => {
                self.state = State::Greeting;
                vec![AgentEffect::Send(AgentFrame::Hello(*hello))]
            }
            AgentInput::Frame(frame) => self.frame(*frame),
            AgentInput::Judged { generation, held, refusal } => {
                self.if_live(AgentFrame::Verdict { generation, held, refusal })
            }
            AgentInput::Report { report, now } => self.report(report, now),
        }
    }

    fn frame(&mut self, frame: CoordinatorFrame) -> Vec<AgentEffect> {
        match (frame, self.state) {
            (CoordinatorFrame::Farewell(reason), _) => self.close(reason),
            (CoordinatorFrame::Welcome(welcome), State::Greeting) => self.welcome(welcome),
            (CoordinatorFrame::Spec(offer), State::Live) => vec![AgentEffect::Offer(offer)],
            (CoordinatorFrame::ReportStored { seq, leases }, State::Live) => self.stored(seq, leases),
            (CoordinatorFrame::Ask(ask), State::Live) => vec![AgentEffect::Ask(ask)],
            (CoordinatorFrame::Cancel(id), State::Live) => vec![AgentEffect::Cancel(id)],
            (CoordinatorFrame::Welcome(_), state) => self.close(out_of_turn("a welcome", state.name())),
            (CoordinatorFrame::Spec(_), state) => self.close(out_of_turn("a spec", state.name())),
            (CoordinatorFrame::ReportStored { .. }, state) => self.close(out_of_turn("a confirmation", state.name())),
            (CoordinatorFrame::Ask(_) | CoordinatorFrame::Cancel(_), state) => {
                self.close(out_of_turn("a question", state.name()))
            }
        }
    }

    fn welcome(&mut self, welcome: Welcome) -> Vec<AgentEffect> {
        if let Some(reason) = told_another(spoken(), welcome.protocol) {
            return self.close(reason);
        }
        self.state = State::Live;
        vec![AgentEffect::Live(welcome)]
    }

    /// Keeps one report in flight and the newest one waiting: a slow coordinator gets fewer reports, never old ones.
    fn report(&mut self, report: Box<HostReport>, now: BootMoment) -> Vec<AgentEffect> {
        let patient = |flight: &InFlight| now.since(flight.sent_at) < REPORT_RETRY;
        if self.state != State::Live || self.in_flight.as_ref().is_some_and(patient) {
            self.waiting = Some((report, now));
            return Vec::new();
        }
        self.waiting = None;
        self.last_seq += 1;
        self.in_flight = Some(InFlight {
            seq: self.last_seq,
            sent_at: now,
            journal: report.events.journal,
            through: report.events.events.last().map(|event| event.seq),
        });
        vec![AgentEffect::Send(AgentFrame::Report { seq: self.last_seq, report })]
    }

    fn stored(&mut self, seq: u64, leases: Leases) -> Vec<AgentEffect> {
        // A confirmation of a report that was given up tells nothing that a later one will not.
        let Some(flight) = self.in_flight.take_if(|flight| flight.seq == seq) else { return Vec::new() };
        let forget = flight.through.map(|through| AgentEffect::Forget { journal: flight.journal, through });
        let renewal = match leases {
            Leases::Untouched => None,
            Leases::Extended => Some(Renewal { from: flight.sent_at, grants: false }),
            Leases::Granted => Some(Renewal { from: flight.sent_at, grants: true }),
        };
        // Sent now, but counted from when it was handed over: that is known here, and never too late.
        let next = self.waiting.take().map(|(report, since)| self.report(report, since)).unwrap_or_default();
        forget.into_iter().chain(renewal.map(AgentEffect::Renew)).chain(next).collect()
    }

    fn if_live(&self, frame: AgentFrame) -> Vec<AgentEffect> {
        if self.state == State::Live { vec![AgentEffect::Send(frame)] } else { Vec::new() }
    }

    fn close(&mut self, reason: Reason) -> Vec<AgentEffect> {
        self.state = State::Over;
        vec![AgentEffect::Close(reason)]
    }
}
