//! Having the plan carried out: queues filled, actions begun, outcomes taken in.
//!
//! A part of [`Reconciler`]. What is durable goes to the ledger at once; everything else goes to the hands, one action
//! per subject at a time. A failure ends the subject's queue: the next plan finds what is left.

use std::time::Duration;

use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::HostSpec;

use super::work::Finished;
use super::{Reconciler, disk_reason};
use crate::disk::DiskError;
use crate::execute::ExecuteError;
use crate::plan::Subject;
use crate::plan::action::{Action, StopCause};
use crate::plan::lease::{Hold, hold};
use crate::plan::record::{TROUBLE_CAP, Trouble};

impl Reconciler {
    /// Hands new work over. A tombstone waits for whatever is still being done to its instance.
    pub(super) fn enqueue(&mut self, spec: &HostSpec) {
        let now = self.parts.clock.boot();
        for (subject, actions) in &self.plan.work {
            let subject = *subject;
            if matches!(actions.first(), Some(Action::StopContainer { why: StopCause::LeaseEnded, .. })) {
                // A pull has no bound, and this cannot wait for one.
                self.work.abandon_pull(subject);
            }
            let waits = self.work.is_busy(subject)
                || self.work.is_paused(subject, now)
                || match subject {
                    Subject::Instance(_) => false,
                    Subject::Burial(id) => spec
                        .tombstones
                        .get(&id)
                        .is_some_and(|tombstone| self.work.is_busy(Subject::Instance(tombstone.deployment))),
                };
            if !waits {
                self.work.enqueue(subject, actions.clone());
            }
        }
    }

    /// Starts the next action of every subject that has one and does nothing. What the ledger does is done at once.
    pub(super) fn begin_next(&mut self) {
        for subject in self.work.ready() {
            while let Some(action) = self.work.peek(subject).cloned() {
                if self.is_too_late(&action) {
                    self.work.give_up(subject);
                    self.look_within(Duration::ZERO);
                    break;
                }
                match self.by_ledger(&action) {
                    None => {
                        self.expect_exit(&action);
                        self.work.begin(subject, &self.parts.hands);
                        break;
                    }
                    Some(Ok(())) => self.work.skip(subject),
                    Some(Err(error)) => {
                        self.work.give_up(subject);
                        self.trouble(subject, disk_reason(&error));
                        break;
                    }
                }
            }
        }
    }

    /// Whether the lease has ended since a start was planned: it may have waited for a pull.
    fn is_too_late(&self, action: &Action) -> bool {
        let Action::StartContainer { deployment, .. } = action else { return false };
        let spec = self.parts.ledger.spec().and_then(|spec| spec.instances.get(deployment));
        let now = self.parts.clock.boot();
        spec.is_some_and(|spec| hold(spec.lease, self.lease.renewed_at(), now) == Hold::Ended)
    }

    /// Carries out what is the ledger's to do; none: it is the hands'.
    fn by_ledger(&mut self, action: &Action) -> Option<Result<(), DiskError>> {
        let at = self.parts.clock.wall();
        let done = match action {
            Action::BeginOperation { operation, ends } => self.parts.ledger.begin_operation(*operation, ends.clone()),
            Action::FinishOperation { operation, refusal } => {
                let outcome = match refusal.clone() {
                    None => Outcome::Done { at },
                    Some(reason) => Outcome::Refused { reason },
                };
                self.parts.ledger.finish_operation(*operation, outcome)
            }
            Action::Bury { tombstone } => self.parts.ledger.bury(*tombstone),
            Action::PullImage { .. }
            | Action::EnsureNetwork { .. }
            | Action::ShapeTenant { .. }
            | Action::PrepareVolume { .. }
            | Action::WriteFiles { .. }
            | Action::OpenGate { .. }
            | Action::CloseGate { .. }
            | Action::SnapshotVolume { .. }
            | Action::RestoreVolume { .. }
            | Action::DropSnapshot { .. }
            | Action::CreateContainer { .. }
            | Action::StartContainer { .. }
            | Action::UpdateResources { .. }
            | Action::StopContainer { .. }
            | Action::RemoveContainer { .. }
            | Action::RemoveFiles { .. }
            | Action::RemoveVolume { .. }
            | Action::RemoveNetwork { .. } => return None,
        };
        self.look_within(Duration::ZERO);
        Some(done)
    }

