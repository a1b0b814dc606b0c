//! The agent of a run: its life, its session, and what its ledger accepts.
//!
//! A part of [`World`]. The real [`AgentSession`] and [`judge_offer`] decide; what `link.rs` does about it with tasks and
//! channels is done here in one step, but for the ledger's judgement, which may outlive the session that asked for it.

use std::collections::BTreeMap;

use launchpad_agent::book::{Book, Changes};
use launchpad_agent::journal::Journal;
use launchpad_agent::ledger::judge_offer;
use launchpad_agent::plan::marks::Marks;
use launchpad_agent::plan::record::Record;
use launchpad_agent::plan::{Plan, Subject};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::{CoordinatorFrame, Hello};
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::session::{AgentEffect, AgentInput, AgentSession};
use launchpad_protocol::spec::{HostSpec, SpecOffer};
use launchpad_protocol::time::BootMoment;

use super::Bug;
use super::host::Host;
use super::net::{End, Frame, LinkId};
use super::turn::Queue;
use super::world::{Event, MILLI, Micros, SECOND, World};

/// The pause before a new connection, at most.
const REDIAL_MAX: Micros = 3 * SECOND;

/// How long either end waits for the other's first words (`HELLO_PATIENCE`).
const PATIENCE: Micros = 10 * SECOND;

/// How long the ledger takes to judge an offer, at most: a turn of the loop and two writes.
const JUDGE_MAX: Micros = 200 * MILLI;

/// One process of an agent.
pub(super) struct Agent {
    pub(super) since: Micros,
    pub(super) session: AgentSession,
    pub(super) link: Option<LinkId>,
    pub(super) live: bool,
    pub(super) records: BTreeMap<DeploymentId, Record>,
    pub(super) journal: Journal,
    pub(super) changes: Changes,
    pub(super) plan: Plan,
    pub(super) work: BTreeMap<Subject, Queue>,
    pub(super) applied: Generation,
    pub(super) report: Option<HostReport>,
    pub(super) reported_at: Micros,
    pub(super) turn_at: Option<Micros>,
    /// When the host's leases were last renewed in this boot.
    pub(super) renewed_at: Option<BootMoment>,
}

impl World {
    /// A process begins, and takes up what is on disk.
    pub(super) fn begin_agent(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() {
            return;
        }
        let fresh = self.id(self.host_wall(host));
        let now = self.now;
        self.touched = true;
        let one = &mut self.hosts[host];
        one.lives += 1;
        // A memory book cannot fail to be read.
        let mut pages = one.book.read().unwrap_or_default();
        let mut changes = Changes::default();
        let journal = Journal::open(&mut pages, fresh, &mut changes);
        one.reopen_ledger();
        one.agent = Some(Agent {
            since: now,
            session: AgentSession::default(),
            link: None,
            live: false,
            records: pages.records,
            journal,
            changes,
            plan: Plan::default(),
            work: BTreeMap::new(),
            applied: Generation(0),
            report: None,
            reported_at: 0,
            turn_at: None,
            renewed_at: one.kept_lease.filter(|(boot, _)| *boot == one.boot).map(|(_, at)| at),
        });
        let life = one.lives;
        self.note(format_args!("host {host}: agent {life} begins"));
        self.turn_soon(host);
        self.redial(host);
    }

    /// The process ends as by SIGKILL. What was being done may or may not have been; the book survives, or is lost.
    pub(super) fn kill_agent(&mut self, host: usize, keeps_book: bool) {
        let Some(agent) = &self.hosts[host].agent else { return };
        let link = agent.link;
        let begun: Vec<_> = agent.work.values().filter_map(Queue::current).cloned().collect();
        for action in begun {
            if self.percent(50) {
                self.carry_out(host, &action);
            }
        }
        self.note(format_args!("host {host}: agent killed{}", if keeps_book { "" } else { ", its book lost" }));
        self.touched = true;
        let one = &mut self.hosts[host];
        one.agent = None;
        if !keeps_book {
            one.book = Default::default();
        }
        if self.bug == Some(Bug::SkipMarks) {
            let marks = &mut one.model.marks;
            *marks = Marks { floor: marks.floor, incarnation: marks.incarnation, ..Marks::default() };
        }
        if let Some(link) = link {
            self.cut(link);
        }
        let pause = self.within(5 * SECOND);
        self.after(pause, Event::Begin { host });
    }

    fn redial(&mut self, host: usize) {
        let (life, pause) = (self.hosts[host].lives, self.within(REDIAL_MAX));
        self.after(pause, Event::Dial { host, life });
    }

    pub(super) fn dial(&mut self, host: usize, life: u32) {
        let one = &self.hosts[host];
        if one.lives != life || one.agent.as_ref().is_none_or(|agent| agent.link.is_some()) {
            return;
        }
        let link = self.connect(host);
        if !self.accept(link, host) {
            return self.redial(host);
        }
        let hello = Box::new(self.hello(host));
        if let Some(agent) = &mut self.hosts[host].agent {
            (agent.session, agent.link, agent.live) = (AgentSession::default(), Some(link), false);
        }
        self.tell_agent(host, AgentInput::Connected(hello));
        self.after(PATIENCE, Event::Impatience { link });
    }

    fn hello(&self, host: usize) -> Hello {
        let one = &self.hosts[host];
        Hello {
            protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
            features: Feature::all(),
            agent_version: "simulated".to_owned(),
            boot_id: one.boot_id(),
            incarnation: one.marks().incarnation,
            accepted: one.held.as_ref().map(|(accepted, _)| *accepted),
            wall: self.host_wall(host),
        }
    }

