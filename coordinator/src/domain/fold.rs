//! From what a host reports to what its deployments are.
//!
//! `fleet::view` loads a [`View`] of the reporting host, asks [`fold`], and commits the answer in one transaction. The
//! tenant of anything comes from the view, which comes from placement; a report's claim about a deployment that is not
//! placed on that host changes nothing.
//!
//! ```text
//!   journal events, oldest first, each once ─┐
//!   the report's present truth               ├─► deployment::step ─► steps, for state and timeline
//!   tombstones carried out                  ─┘
//! ```
//! A report about an older revision, or a lower epoch, than the view's says nothing about what is wished now.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{DeploymentId, OperationId, TombstoneId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{
    EXIT_TRANSIENT, HostReport, InstanceReport, LEASE_ENDED, Outcome, Phase, is_strain,
};
use launchpad_protocol::spec::TombstoneScope;
use launchpad_protocol::time::Moment;

use super::deployment::{Event, State, Transition, step};

/// What the store knows about the reporting host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The deployments placed on it.
    pub standings: BTreeMap<DeploymentId, Standing>,
    /// The tombstones that it has not acknowledged.
    pub tombstones: BTreeMap<TombstoneId, (DeploymentId, TombstoneScope)>,
    /// The operations that it has not answered.
    pub operations: BTreeMap<OperationId, DeploymentId>,
    /// The highest event of this journal that was folded already.
    pub folded: u64,
}

/// One deployment before the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is.
    pub state: State,
    /// Why, if there is a reason.
    pub reason: Option<Reason>,
    /// The revision that is wished.
    pub revision: Revision,
    /// The lease under which it may run.
    pub epoch: Epoch,
}

/// One change of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whose.
    pub deployment: DeploymentId,
    /// When: by the host's clock, but never later than now.
    pub at: Moment,
    /// What changed.
    pub transition: Transition,
}

/// What a report amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folded {
    /// The changes, in order.
    pub steps: Vec<Step>,
    /// Tombstones that were carried out.
    pub buried: BTreeSet<TombstoneId>,
    /// Operations that were answered.
    pub answered: BTreeMap<OperationId, Outcome>,
    /// The highest event that is folded now.
    pub folded: u64,
    /// Events of the host that never came: its journal was full, or this store has forgotten them.
    pub lost: u64,
    /// Deployments that the host reports and that are not placed on it.
    pub foreign: BTreeSet<DeploymentId>,
}

/// Folds a report into what was known. `now` is the coordinator's clock.
#[must_use]
pub fn fold(report: &HostReport, view: View, now: Moment) -> Folded {
    let mut folding = Folding { folded: Folded { folded: view.folded, ..Folded::default() }, view, now };
    folding.answers(report);
    folding.journal(report);
    for (id, instance) in &report.instances {
        folding.present(*id, instance);
    }
    folding.burials(report);
    folding.folded
}

struct Folding {
    view: View,
    folded: Folded,
    now: Moment,
}

impl Folding {
    fn answers(&mut self, report: &HostReport) {
        for (id, outcome) in &report.outcomes {
            let Some(deployment) = self.view.operations.remove(id) else { continue };
            self.folded.answered.insert(*id, outcome.clone());
            if let Outcome::Refused { reason } = outcome {
                self.happen(deployment, Event::WishRefused(reason.clone()), self.now);
            }
        }
    }

    fn journal(&mut self, report: &HostReport) {
        for event in &report.events.events {
            if event.seq <= self.folded.folded {
                continue;
            }
            self.folded.lost += event.seq - self.folded.folded - 1;
            self.folded.folded = event.seq;
            // An event carries no revision: the instance beside it says which one the host is at.
            let current =
                report.instances.get(&event.deployment).is_some_and(|now| self.is_current(event.deployment, now));
            if current {
                self.observe(event.deployment, event.phase, event.reason.as_ref(), event.at.min(self.now));
            }
        }
    }

