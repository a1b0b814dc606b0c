//! What an instance is asked to do once, and how far it has come. A part of [`Scene`].
//!
//! ```text
//! asked for ─► begun: the starts that were found are noted ─► done while it stands still ─► it starts ─► answered
//! ```
//! Whoever finds a begun operation and a start that is not among those noted knows that it has happened.

use std::collections::BTreeSet;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::{Operation, OperationAction};
use launchpad_protocol::time::Moment;

use super::Scene;
use crate::observe::Container;
use crate::plan::action::Action;
use crate::plan::marks::OperationMark;

impl Scene<'_> {
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Operation> {
        let ended = |operation: &&Operation| {
            matches!(self.marks.operations.get(&operation.id), Some(OperationMark::Ended(_)))
        };
        self.spec.operations.iter().filter(move |operation| !ended(operation))
    }

    /// The starts that a begun operation has found.
    pub(super) fn begun(&self, operation: &Operation) -> Option<&BTreeSet<Moment>> {
        match self.marks.operations.get(&operation.id) {
            Some(OperationMark::Begun { ends }) => Some(ends),
            Some(OperationMark::Ended(Outcome::Done { .. } | Outcome::Refused { .. })) | None => None,
        }
    }

    /// What is asked for of the volume and has not happened, in the order in which it was asked for.
    pub(super) fn volume_work(&self) -> Vec<Action> {
        let left = self.unanswered().filter(|operation| !self.has_happened(operation));
        left.filter_map(|operation| self.volume_action(operation)).collect()
    }

    pub(super) fn volume_action(&self, operation: &Operation) -> Option<Action> {
        let (deployment, id) = (self.spec.deployment, operation.id);
        match &operation.action {
            OperationAction::Restart | OperationAction::ClearLocalStop => None,
            OperationAction::Snapshot { name } => {
                let (spec, name, at) = (Box::new(self.spec.clone()), name.clone(), self.wall);
                Some(Action::SnapshotVolume { operation: id, spec, name, at })
            }
            OperationAction::Restore { name } => {
                let spec = Box::new(self.spec.clone());
                Some(Action::RestoreVolume { operation: id, spec, name: name.clone() })
            }
            OperationAction::DropSnapshot { name } => {
                Some(Action::DropSnapshot { operation: id, deployment, name: name.clone() })
            }
        }
    }

    /// Whether the instance has started since an operation was begun. Nothing starts before all that was to be done while
    /// it stood still is done: so it is done, and must not be done again to what the bot has made since.
    pub(super) fn has_happened(&self, operation: &Operation) -> bool {
        self.begun(operation).is_some_and(|ends| !self.starts().is_subset(ends))
    }

    /// Notes for everything that needs a stop and is not begun which starts it finds.
    pub(super) fn begin_stopping(&self) -> Vec<Action> {
        let unbegun = |operation: &&Operation| needs_a_stop(operation) && self.begun(operation).is_none();
        let begin = |operation: &Operation| Action::BeginOperation { operation: operation.id, ends: self.starts() };
        self.unanswered().filter(unbegun).map(begin).collect()
    }

    /// The last start of every container of the instance.
    pub(super) fn starts(&self) -> BTreeSet<Moment> {
        self.current.into_iter().chain(self.others.iter().copied()).filter_map(Container::last_start).collect()
    }
}

pub(super) fn is_restart(operation: &Operation) -> bool {
    operation.action == OperationAction::Restart
}

/// Whether it can only be done while the instance stands still.
pub(super) fn needs_a_stop(operation: &Operation) -> bool {
    match operation.action {
        OperationAction::Restart | OperationAction::Snapshot { .. } | OperationAction::Restore { .. } => true,
        OperationAction::DropSnapshot { .. } | OperationAction::ClearLocalStop => false,
    }
}

pub(super) fn finish(operation: &Operation, refusal: Option<Reason>) -> Action {
    Action::FinishOperation { operation: operation.id, refusal }
}
