//! The coordinator's half of the session.

use super::out_of_turn;
use super::versions::{common, spoken};
use crate::frame::{AgentFrame, Ask, CoordinatorFrame, Hello, Leases, Welcome};
use crate::generation::{Accepted, Fence, Generation, Verdict, judge};
use crate::id::{AskId, IncarnationId};
use crate::reason::Reason;
use crate::report::HostReport;
use crate::spec::SpecOffer;
use crate::time::Moment;

/// What the store says about a host that has greeted.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The store's life.
    pub incarnation: IncarnationId,
    /// This session's number.
    pub fence: Fence,
    /// The coordinator's wall clock.
    pub wall: Moment,
    /// What the store last made for this host, frozen or not.
    pub latest: Option<Accepted>,
    /// The newest spec, if one was ever published and publishing is not frozen.
    pub published: Option<SpecOffer>,
}

/// What the coordinator's session is told.
#[derive(Debug, Clone)]
pub enum CoordinatorInput {
    /// A frame came.
    Frame(Box<AgentFrame>),
    /// The store admits the host.
    Admitted(Box<Admission>),
    /// The session must end: the store refuses the host, or another session has replaced this one.
    Dismiss(Reason),
    /// A newer spec was published.
    Publish(SpecOffer),
    /// A report, and all events in it, are stored.
    Stored {
        /// The report's number.
        seq: u64,
        /// What that means for the host's leases.
        leases: Leases,
    },
    /// Somebody asks.
    Ask(Ask),
    /// Nobody waits for that any more.
    Cancel(AskId),
}

/// What the coordinator's session asks for, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorEffect {
    /// Send this.
    Send(CoordinatorFrame),
    /// Ask the store about this host, and answer with `Admitted` or `Dismiss`.
    Admit(Box<Hello>),
    /// The agent judged a spec.
    Judged {
        /// The generation that was offered.
        generation: Generation,
        /// Why it was not taken.
        refusal: Option<Reason>,
    },
    /// Store this, and answer with `Stored`.
    Store {
        /// Its number.
        seq: u64,
        /// The report.
        report: Box<HostReport>,
    },
    /// The agent holds a spec that this store never made, or has forgotten: an old copy of the store is being served.
    /// Publishing must freeze.
    FloorAbove {
        /// What the agent holds.
        held: Accepted,
    },
    /// The session is over.
    Close(Reason),
}

/// One connection's session, as the coordinator sees it.
#[derive(Debug, Default)]
pub struct CoordinatorSession {
    state: State,
    /// What the agent last said that it holds.
    held: Option<Accepted>,
    /// What the store last made for this host.
    latest: Option<Accepted>,
    /// The newest spec to be held.
    published: Option<SpecOffer>,
    /// The highest generation sent, until reports tell that it did not arrive.
    offered: Option<Generation>,
    /// Whether a report has come since the offer that did not know it: one may have crossed it, two cannot.
    missed: bool,
    /// The highest report number passed on.
    seen: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Listening,
    Admitting {
        protocol: u32,
    },
    Live,
    Over,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Admitting { .. } => "admitting",
            Self::Live => "live",
            Self::Over => "over",
        }
    }
}

impl CoordinatorSession {
    /// Takes one input; the effects are to be carried out in order.
    pub fn handle(&mut self, input: CoordinatorInput) -> Vec<CoordinatorEffect> {
        match (input, self.state) {
            (_, State::Over) => Vec::new(),
            (CoordinatorInput::Dismiss(reason), _) => self.close(reason),
            (CoordinatorInput::Frame(frame), _) => self.frame(*frame),
            (CoordinatorInput::Admitted(admission), State::Admitting { protocol }) => {
                self.admitted(*admission, protocol)
            }
            (CoordinatorInput::Publish(offer), _) => {
                self.publish(Some(offer));
                self.offer()
            }
            (CoordinatorInput::Stored { seq, leases }, State::Live) => {
                send(CoordinatorFrame::ReportStored { seq, leases })
            }
            (CoordinatorInput::Ask(ask), State::Live) => send(CoordinatorFrame::Ask(ask)),
            (CoordinatorInput::Cancel(id), State::Live) => send(CoordinatorFrame::Cancel(id)),
            // Late answers of the store, and questions before the welcome: nobody to tell.
            (
                CoordinatorInput::Admitted(_)
                | CoordinatorInput::Stored { .. }
                | CoordinatorInput::Ask(_)
                | CoordinatorInput::Cancel(_),
                State::Listening | State::Admitting { .. } | State::Live,
            ) => Vec::new(),
        }
    }