    fn present(&mut self, id: DeploymentId, instance: &InstanceReport) {
        if !self.view.standings.contains_key(&id) {
            self.folded.foreign.insert(id);
        } else if self.is_current(id, instance) {
            self.observe(id, instance.phase, instance.reason.as_ref(), self.now);
        }
    }

    fn burials(&mut self, report: &HostReport) {
        for id in &report.buried {
            let Some((deployment, scope)) = self.view.tombstones.remove(id) else { continue };
            self.folded.buried.insert(*id);
            let event = match scope {
                TombstoneScope::Container => Event::ContainerGone,
                TombstoneScope::Data => Event::DataGone,
            };
            self.happen(deployment, event, self.now);
        }
    }

    fn is_current(&self, id: DeploymentId, instance: &InstanceReport) -> bool {
        let standing = self.view.standings.get(&id);
        standing.is_some_and(|wished| instance.revision >= wished.revision && instance.epoch >= wished.epoch)
    }

    fn observe(&mut self, id: DeploymentId, phase: Phase, reason: Option<&Reason>, at: Moment) {
        // What was ready before a restart that the host has not carried out yet is not what was asked for.
        let awaited = self.view.operations.values().any(|waiting| *waiting == id);
        match event(phase, reason) {
            Some(Event::Ready | Event::Strained(_) | Event::Unready(_)) if awaited => {}
            Some(Event::Ready) if reason.is_some() && self.told(id).is_some_and(is_strain) => {}
            Some(Event::Strained(strain)) if self.told(id).is_some_and(|told| told.code == strain.code) => {}
            Some(event) => self.happen(id, event, at),
            None => {}
        }
    }

    /// The reason that stands beside a running deployment. How much something strains it changes with every look, and
    /// what its host tries to do meanwhile ends no strain: news is only that another strain begins, or that none is left.
    fn told(&self, id: DeploymentId) -> Option<&Reason> {
        let running = self.view.standings.get(&id).filter(|standing| standing.state == State::Running);
        running.and_then(|standing| standing.reason.as_ref())
    }

    fn happen(&mut self, deployment: DeploymentId, event: Event, at: Moment) {
        let Some(standing) = self.view.standings.get_mut(&deployment) else { return };
        // A report may come late: where there is no such step any more, it is simply not news.
        let Ok(transition) = step(standing.state, event) else { return };
        if !transition.is_news(standing.reason.as_ref()) {
            return;
        }
        standing.state = transition.to;
        standing.reason.clone_from(&transition.reason);
        self.folded.steps.push(Step { deployment, at, transition });
    }
}

/// What a phase means for the deployment; none: nothing by itself.
fn event(phase: Phase, reason: Option<&Reason>) -> Option<Event> {
    let given = |code: &str, sentence: &str| reason.cloned().unwrap_or_else(|| Reason::new(code, sentence));
    match phase {
        Phase::Absent | Phase::Stopping => None,
        Phase::Pulling => Some(Event::Pulling),
        Phase::Preparing => Some(Event::Preparing),
        Phase::Starting => Some(Event::Started),
        Phase::Ready => Some(match reason.filter(|reason| is_strain(reason)) {
            Some(reason) => Event::Strained(reason.clone()),
            None => Event::Ready,
        }),
        Phase::Unready => Some(Event::Unready(given("not-ready", "it does not answer its readiness probe"))),
        Phase::Backoff => {
            let reason = given("crash-loop", "its process exited, and is started again after a pause");
            match reason.code.as_str() {
                EXIT_TRANSIENT => Some(Event::Retrying(reason)),
                LEASE_ENDED => Some(Event::Unready(reason)),
                _ => Some(Event::CrashLooping(reason)),
            }
        }
        Phase::Stopped => Some(Event::Stopped),
        Phase::Refused => Some(Event::Refused(given("refused", "its host does not try again"))),
    }
}

/// What a timeline is told where events are missing. Whose they were nobody knows.
#[must_use]
pub fn events_lost(lost: u64) -> Reason {
    Reason::new("events-lost", format!("{lost} events of its host were lost, some may have been its own"))
        .because("the coordinator was away for longer than the host keeps events, or was restored from an older copy")
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
