//! What is being done: a queue of actions for each subject, one of them running.
//!
//! `reconcile` fills the queues from plans and takes what has finished. A running action is never interrupted, except a
//! pull that nobody wants any more: everything else is short, or has a grace of its own.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use launchpad_protocol::killpoint::{self, Side};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::BootMoment;
use tokio::task::{AbortHandle, JoinSet};

use crate::execute::{ExecuteError, Hands};
use crate::plan::Subject;
use crate::plan::action::Action;

/// All work in hand.
#[derive(Default)]
pub(super) struct Work {
    running: JoinSet<Finished>,
    queues: BTreeMap<Subject, Queue>,
    paused: BTreeMap<Subject, Pause>,
}

struct Queue {
    /// The first is the running one, once begun.
    actions: VecDeque<Action>,
    begun: Option<AbortHandle>,
}

struct Pause {
    until: BootMoment,
    reason: Reason,
}

/// What became of one action.
pub(super) struct Finished {
    pub(super) subject: Subject,
    pub(super) action: Action,
    pub(super) result: Result<(), ExecuteError>,
}

impl Work {
    pub(super) fn is_idle(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn is_busy(&self, subject: Subject) -> bool {
        self.queues.contains_key(&subject)
    }

    /// Takes new actions for a subject that has none.
    pub(super) fn enqueue(&mut self, subject: Subject, actions: Vec<Action>) {
        self.queues.entry(subject).or_insert_with(|| Queue { actions: actions.into(), begun: None });
    }

    /// Subjects with an action that is not begun.
    pub(super) fn ready(&self) -> Vec<Subject> {
        self.queues.iter().filter(|(_, queue)| queue.begun.is_none()).map(|(subject, _)| *subject).collect()
    }

    /// The next action of a subject.
    pub(super) fn peek(&self, subject: Subject) -> Option<&Action> {
        self.queues.get(&subject).and_then(|queue| queue.actions.front())
    }

    /// The action that runs for a subject.
    pub(super) fn current(&self, subject: Subject) -> Option<&Action> {
        self.queues.get(&subject).filter(|queue| queue.begun.is_some()).and_then(|queue| queue.actions.front())
    }

    /// What runs for a subject, and what then waits.
    pub(super) fn of(&self, subject: Subject) -> impl Iterator<Item = &Action> {
        self.queues.get(&subject).into_iter().flat_map(|queue| &queue.actions)
    }

    /// Has the hands carry out a subject's next action.
    pub(super) fn begin(&mut self, subject: Subject, hands: &Arc<dyn Hands>) {
        let Some(queue) = self.queues.get_mut(&subject) else { return };
        let Some(action) = queue.actions.front().cloned() else { return };
        let hands = Arc::clone(hands);
        let run = async move {
            killpoint::visit("agent", action.kind(), Side::Before);
            let result = hands.execute(&action).await;
            killpoint::visit("agent", action.kind(), Side::After);
            Finished { subject, action, result }
        };
        queue.begun = Some(self.running.spawn(run));
    }

    /// Drops a subject's next action: it is done.
    pub(super) fn skip(&mut self, subject: Subject) {
        if let Some(queue) = self.queues.get_mut(&subject) {
            queue.actions.pop_front();
            queue.begun = None;
            if queue.actions.is_empty() {
                self.queues.remove(&subject);
            }
        }
    }

    /// Drops all that a subject still had to do: a new plan finds what is left.
    pub(super) fn give_up(&mut self, subject: Subject) {
        self.queues.remove(&subject);
    }

    /// Ends the pull that a subject waits for, and all that was to follow.
    pub(super) fn abandon_pull(&mut self, subject: Subject) {
        let Some(Queue { begun: Some(abort), actions }) = self.queues.get(&subject) else { return };
        if matches!(actions.front(), Some(Action::PullImage { .. })) {
            abort.abort();
            self.queues.remove(&subject);
        }
    }

    /// Keeps a subject from being tried before that moment.
    pub(super) fn pause(&mut self, subject: Subject, until: BootMoment, reason: Reason) {
        self.paused.insert(subject, Pause { until, reason });
    }

    /// Whether a subject must not be tried yet. A pause that is over is forgotten.
    pub(super) fn is_paused(&mut self, subject: Subject, now: BootMoment) -> bool {
        self.paused.retain(|_, pause| now < pause.until);
        self.paused.contains_key(&subject)
    }

    /// Why subjects wait.
    pub(super) fn pauses(&self) -> impl Iterator<Item = &Reason> {
        self.paused.values().map(|pause| &pause.reason)
    }

    /// Lets go of what was planned for an older spec and is not begun, and of pulls that nobody wants any more.
    pub(super) fn replan(&mut self, spec: Option<&HostSpec>) {
        self.paused.clear();
        self.queues.retain(|subject, queue| {
            let Some(abort) = &queue.begun else { return false };
            queue.actions.truncate(1);
            let Some(Action::PullImage { image }) = queue.actions.front() else { return true };
            let wanted = matches!(subject, Subject::Instance(id)
                if spec.is_some_and(|spec| spec.instances.get(id).is_some_and(|instance| instance.image == *image)));
            if !wanted {
                abort.abort();
            }
            wanted
        });
    }

    /// The next action to finish. Never returns while nothing runs. Cancel safe.
    pub(super) async fn next(&mut self) -> Finished {
        loop {
            match self.running.join_next().await {
                Some(Ok(finished)) => {
                    self.skip(finished.subject);
                    return finished;
                }
                // Aborted by `replan`, which has forgotten it already.
                Some(Err(error)) if error.is_cancelled() => {}
                // An executor's bug: the subject's queue would wait for ever, so all that is not running starts over.
                Some(Err(error)) => {
                    tracing::error!(%error, "an action panicked; its subject is planned anew");
                    self.queues.retain(|_, queue| queue.begun.as_ref().is_some_and(|task| !task.is_finished()));
                }
                None => std::future::pending().await,
            }
        }
    }
}

/// What runs and what waits, for people.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for queue in self.queues.values() {
            for (at, action) in queue.actions.iter().enumerate() {
                let state = if at == 0 && queue.begun.is_some() { "doing" } else { "then " };
                writeln!(f, "{state} {action}")?;
            }
        }
        self.paused.values().try_for_each(|pause| writeln!(f, "waiting: {}", pause.reason))
    }
}