    /// The agent on that link, if it has not given the link up.
    fn agent_on(&mut self, link: LinkId) -> Option<(usize, &mut Agent)> {
        let host = self.links.get(&link)?.host;
        let agent = self.hosts[host].agent.as_mut().filter(|agent| agent.link == Some(link))?;
        Some((host, agent))
    }

    pub(super) fn hear_coordinator(&mut self, link: LinkId, frame: CoordinatorFrame) {
        if let Some((host, _)) = self.agent_on(link) {
            self.tell_agent(host, AgentInput::Frame(Box::new(frame)));
        }
    }

    pub(super) fn agent_loses(&mut self, link: LinkId) {
        if let Some((host, agent)) = self.agent_on(link) {
            (agent.link, agent.live) = (None, false);
            self.redial(host);
        }
    }

    /// Neither end waits for ever: not for a hello, and not for a welcome.
    pub(super) fn impatience(&mut self, link: LinkId) {
        self.dismiss_silent(link);
        if self.agent_on(link).is_some_and(|(_, agent)| !agent.live) {
            self.hang_up(link, End::Agent);
            self.agent_loses(link);
        }
    }

    /// Tells the session something, and carries out its effects.
    pub(super) fn tell_agent(&mut self, host: usize, input: AgentInput) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let Some(link) = agent.link else { return };
        for effect in agent.session.handle(input) {
            match effect {
                AgentEffect::Send(frame) => self.send(link, Frame::Up(frame)),
                AgentEffect::Live(_) => self.agent_is_live(host),
                AgentEffect::Offer(offer) => {
                    let at = self.now + self.within(JUDGE_MAX);
                    let one = &mut self.hosts[host];
                    // One after the other, in the order in which they came.
                    one.judges_at = at.max(one.judges_at + 1);
                    let (life, at) = (one.lives, one.judges_at);
                    self.at(at, Event::Judge { host, life, link, offer: Box::new(offer) });
                }
                AgentEffect::Forget { journal, through } => {
                    if let Some(agent) = &mut self.hosts[host].agent {
                        agent.journal.forget(journal, through, &mut agent.changes);
                    }
                }
                AgentEffect::Renew(word) => self.renew(host, word),
                AgentEffect::Ask(_) | AgentEffect::Cancel(_) => {}
                AgentEffect::Close(_) => {
                    self.hang_up(link, End::Agent);
                    self.agent_loses(link);
                    return;
                }
            }
        }
    }

    /// The report of before the session is new to this coordinator.
    fn agent_is_live(&mut self, host: usize) {
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.live = true;
            agent.reported_at = Micros::MIN / 2;
            self.turn_soon(host);
        }
    }

    /// The ledger judges an offer. The session that asked may be over by now.
    pub(super) fn judge(&mut self, host: usize, life: u32, link: LinkId, offer: &SpecOffer) {
        if self.hosts[host].lives != life || self.hosts[host].agent.is_none() {
            return;
        }
        let refusal = match self.judgement(host, offer) {
            Ok(None) => None,
            Ok(Some(spec)) => {
                self.hold(host, offer, spec);
                None
            }
            Err(reason) => Some(reason),
        };
        let held = self.hosts[host].held.as_ref().map(|(accepted, _)| *accepted);
        if self.agent_on(link).is_some() {
            self.tell_agent(host, AgentInput::Judged { generation: offer.generation, held, refusal });
        }
    }

    fn judgement(&self, host: usize, offer: &SpecOffer) -> Result<Option<HostSpec>, Reason> {
        let one = &self.hosts[host];
        match self.bug {
            Some(Bug::ForgetFloor) => judge_offer(one.id, &Marks::default(), false, offer),
            Some(Bug::NoDigestCheck) => {
                let undoubted = SpecOffer { digest: Digest::of(&offer.bytes), ..offer.clone() };
                judge_offer(one.id, one.marks(), one.held.is_some(), &undoubted)
            }
            _ => judge_offer(one.id, one.marks(), one.held.is_some(), offer),
        }
    }

    /// Holds a spec: its bytes first, then the floors that it raises. The agent may die in between.
    fn hold(&mut self, host: usize, offer: &SpecOffer, spec: HostSpec) {
        self.note(format_args!("host {host}: holds spec {} {}", offer.generation, offer.digest.short()));
        let accepted = match self.bug {
            Some(Bug::NoDigestCheck) => SpecOffer { digest: Digest::of(&offer.bytes), ..offer.clone() }.accepted(),
            _ => offer.accepted(),
        };
        self.touched = true;
        let one = &mut self.hosts[host];
        one.held = Some((accepted, spec));
        if std::mem::take(&mut one.dies_holding) {
            return self.kill_agent(host, true);
        }
        one.reopen_ledger();
        if let Some(agent) = &mut one.agent {
            for queue in agent.work.values_mut() {
                queue.keep_only_begun();
            }
            agent.work.retain(|_, queue| queue.current().is_some());
        }
        self.oracle.accepted(host, accepted);
        self.turn_soon(host);
    }
}

impl Host {
    /// Raises the floors to the held spec, as the ledger does when it takes one and when it is opened.
    fn reopen_ledger(&mut self) {
        let Some((accepted, spec)) = &self.held else { return };
        if self.model.marks.floor != Some(*accepted) {
            self.model.marks.raise(*accepted, spec);
        }
    }
}
