//! The agent's loop, a turn at a time: look, remember, plan, begin, tell.
//!
//! A part of [`World`], and the image of `agent::reconcile` without tasks: one action of each subject runs at a time and
//! takes its time; a newer spec ends what is only queued; what is durable is done at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use launchpad_agent::book::Book;
use launchpad_agent::plan::action::{Action, StopCause};
use launchpad_agent::plan::instance::current_container;
use launchpad_agent::plan::marks::OperationMark;
use launchpad_agent::plan::{Knowledge, Standing, Subject, plan};
use launchpad_agent::reconcile::standing;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::session::AgentInput;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::{BootMoment, Moment};

use super::Bug;
use super::agent::Agent;
use super::host::Host;
use super::world::{Event, MILLI, Micros, World};

/// How soon the loop looks when something has changed, at most.
const TURN_MAX: Micros = 10 * MILLI;

/// How long an action takes, at most. A stop may take the bot's grace, a pull a slow registry.
const ACTION_MAX: Micros = 400 * MILLI;

/// How often a report is sent when nothing changes.
const REPORT_EVERY: Micros = REPORT_INTERVAL.as_micros() as Micros;

/// What is being done for one subject.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The first is the running one, once begun.
    actions: VecDeque<Action>,
    /// Names the running action.
    begun: Option<u64>,
}

impl Queue {
    /// The action that runs.
    pub(super) fn current(&self) -> Option<&Action> {
        self.begun.and(self.actions.front())
    }

    /// Lets go of all that has not begun.
    pub(super) fn keep_only_begun(&mut self) {
        self.actions.truncate(usize::from(self.begun.is_some()));
    }
}

impl World {
    /// Has the agent look at its host soon, if it has one.
    pub(super) fn turn_soon(&mut self, host: usize) {
        let span = self.within(TURN_MAX);
        self.turn_by(host, self.now + span);
    }

    /// Has the agent look no later than that.
    fn turn_by(&mut self, host: usize, at: Micros) {
        let one = &mut self.hosts[host];
        let Some(agent) = &mut one.agent else { return };
        if agent.turn_at.is_none_or(|earlier| at < earlier) {
            agent.turn_at = Some(at);
            let life = one.lives;
            self.at(at, Event::Turn { host, life });
        }
    }

    pub(super) fn turn(&mut self, host: usize, life: u32) {
        let (now, wall, bug) = (self.now, self.host_wall(host), self.bug);
        let one = &mut self.hosts[host];
        let is_due = |agent: &&mut Agent| one.lives == life && agent.turn_at == Some(now);
        let Some(agent) = one.agent.as_mut().filter(is_due) else { return };
        agent.turn_at = None;
        if now < one.suspended_until {
            let resumed = one.suspended_until;
            return self.turn_by(host, resumed);
        }
        one.look(now, wall, bug);
        self.begin_next(host);
        if let Some(report) = self.hosts[host].tell(now, wall) {
            let now = self.hosts[host].boot_moment(now);
            self.tell_agent(host, AgentInput::Report { report: Box::new(report), now });
        }
        let wake = self.hosts[host].wake_at(now);
        self.turn_by(host, wake);
    }

    /// Begins the next action of every subject that does nothing; what the ledger does is done at once.
    fn begin_next(&mut self, host: usize) {
        let Some(agent) = &self.hosts[host].agent else { return };
        let ready: Vec<_> = agent.work.iter().filter(|(_, queue)| queue.begun.is_none()).map(|(s, _)| *s).collect();
        for subject in ready {
            while let Some(action) = self.hosts[host].next_action(subject) {
                if self.hosts[host].is_too_late(&action, self.now, self.bug) {
                    self.hosts[host].give_up(subject);
                    self.turn_soon(host);
                    break;
                }
                let is_durable = matches!(
                    action,
                    Action::BeginOperation { .. } | Action::FinishOperation { .. } | Action::Bury { .. }
                );
                if !is_durable {
                    self.begin(host, subject, &action);
                    break;
                }
                let forgets = self.bug == Some(Bug::RestartWithoutMark);
                if !(forgets && matches!(action, Action::BeginOperation { .. })) {
                    self.carry_out(host, &action);
                }
                self.hosts[host].finish(subject);
                self.turn_soon(host);
            }
        }
    }