    fn frame(&mut self, frame: AgentFrame) -> Vec<CoordinatorEffect> {
        match (frame, self.state) {
            (AgentFrame::Hello(hello), State::Listening) => self.hello(hello),
            (AgentFrame::Verdict { generation, held, refusal }, State::Live) => {
                self.learn(held);
                let mut effects = vec![CoordinatorEffect::Judged { generation, refusal }];
                effects.extend(self.above());
                effects
            }
            (AgentFrame::Report { seq, report }, State::Live) => self.report(seq, report),
            (AgentFrame::Hello(_), state) => self.close(out_of_turn("a hello", state.name())),
            (AgentFrame::Verdict { .. }, state) => self.close(out_of_turn("a verdict", state.name())),
            (AgentFrame::Report { .. }, state) => self.close(out_of_turn("a report", state.name())),
        }
    }

    fn hello(&mut self, hello: Hello) -> Vec<CoordinatorEffect> {
        let protocol = match common(spoken(), hello.protocol, &hello.agent_version) {
            Ok(protocol) => protocol,
            Err(apart) => return self.close(apart),
        };
        self.state = State::Admitting { protocol };
        self.held = hello.accepted;
        vec![CoordinatorEffect::Admit(Box::new(hello))]
    }

    fn admitted(&mut self, admission: Admission, protocol: u32) -> Vec<CoordinatorEffect> {
        self.state = State::Live;
        let Admission { incarnation, fence, wall, latest, published } = admission;
        self.latest = newer(self.latest, latest);
        self.publish(published);
        let mut effects = send(CoordinatorFrame::Welcome(Welcome { protocol, incarnation, fence, wall }));
        effects.extend(self.above());
        effects.extend(self.offer());
        effects
    }

    /// Keeps the newer: what was published while the store was asked may be newer than its answer.
    fn publish(&mut self, offer: Option<SpecOffer>) {
        let newest = [self.published.take(), offer].into_iter().flatten().max_by_key(|offer| offer.generation);
        self.latest = newer(self.latest, newest.as_ref().map(SpecOffer::accepted));
        self.published = newest;
    }

    fn report(&mut self, seq: u64, report: Box<HostReport>) -> Vec<CoordinatorEffect> {
        if seq <= self.seen {
            return Vec::new();
        }
        self.seen = seq;
        self.learn(report.accepted);
        let behind = self.published.as_ref().map(SpecOffer::accepted) != self.held;
        if behind && self.missed {
            self.offered = None;
        }
        self.missed = behind;
        let mut effects = vec![CoordinatorEffect::Store { seq, report }];
        // Told with every report, until publishing is frozen for it: the store may have been away the last time.
        effects.extend(self.above());
        effects.extend(self.offer());
        effects
    }

    /// A floor never falls: what was said earlier and arrives later is not news.
    fn learn(&mut self, held: Option<Accepted>) {
        if held.map(|held| held.generation) >= self.held.map(|held| held.generation) {
            self.held = held;
        }
    }

    fn offer(&mut self) -> Vec<CoordinatorEffect> {
        let Some(published) = self.published.as_ref().filter(|_| self.state == State::Live) else {
            return Vec::new();
        };
        match judge(self.held, published.accepted()) {
            Verdict::Accept if self.offered < Some(published.generation) => {
                self.offered = Some(published.generation);
                self.missed = false;
                send(CoordinatorFrame::Spec(published.clone()))
            }
            Verdict::Accept | Verdict::Duplicate | Verdict::Stale | Verdict::Conflict => Vec::new(),
        }
    }

    /// Whether the agent holds more than this store remembers to have made.
    fn above(&self) -> Option<CoordinatorEffect> {
        let held = self.held?;
        let known = self
            .latest
            .is_some_and(|latest| matches!(judge(Some(held), latest), Verdict::Accept | Verdict::Duplicate));
        (!known).then_some(CoordinatorEffect::FloorAbove { held })
    }

    fn close(&mut self, reason: Reason) -> Vec<CoordinatorEffect> {
        self.state = State::Over;
        vec![CoordinatorEffect::Send(CoordinatorFrame::Farewell(reason.clone())), CoordinatorEffect::Close(reason)]
    }
}

fn send(frame: CoordinatorFrame) -> Vec<CoordinatorEffect> {
    vec![CoordinatorEffect::Send(frame)]
}

fn newer(one: Option<Accepted>, other: Option<Accepted>) -> Option<Accepted> {
    [one, other].into_iter().flatten().max_by_key(|accepted| accepted.generation)
}