    /// Notes, before a container is stopped, what its exit will mean.
    fn expect_exit(&mut self, action: &Action) {
        let Action::StopContainer { container, why, .. } = action else { return };
        let owner = self.observed.as_ref().and_then(|observed| observed.containers.get(container));
        let Some(record) = owner.and_then(|owner| self.records.get_mut(&owner.deployment)) else { return };
        record.expect_stop(container, why, self.parts.clock.boot());
        let deployment = owner.map(|owner| owner.deployment);
        self.changes.records.extend(deployment.map(|deployment| (deployment, Some(record.clone()))));
        self.save();
    }

    /// A stop that failed explains no later exit.
    fn forget_stop(&mut self, action: &Action) {
        if let Action::StopContainer { container, .. } = action
            && let Some(owner) = self.observed.as_ref().and_then(|observed| observed.containers.get(container))
            && let Some(record) = self.records.get_mut(&owner.deployment)
        {
            record.forget_stop();
            self.changes.records.insert(owner.deployment, Some(record.clone()));
        }
    }

    /// Takes in what became of an action.
    pub(super) fn finish(&mut self, finished: Finished) {
        let Finished { subject, action, result } = finished;
        // Between two queued actions nothing is to be decided.
        if result.is_err() || !self.work.is_busy(subject) {
            self.look_within(Duration::ZERO);
        }
        if result.is_err() {
            self.forget_stop(&action);
        }
        match result {
            Ok(()) => {
                tracing::debug!(%action, "done");
                if let Subject::Instance(deployment) = subject
                    && let Some(record) = self.records.get_mut(&deployment)
                {
                    if matches!(action, Action::UpdateResources { .. }) {
                        record.limits_were_set();
                    }
                    if !self.work.is_busy(subject) {
                        record.trouble = None;
                    }
                }
            }
            Err(ExecuteError::EngineAway(reason)) => {
                tracing::debug!(%action, %reason, "given up, the engine is away");
                self.work.give_up(subject);
            }
            Err(ExecuteError::Passing(reason) | ExecuteError::Refused(reason)) if action.operation().is_some() => {
                tracing::warn!(%action, %reason, "the operation is refused");
                self.work.give_up(subject);
                self.refuse_operation(subject, &action, reason);
            }
            Err(ExecuteError::Passing(reason)) => {
                tracing::warn!(%action, %reason, "failed, tried again later");
                self.work.give_up(subject);
                self.trouble(subject, reason);
            }
            Err(ExecuteError::Refused(reason)) => {
                tracing::warn!(%action, %reason, "refused");
                self.work.give_up(subject);
                self.refuse(subject, reason);
            }
        }
    }

    /// Answers an operation with why it failed. Its instance runs on, or starts again, by the next plan.
    fn refuse_operation(&mut self, subject: Subject, action: &Action, reason: Reason) {
        let Some(operation) = action.operation() else { return };
        if let Err(error) = self.parts.ledger.finish_operation(operation, Outcome::Refused { reason }) {
            self.trouble(subject, disk_reason(&error));
        }
    }

    fn trouble(&mut self, subject: Subject, reason: Reason) {
        let now = self.parts.clock.boot();
        match subject {
            Subject::Instance(deployment) => {
                let record = self.records.entry(deployment).or_default();
                let tries = record.trouble.as_ref().map_or(0, |trouble| trouble.tries + 1);
                record.trouble = Some(Trouble::new(reason, tries, now));
            }
            // A tombstone has no backoff of its own: the pause before it is tried again is the loop's nap.
            Subject::Burial(_) => self.work.pause(subject, now + TROUBLE_CAP.min(REPORT_INTERVAL), reason),
        }
    }

    fn refuse(&mut self, subject: Subject, reason: Reason) {
        match subject {
            Subject::Instance(deployment) => {
                let record = self.records.entry(deployment).or_default();
                record.refusal = Some(reason);
                self.changes.records.insert(deployment, Some(record.clone()));
            }
            Subject::Burial(_) => self.trouble(subject, reason),
        }
    }
}
