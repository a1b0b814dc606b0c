//! The coordinator of a run: its store, which outlives it, and its sessions, which do not.
//!
//! A part of [`World`]. The real [`CoordinatorSession`] decides; what `fleet/session.rs` and `fleet/seats.rs` do about
//! its effects with tasks and channels, this does at once.

use std::collections::{BTreeMap, VecDeque};

use launchpad_coordinator::domain::silence::Heard;
use launchpad_protocol::frame::AgentFrame;
use launchpad_protocol::generation::{Fence, Generation};
use launchpad_protocol::id::IncarnationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::session::{CoordinatorEffect, CoordinatorInput, CoordinatorSession};
use launchpad_protocol::time::Moment;

use super::host::Host;
use super::jobs::Job;
use super::net::{End, Frame, LinkId};
use super::store::Store;
use super::world::{Event, MILLI, Micros, World};

/// How soon a loop goes round after a signal, at most.
const SIGNAL_MAX: Micros = 5 * MILLI;

/// The coordinator.
pub(super) struct Coordinator {
    /// What is durable.
    pub(super) store: Store,
    /// Copies of it, oldest first.
    pub(super) copies: Vec<Store>,
    /// How far its wall clock is off.
    pub(super) skew: Micros,
    /// Which process this is; rises with every start.
    pub(super) life: u32,
    /// Whether it serves.
    pub(super) up: bool,
    /// When it has heard its hosts, in this life.
    pub(super) heard: Heard,
    /// Its sessions.
    sessions: BTreeMap<LinkId, Session>,
    /// When each loop goes round next by its timer.
    pub(super) timers: BTreeMap<Job, Micros>,
}

struct Session {
    host: usize,
    machine: CoordinatorSession,
    /// Set once it has its host's seat.
    fence: Option<Fence>,
    /// The newest spec that it was handed.
    handed: Option<Generation>,
}

impl Coordinator {
    pub(super) fn new(incarnation: IncarnationId, hosts: &[Host], now: Moment) -> Self {
        Self {
            store: Store::new(incarnation, hosts, now),
            copies: Vec::new(),
            skew: 0,
            life: 0,
            up: false,
            heard: Heard::default(),
            sessions: BTreeMap::new(),
            timers: BTreeMap::new(),
        }
    }

    /// Whether that host has a session that was admitted.
    pub(super) fn seats(&self, host: usize) -> bool {
        self.sessions.values().any(|session| session.host == host && session.fence.is_some())
    }
}

impl World {
    /// The coordinator's wall clock.
    pub(super) fn coordinator_wall(&self) -> Moment {
        self.wall(self.coordinator.skew)
    }

    /// A process begins on the store as it is.
    pub(super) fn serve(&mut self) {
        if self.coordinator.up {
            return;
        }
        self.coordinator.up = true;
        self.coordinator.life += 1;
        self.coordinator.heard = Heard::default();
        let life = self.coordinator.life;
        self.note(format_args!("coordinator: life {life} begins"));
        for job in Job::ALL {
            self.after(0, Event::Round { job, life });
        }
    }

    /// The process ends as by SIGKILL: its links break.
    pub(super) fn kill_coordinator(&mut self) {
        self.note(format_args!("coordinator: killed"));
        self.coordinator.up = false;
        self.coordinator.timers.clear();
        for link in std::mem::take(&mut self.coordinator.sessions).into_keys() {
            self.cut(link);
        }
    }

    /// Has a loop go round soon.
    pub(super) fn signal(&mut self, job: Job) {
        let (life, span) = (self.coordinator.life, self.within(SIGNAL_MAX));
        self.after(span, Event::Round { job, life });
    }

    /// An agent connects; false when nobody listens.
    pub(super) fn accept(&mut self, link: LinkId, host: usize) -> bool {
        if self.coordinator.up {
            let session = Session { host, machine: CoordinatorSession::default(), fence: None, handed: None };
            self.coordinator.sessions.insert(link, session);
        }
        self.coordinator.up
    }

    pub(super) fn hear_agent(&mut self, link: LinkId, frame: AgentFrame) {
        self.tell_session(link, CoordinatorInput::Frame(Box::new(frame)));
    }