    fn begin(&mut self, host: usize, subject: Subject, action: &Action) {
        let span = 1 + self.within(ACTION_MAX);
        let turn = self.next_number();
        let now = self.hosts[host].boot_moment(self.now);
        let one = &mut self.hosts[host];
        one.expect_stop(action, now);
        let life = one.lives;
        let Some(queue) = one.agent.as_mut().and_then(|agent| agent.work.get_mut(&subject)) else { return };
        queue.begun = Some(turn);
        self.after(span, Event::Done { host, life, turn });
    }

    /// An action ends: now it has happened.
    pub(super) fn done(&mut self, host: usize, life: u32, turn: u64) {
        let one = &self.hosts[host];
        if self.now < one.suspended_until {
            return self.at(one.suspended_until, Event::Done { host, life, turn });
        }
        let Some(agent) = one.agent.as_ref().filter(|_| one.lives == life) else { return };
        let found = agent.work.iter().find(|(_, queue)| queue.begun == Some(turn));
        let Some((subject, action)) = found.and_then(|(subject, queue)| Some((*subject, queue.current()?.clone())))
        else {
            return;
        };
        self.carry_out(host, &action);
        if self.hosts[host].finish(subject) {
            self.begin_next(host);
        }
        self.turn_soon(host);
    }
}

impl Host {
    /// Observes, remembers, plans, and takes new work.
    fn look(&mut self, now: Micros, wall: Moment, bug: Option<Bug>) {
        let Some(since) = self.agent.as_ref().map(|agent| agent.since) else { return };
        let (context, health) = (self.context(now, wall), self.health(now, since));
        let renewed_at = self.renewed_at(now, bug);
        let Self { agent: Some(agent), held: Some((_, spec)), model, .. } = self else { return };
        let (observed, marks) = (&model.observed, &model.marks);
        for instance in spec.instances.values() {
            let container = current_container(instance, observed);
            let said = container.and_then(|container| health.get(&container.id));
            let record = agent.records.entry(instance.deployment).or_default();
            let before = record.clone();
            record.absorb(instance, container, said, marks, &context);
            if *record != before {
                agent.changes.records.insert(instance.deployment, Some(record.clone()));
            }
        }
        let gone: Vec<_> = agent.records.keys().filter(|id| !spec.instances.contains_key(id)).copied().collect();
        for deployment in gone {
            agent.records.remove(&deployment);
            agent.changes.records.insert(deployment, None);
        }
        // Nobody breaks a wall on these hosts, so nothing is judged: that is what a run would spend most of its time on.
        let findings = BTreeMap::new();
        let records = &agent.records;
        let known = Knowledge { marks, records, health: &health, findings: &findings, renewed_at };
        agent.plan = plan(spec, observed, known, &context);
        if bug == Some(Bug::AbsenceDeletes) {
            agent.delete_orphans();
        }
        agent.enqueue(spec);
        if agent.plan.is_settled() && agent.work.is_empty() {
            agent.applied = spec.generation;
        }
    }

    fn next_action(&self, subject: Subject) -> Option<Action> {
        self.agent.as_ref()?.work.get(&subject)?.actions.front().cloned()
    }

    fn give_up(&mut self, subject: Subject) {
        if let Some(agent) = &mut self.agent {
            agent.work.remove(&subject);
        }
    }

