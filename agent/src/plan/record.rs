//! What the agent remembers of one instance: its crashes, its last exit, when it may try again.
//!
//! [`Record::absorb`] turns an observation into memory; `instance` reads it. All of it can be rebuilt from Docker with no
//! worse effect than a shorter backoff, so it lives in the book ([`crate::book`]), not in the ledger.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use launchpad_protocol::enforcement::Item;
use launchpad_protocol::generation::Revision;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{InstanceSpec, Power};
use launchpad_protocol::time::{BootMoment, Moment};
use serde::{Deserialize, Serialize};

use super::action::StopCause;
use super::exit::{self, Meaning};
use super::marks::{Marks, OperationMark};
use super::{Context, Health};
use crate::observe::{Container, ContainerState, Exit};

/// Memory of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The revision that crashes, refusal and trouble are about.
    pub revision: Revision,
    /// The boot in which the moments below count.
    pub boot_id: String,
    /// Starts seen after the first.
    pub restarts: u32,
    /// Crashes in a row.
    pub crashes: u32,
    /// The start that was last seen.
    pub started_at: Option<Moment>,
    /// When that start became ready.
    pub ready_at: Option<Moment>,
    /// The same, on the boot clock.
    pub ready_since: Option<BootMoment>,
    /// The exit that was last judged, so that none is judged twice.
    pub judged_exit: Option<Moment>,
    /// When the first of a row of transient exits came.
    pub transient_since: Option<BootMoment>,
    /// Not to be started before this.
    pub retry_at: Option<BootMoment>,
    /// What the waiting is for.
    pub waiting_for: Option<Reason>,
    /// Why this revision is not tried again.
    pub refusal: Option<Reason>,
    /// We stopped it because its probes failed: its next exit is a crash, and this is its story.
    pub unhealthy: Option<Reason>,
    /// The container that we stopped for another cause: its next exit is no crash.
    pub stopped_by_us: Option<String>,
    /// The machine was booted since the last look: whatever ran has ended with it, and has not crashed.
    pub rebooted: bool,
    /// Promises that were seen to hold in this start.
    #[serde(default)]
    pub held: BTreeSet<Item>,
    /// Since when one of those does not that only a new start mends.
    #[serde(default)]
    pub drifting_since: Option<BootMoment>,
    /// When such a drift was last the cause of a new start.
    #[serde(default)]
    pub drift_restart_at: Option<BootMoment>,
    /// A step that failed and may work later.
    #[serde(skip)]
    pub trouble: Option<Trouble>,
    /// What was last told in an event.
    pub told: Option<(Phase, Option<String>)>,
    /// The last few events, for people on the host, who may have no coordinator to ask.
    #[serde(default)]
    pub past: VecDeque<Past>,
}

/// Where an instance stood, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Since when, by the host's clock.
    pub at: Moment,
    /// Where.
    pub phase: Phase,
    /// Why.
    pub reason: Option<Reason>,
}

/// Events kept with a record: where it stands, and the way there.
const PAST_MAX: usize = 5;

/// A step that failed and may work later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What failed, and why.
    pub reason: Reason,
    /// Times in a row.
    pub tries: u32,
    /// When it is tried again.
    pub retry_at: BootMoment,
}

/// The first pause after a failed step; doubled each time.
const TROUBLE_INITIAL: Duration = Duration::from_secs(1);

/// The longest pause after a failed step: a registry that comes back is found within it.
pub const TROUBLE_CAP: Duration = Duration::from_secs(60);

impl Trouble {
    /// A step that failed at `now`, after so many failures in a row.
    #[must_use]
    pub fn new(reason: Reason, tries: u32, now: BootMoment) -> Self {
        Self { reason, tries, retry_at: now + Self::pause(tries) }
    }

    /// When it is tried again by somebody who cannot wait that long: after the first pause, whichever this is.
    #[must_use]
    pub fn urgent_at(&self) -> BootMoment {
        let spared = Self::pause(self.tries).saturating_sub(TROUBLE_INITIAL);
        let at = Duration::from_micros(self.retry_at.micros()).saturating_sub(spared);
        BootMoment::from_micros(0) + at
    }

    fn pause(tries: u32) -> Duration {
        TROUBLE_INITIAL.saturating_mul(2_u32.saturating_pow(tries)).min(TROUBLE_CAP)
    }
}

impl Record {
    /// Takes in what is observed of the instance. Called before every plan; the same observation twice changes nothing.
    pub fn absorb(
        &mut self,
        spec: &InstanceSpec,
        container: Option<&Container>,
        health: Option<&Health>,
        marks: &Marks,
        context: &Context,
    ) {
        self.meet_revision(spec);
        self.meet_boot(container, context);
        match container.map(|container| &container.state) {
            Some(ContainerState::Running { started_at }) => self.absorb_running(*started_at, spec, health, context),
            Some(ContainerState::Exited(exit)) if self.judged_exit != Some(exit.at) => {
                let stopped = self.stopped_by_us.take();
                let ours = stopped.is_some() && stopped.as_ref() == container.map(|container| &container.id);
                self.absorb_exit(exit, ours, spec, marks, context);
            }
            Some(ContainerState::Exited(_) | ContainerState::Created) | None => {}
        }
    }