    pub(super) fn coordinator_loses(&mut self, link: LinkId) {
        self.coordinator.sessions.remove(&link);
    }

    /// Whether a session waits for its hello in vain, and is dismissed for it.
    pub(super) fn dismiss_silent(&mut self, link: LinkId) {
        if self.coordinator.sessions.get(&link).is_some_and(|session| session.fence.is_none()) {
            self.tell_session(link, CoordinatorInput::Dismiss(Reason::new("no-hello", "no hello came")));
        }
    }

    /// Hands every seated session what is newer than what it was handed before.
    pub(super) fn publish_round(&mut self) {
        let store = &self.coordinator.store;
        if store.frozen.is_some() {
            return;
        }
        let mut due = Vec::new();
        for (link, session) in &mut self.coordinator.sessions {
            let newest = store.specs.get(&self.hosts[session.host].id);
            let Some(newest) = newest.filter(|newest| session.handed < Some(newest.generation)) else { continue };
            if session.fence.is_some() {
                session.handed = Some(newest.generation);
                due.push((*link, newest.clone()));
            }
        }
        for (link, offer) in due {
            self.tell_session(link, CoordinatorInput::Publish(offer));
        }
    }

    /// Tells a session something, and carries out all that follows.
    fn tell_session(&mut self, link: LinkId, input: CoordinatorInput) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(session) = self.coordinator.sessions.get_mut(&link) else { return };
            for effect in session.machine.handle(input) {
                inputs.extend(self.carry_out_for(link, effect));
            }
        }
    }

    fn carry_out_for(&mut self, link: LinkId, effect: CoordinatorEffect) -> Option<CoordinatorInput> {
        let host = self.coordinator.sessions.get(&link)?.host;
        let now = self.coordinator_wall();
        match effect {
            CoordinatorEffect::Send(frame) => self.send(link, Frame::Down(frame)),
            CoordinatorEffect::Admit(hello) => {
                let admission = self.coordinator.store.admit(self.hosts[host].id, &hello, now)?;
                let replaced =
                    self.take_seat(link, admission.fence, admission.published.as_ref().map(|o| o.generation));
                for other in replaced {
                    self.tell_session(other, CoordinatorInput::Dismiss(Reason::new("session-replaced", "replaced")));
                }
                return Some(CoordinatorInput::Admitted(Box::new(admission)));
            }
            CoordinatorEffect::Store { seq, report } => {
                let fence = self.coordinator.sessions.get(&link)?.fence?;
                let id = self.hosts[host].id;
                return match self.coordinator.store.take_report(id, fence, &report, now) {
                    Ok(news) => {
                        self.after_report(&news);
                        let leases = self.coordinator.store.leases(id, &report);
                        Some(CoordinatorInput::Stored { seq, leases })
                    }
                    Err(reason) => Some(CoordinatorInput::Dismiss(reason)),
                };
            }
            CoordinatorEffect::FloorAbove { held } => {
                self.note(format_args!(
                    "coordinator: host {host} holds {} which is above the store",
                    held.generation
                ));
                self.coordinator.store.floor_above(self.hosts[host].id, held);
            }
            CoordinatorEffect::Judged { generation, refusal: Some(reason) } => {
                self.note(format_args!("coordinator: host {host} refused {generation}: {}", reason.code));
            }
            CoordinatorEffect::Judged { refusal: None, .. } => {}
            CoordinatorEffect::Close(_) => {
                self.coordinator.sessions.remove(&link);
                self.hang_up(link, End::Coordinator);
            }
        }
        None
    }

    /// Gives a session its host's seat; whoever had it before is answered.
    fn take_seat(&mut self, link: LinkId, fence: Fence, handed: Option<Generation>) -> Vec<LinkId> {
        let Some(session) = self.coordinator.sessions.get_mut(&link) else { return Vec::new() };
        (session.fence, session.handed) = (Some(fence), handed);
        let host = session.host;
        let others = self
            .coordinator
            .sessions
            .iter()
            .filter(|(other, session)| **other != link && session.host == host && session.fence.is_some());
        let others = others.map(|(other, _)| *other).collect();
        self.signal(Job::Publish);
        others
    }
}