    /// Drops a subject's first action. Answers whether there is more to do.
    fn finish(&mut self, subject: Subject) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        let Some(queue) = agent.work.get_mut(&subject) else { return false };
        queue.actions.pop_front();
        queue.begun = None;
        let more = !queue.actions.is_empty();
        if !more {
            agent.work.remove(&subject);
        }
        more
    }

    /// Notes in the instance's record what the exit will mean.
    fn expect_stop(&mut self, action: &Action, now: BootMoment) {
        let Action::StopContainer { container, why, .. } = action else { return };
        let owner = self.model.observed.containers.get(container).map(|found| found.deployment);
        let Some(agent) = &mut self.agent else { return };
        let Some((id, record)) = owner.and_then(|id| Some((id, agent.records.get_mut(&id)?))) else { return };
        record.expect_stop(container, why, now);
        agent.changes.records.insert(id, Some(record.clone()));
        self.save();
    }

    /// Notes what is new for the timelines, and answers a report if one is due.
    fn tell(&mut self, now: Micros, wall: Moment) -> Option<HostReport> {
        let agent = self.agent.as_mut()?;
        let standings = agent.note_standings(wall);
        let mut report = self.build_report(standings, wall)?;
        self.save();
        let agent = self.agent.as_mut().filter(|agent| agent.live)?;
        if let Some(last) = &agent.report {
            // The same but for its clock: nothing is told that was not told before.
            report.wall = last.wall;
            if report == *last && now - agent.reported_at < REPORT_EVERY {
                return None;
            }
            report.wall = wall;
        }
        (agent.report, agent.reported_at) = (Some(report.clone()), now);
        Some(report)
    }

    fn build_report(&self, standings: BTreeMap<DeploymentId, Standing>, wall: Moment) -> Option<HostReport> {
        let agent = self.agent.as_ref()?;
        let spec = self.held.as_ref().map(|(_, spec)| spec);
        let ended = self.marks().operations.iter().filter_map(|(id, mark)| match mark {
            OperationMark::Ended(outcome) => Some((*id, outcome.clone())),
            OperationMark::Begun { .. } => None,
        });
        Some(HostReport {
            boot_id: self.boot_id(),
            agent_version: "simulated".to_owned(),
            wall,
            accepted: self.held.as_ref().map(|(accepted, _)| *accepted),
            applied: agent.applied,
            capacity: Self::capacity(),
            capabilities: BTreeMap::new(),
            instances: standing::instances(
                spec,
                Some(&self.model.observed),
                &agent.records,
                &BTreeMap::new(),
                standings,
            ),
            orphans: agent.plan.orphans.clone(),
            buried: self.marks().buried.clone(),
            outcomes: ended.collect(),
            troubles: agent.plan.troubles.clone(),
            events: agent.journal.batch(),
            denials: BTreeMap::new(),
            gate: None,
        })
    }

    /// When the loop looks next, if nothing happens before.
    fn wake_at(&self, now: Micros) -> Micros {
        let Some(agent) = &self.agent else { return now + REPORT_EVERY };
        let due = agent.plan.wake_at.map(|moment| self.at(moment));
        let probe = self.next_probe(now, agent.since);
        [due, probe].into_iter().flatten().filter(|at| *at > now).fold(now + REPORT_EVERY, Micros::min)
    }

    fn save(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let changes = std::mem::take(&mut agent.changes);
        // A memory book cannot fail to be written.
        let _ = self.book.write(&changes);
    }
}

impl Agent {
    /// Hands new work over. A tombstone waits for whatever is still being done to its instance.
    fn enqueue(&mut self, spec: &HostSpec) {
        for (subject, actions) in self.plan.work.clone() {
            let waits = match subject {
                Subject::Instance(_) => false,
                Subject::Burial(id) => spec
                    .tombstones
                    .get(&id)
                    .is_some_and(|tombstone| self.work.contains_key(&Subject::Instance(tombstone.deployment))),
            };
            if !waits {
                self.work.entry(subject).or_insert_with(|| Queue { actions: actions.into(), begun: None });
            }
        }
    }

    /// Notes every standing that is new in the journal.
    fn note_standings(&mut self, wall: Moment) -> BTreeMap<DeploymentId, Standing> {
        let mut standings = BTreeMap::new();
        for (deployment, planned) in &self.plan.standings {
            let current = self.work.get(&Subject::Instance(*deployment)).and_then(Queue::current);
            let now = standing::during(current, planned);
            if let Some(record) = self.records.get_mut(deployment) {
                let told = (now.phase, now.reason.as_ref().map(|reason| reason.code.clone()));
                if record.told.as_ref() != Some(&told) {
                    record.told = Some(told);
                    self.journal.note(*deployment, &now, wall, &mut self.changes);
                    self.changes.records.insert(*deployment, Some(record.clone()));
                }
            }
            standings.insert(*deployment, now);
        }
        standings
    }

    /// The planted bug: what no spec names is taken away.
    fn delete_orphans(&mut self) {
        for orphan in &self.plan.orphans {
            let Some(deployment) = orphan.deployment else { continue };
            let container = orphan.container.clone();
            let stop = Action::StopContainer {
                container: container.clone(),
                grace: Duration::ZERO,
                why: StopCause::PowerOff,
            };
            let actions = vec![stop, Action::RemoveContainer { container }];
            self.plan.work.entry(Subject::Instance(deployment)).or_insert(actions);
        }
    }
}