    /// Notes, before a container is stopped, what its exit will mean.
    pub fn expect_stop(&mut self, container: &str, why: &StopCause, now: BootMoment) {
        match why {
            StopCause::Unhealthy(reason) => self.unhealthy = Some(reason.clone()),
            StopCause::Drift(_) => {
                self.drift_restart_at = Some(now);
                self.stopped_by_us = Some(container.to_owned());
            }
            StopCause::PowerOff
            | StopCause::LocalStop
            | StopCause::Replaced
            | StopCause::Operation(_)
            | StopCause::LeaseEnded
            | StopCause::Tombstone(_) => self.stopped_by_us = Some(container.to_owned()),
        }
    }

    /// Keeps what was told of it, for people.
    pub fn has_told(&mut self, past: Past) {
        self.told = Some((past.phase, past.reason.as_ref().map(|reason| reason.code.clone())));
        self.past.push_back(past);
        while self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
    }

    /// Takes such a note back: the stop has failed.
    pub fn forget_stop(&mut self) {
        self.stopped_by_us = None;
        self.unhealthy = None;
    }

    /// A new wish wipes the slate: what the old one ran into says nothing about it.
    fn meet_revision(&mut self, spec: &InstanceSpec) {
        if self.revision != spec.revision {
            self.revision = spec.revision;
            self.crashes = 0;
            self.transient_since = None;
            self.retry_at = None;
            self.waiting_for = None;
            self.refusal = None;
            self.trouble = None;
        }
    }

    /// Moments of an earlier boot mean nothing on this one's clock, and every process ended with it.
    fn meet_boot(&mut self, container: Option<&Container>, context: &Context) {
        if self.boot_id != context.boot_id {
            // Where nobody remembers the boot, what began before this kernel did has ended with the one before.
            self.rebooted = !self.boot_id.is_empty()
                || container.and_then(Container::last_start).is_some_and(|start| start < context.booted_at());
            self.boot_id.clone_from(&context.boot_id);
            self.ready_since = None;
            self.transient_since = None;
            self.retry_at = None;
            self.drifting_since = None;
            self.drift_restart_at = None;
        }
    }

    fn absorb_running(
        &mut self,
        started_at: Moment,
        spec: &InstanceSpec,
        health: Option<&Health>,
        context: &Context,
    ) {
        if self.started_at != Some(started_at) {
            self.restarts += u32::from(self.started_at.is_some());
            self.started_at = Some(started_at);
            self.ready_at = None;
            self.ready_since = None;
            self.held.clear();
            self.drifting_since = None;
            self.rebooted = false;
            self.forget_stop();
        }
        if health.is_some_and(|health| health.ready) {
            self.ready_at.get_or_insert(context.wall);
            let since = *self.ready_since.get_or_insert(context.now);
            self.transient_since = None;
            if self.crashes > 0 && context.now.since(since) >= spec.restart.forgiven_after {
                self.crashes = 0;
            }
        }
    }

    fn absorb_exit(&mut self, exit: &Exit, ours: bool, spec: &InstanceSpec, marks: &Marks, context: &Context) {
        self.judged_exit = Some(exit.at);
        // A step that failed because the process was ending says nothing now, and would hide why it ended.
        self.trouble = None;
        if self.started_at != Some(exit.started_at) {
            self.restarts += u32::from(self.started_at.is_some());
            self.started_at = Some(exit.started_at);
        }
        self.ready_at = None;
        let ours = std::mem::take(&mut self.rebooted) || ours || self.was_wanted(spec, marks);
        let meaning = match self.unhealthy.take() {
            Some(reason) => Meaning::Crash(reason),
            None if ours => Meaning::Ours,
            None => exit::judge(exit, &spec.restart, self.transient_since.unwrap_or(context.now), context.now),
        };
        match meaning {
            Meaning::Ours => {
                self.retry_at = None;
                self.waiting_for = None;
            }
            Meaning::Terminal(reason) => self.refusal = Some(reason),
            Meaning::Transient { reason, retry } => {
                self.transient_since.get_or_insert(context.now);
                self.retry_at = Some(context.now + retry);
                self.waiting_for = Some(reason);
            }
            Meaning::Crash(reason) => {
                self.crashes = self.crashes.saturating_add(1);
                self.retry_at = Some(context.now + exit::backoff(&spec.restart, self.crashes));
                self.waiting_for = Some(exit::with_count(reason, self.crashes));
            }
        }
        self.ready_since = None;
    }

    /// Whether the marks say that this exit was wanted, even if the book that would say so was lost.
    fn was_wanted(&self, spec: &InstanceSpec, marks: &Marks) -> bool {
        let begun = |id| matches!(marks.operations.get(id), Some(OperationMark::Begun { .. }));
        spec.power == Power::Off
            || marks.is_stopped_here(spec.deployment, spec.revision)
            || spec.operations.iter().any(|operation| begun(&operation.id))
    }
}
