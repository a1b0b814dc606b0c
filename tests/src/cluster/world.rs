//! One run: a heap of events under one seed, and everything that they happen to.
//!
//! [`World::run`] takes the earliest event, lets it happen, asks the oracle, and goes on, until the faults have ended and
//! all is as it should be, or the bound for that has passed. Each part of the world is in a file of its own and adds its
//! verbs to [`World`]; time, chance and the queue are here.

use std::collections::BTreeMap;
use std::fmt;

use launchpad_protocol::entropy::IdGen;
use launchpad_protocol::id::TypedId;
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::time::Moment;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::coordinator::Coordinator;
use super::faults::Fault;
use super::host::Host;
use super::jobs::Job;
use super::net::{End, Frame, Link, LinkId, Weather};
use super::oracle::{Oracle, Violation};
use super::trace::Trace;
use super::users::Wish;
use super::{Bug, Outcome};

/// Microseconds of a run.
pub(super) type Micros = i64;
/// A millisecond.
pub(super) const MILLI: Micros = 1_000;
/// A second.
pub(super) const SECOND: Micros = 1_000_000;

/// The wall clock's time when a run begins: 2026-01-01.
const EPOCH: Micros = 1_767_225_600 * SECOND;

/// Hosts, at most: two show every conflict, more show that a third does not mind.
const HOSTS_MAX: usize = 4;

/// How long faults go on.
pub(super) const STORM: Micros = 45 * SECOND;

/// Within which all must be as it should be once the faults have stopped: a link that is noticed late (30 s), a report
/// that is repeated (20 s), a backoff at its cap (10 s), and the same again for a recovery on top.
const BOUND: Micros = 150 * SECOND;

/// How often it is looked whether all is well.
const LOOK_EVERY: Micros = SECOND;

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame reaches the other end of its link.
    Arrive { link: LinkId, frame: Box<Frame> },
    /// One end learns that its link is gone.
    Notice { link: LinkId, end: End },
    /// One end has waited long enough for the other's first words.
    Impatience { link: LinkId },
    /// An agent's process begins.
    Begin { host: usize },
    /// An agent connects.
    Dial { host: usize, life: u32 },
    /// The ledger judges an offer that came over that link.
    Judge { host: usize, life: u32, link: LinkId, offer: Box<SpecOffer> },
    /// The agent looks at its host.
    Turn { host: usize, life: u32 },
    /// An action of the agent ends.
    Done { host: usize, life: u32, turn: u64 },
    /// A coordinator's process begins.
    Serve,
    /// One of the coordinator's loops goes round.
    Round { job: Job, life: u32 },
    /// Somebody wants something.
    Wish(Wish),
    /// Something breaks.
    Fault(Fault),
    /// The faults have ended.
    Calm,
    /// Is all as it should be?
    Look,
}

/// Everything there is in one run.
pub(super) struct World {
    pub(super) now: Micros,
    pub(super) bug: Option<Bug>,
    pub(super) oracle: Oracle,
    pub(super) coordinator: Coordinator,
    pub(super) hosts: Vec<Host>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) next_link: LinkId,
    pub(super) weather: Vec<Weather>,
    pub(super) calm_at: Option<Micros>,
    /// Whether the step has changed anything durable of a host.
    pub(super) touched: bool,
    chance: StdRng,
    queue: BTreeMap<(Micros, u64), Event>,
    queued: u64,
    trace: Trace,
}

impl World {
    /// The world of that seed, before anything has happened.
    pub(super) fn new(seed: u64, bug: Option<Bug>, keep_text: bool) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let count = chance.random_range(1..=HOSTS_MAX);
        let start = Moment::from_micros(EPOCH);
        let ids = &mut IdGen::over(&mut chance);
        let hosts: Vec<_> = (0..count).map(|index| Host::new(index, ids.next(start))).collect();
        let coordinator = Coordinator::new(ids.next(start), &hosts, start);
        let mut world = Self {
            now: 0,
            bug,
            oracle: Oracle::new(count),
            coordinator,
            links: BTreeMap::new(),
            next_link: 0,
            weather: vec![Weather::default(); count],
            calm_at: None,
            touched: true,
            hosts,
            chance,
            queue: BTreeMap::new(),
            queued: 0,
            trace: Trace::new(keep_text),
        };
        world.after(0, Event::Serve);
        for host in 0..count {
            world.plant_stranger(host);
            world.after(0, Event::Begin { host });
        }
        world.schedule_wishes();
        world.schedule_faults();
        world.after(STORM, Event::Calm);
        world
    }

    /// Lets everything happen. Answers what came of it, or what was violated at which step, and how it came to that.
    pub(super) fn run(&mut self) -> Result<Outcome, (u64, Violation, String)> {
        let mut steps = 0;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            steps += 1;
            let looked = matches!(event, Event::Look);
            self.happen(event);
            if std::mem::take(&mut self.touched) {
                self.oracle.look(&self.hosts);
            }
            if let Some(violation) = self.oracle.violation.take() {
                return Err((steps, violation, self.trace.story()));
            }
            let Some(calm_at) = self.calm_at.filter(|_| looked) else { continue };
            match self.unsettled() {
                None => {
                    let settled_in = self.now - calm_at;
                    return Ok(Outcome { trace_hash: self.trace.hash(), steps, settled_in_micros: settled_in });
                }
                Some(what) if self.now > calm_at + BOUND => {
                    return Err((steps, Violation { invariant: 8, what }, self.trace.story()));
                }
                Some(_) => self.after(LOOK_EVERY, Event::Look),
            }
        }
        unreachable!("rounds and looks never end by themselves")
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { link, frame } if self.sleeps(link, &frame) => {
                // It waits in the kernel.
                let at = self.links.get(&link).map_or(self.now, |on| self.hosts[on.host].suspended_until);
                self.at(at, Event::Arrive { link, frame });
            }
            Event::Arrive { link, frame } => match *frame {
                Frame::Up(frame) => self.hear_agent(link, frame),
                Frame::Down(frame) => self.hear_coordinator(link, frame),
            },
            Event::Notice { link, end: End::Agent } => self.agent_loses(link),
            Event::Notice { link, end: End::Coordinator } => self.coordinator_loses(link),
            Event::Impatience { link } => self.impatience(link),
            Event::Begin { host } => self.begin_agent(host),
            Event::Dial { host, life } => self.dial(host, life),
            Event::Judge { host, life, link, offer } => self.judge(host, life, link, &offer),
            Event::Turn { host, life } => self.turn(host, life),
            Event::Done { host, life, turn } => self.done(host, life, turn),
            Event::Serve => self.serve(),
            Event::Round { job, life } => self.round(job, life),
            Event::Wish(wish) => self.wish(wish),
            Event::Fault(fault) => self.fault(fault),
            Event::Calm => self.calm(),
            Event::Look => {}
        }
    }

    /// Whether that frame is for an agent whose machine sleeps.
    fn sleeps(&self, link: LinkId, frame: &Frame) -> bool {
        let host = self.links.get(&link).map(|on| &self.hosts[on.host]);
        matches!(frame, Frame::Down(_)) && host.is_some_and(|host| self.now < host.suspended_until)
    }

    /// Has an event happen at that time.
    pub(super) fn at(&mut self, at: Micros, event: Event) {
        let number = self.next_number();
        self.queue.insert((at, number), event);
    }

    /// Has an event happen after that span.
    pub(super) fn after(&mut self, span: Micros, event: Event) {
        self.at(self.now + span, event);
    }

    /// A span of at most that.
    pub(super) fn within(&mut self, most: Micros) -> Micros {
        if most == 0 { 0 } else { self.chance.random_range(0..=most) }
    }

    /// Whether something of that likelihood happens.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        percent > 0 && self.chance.random_range(0..100) < percent
    }

    /// One of so many.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.chance.random_range(0..count)
    }

    /// A number that is used for nothing else.
    pub(super) fn next_number(&mut self) -> u64 {
        self.queued += 1;
        self.queued
    }

    /// A new id, at that moment.
    pub(super) fn id<I: TypedId>(&mut self, now: Moment) -> I {
        IdGen::over(&mut self.chance).next(now)
    }

    /// What a wall clock that is off by so much shows.
    pub(super) fn wall(&self, skew: Micros) -> Moment {
        Moment::from_micros(EPOCH + self.now + skew)
    }

    /// Adds a line to the story.
    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now, what);
    }
}
