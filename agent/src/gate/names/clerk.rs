//! The journey of one question, from its bytes to the reply's: this is where nothing is said before the
//! kernel has it.
//!
//! ```text
//! bytes ─► Question ─► judge ─┬─ declined ─────────────────────────────────────────► told at once
//!                             ├─ remembered, and the kernel holds it long enough ──► told at once
//!                             └─ Pending: takes a place, or is told that there is none
//!                                   │
//!  ┌─► judge ─► remembered, or one of all who ask hands it on ─► answer, without what is inside
//!  │                │ the policy changed meanwhile
//!  └────────────────┤
//!                   └─► the kernel lets it through ─► told
//! ```
//! [`Clerk::hear`] waits for nothing. What [`Clerk::finish`] waits for has an end: servers, and the keeper
//! (`waiting.rs`). What is known, and what a change of the policy makes of it, is `memory.rs`.

mod memory;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use launchpad_protocol::limits::INSTANCES_PER_HOST_MAX;
use launchpad_protocol::reason::Reason;
use tokio::sync::watch;
use tokio::time::Instant;

use self::memory::Memory;
use super::answer::Found;
use super::lifetime;
use super::look::{Failure, Tally};
use super::question::Question;
use super::reply::{self, Told, Way};
use super::seldom::Seldom;
use super::turnstile::{Place, Turnstile};
use super::upstream::Upstream;
use super::verdict::{Caller, Decline, Sender, judge};
use crate::gate::policy::GatePolicy;
use crate::gate::ports::{Admits, Witnesses};

/// Questions that wait at once, of all bots: each may hold a socket and some kilobytes. Half of them are one
/// each for the bots of a full host (`limits::INSTANCES_PER_HOST_MAX`, of which half run).
const WAITING_MAX: usize = INSTANCES_PER_HOST_MAX;

/// Questions of one bot that wait at once: four times what a program's resolver has in flight by default.
const WAITING_PER_BOT_MAX: usize = 32;

/// How often a question is judged anew because the policy changed while it waited; each time takes
/// milliseconds.
const JUDGED_MAX: usize = 8;

/// Who answers questions. Shared by all listeners.
pub(super) struct Clerk {
    policy: watch::Receiver<Arc<GatePolicy>>,
    admits: Arc<dyn Admits>,
    witnesses: Arc<dyn Witnesses>,
    upstream: Arc<dyn Upstream>,
    places: Arc<Mutex<Turnstile>>,
    memory: Mutex<Memory>,
    seldom: Seldom,
}

/// What becomes of bytes that came in.
pub(super) enum Heard {
    /// They are answered so.
    Reply(Vec<u8>),
    /// They are not answered.
    Silence,
    /// The answer takes a while.
    Pending(Pending),
}

/// A question that waits, in its place.
pub(super) struct Pending {
    sender: Sender,
    question: Question,
    way: Way,
    _place: Place,
}

impl Clerk {
    pub(super) fn new(
        policy: watch::Receiver<Arc<GatePolicy>>,
        admits: Arc<dyn Admits>,
        witnesses: Arc<dyn Witnesses>,
        upstream: Arc<dyn Upstream>,
    ) -> Self {
        let memory = Mutex::new(Memory::under(Arc::clone(&policy.borrow())));
        let places = Turnstile::new(WAITING_MAX, WAITING_PER_BOT_MAX);
        Self { policy, admits, witnesses, upstream, places, memory, seldom: Seldom::default() }
    }

    /// Whether that is one of the tenant's bots.
    pub(super) fn knows(&self, sender: Sender) -> bool {
        sender.of(&self.policy()).is_some()
    }

    /// Answers what can be answered without waiting.
    pub(super) fn hear(&self, sender: Sender, bytes: &[u8], way: Way) -> Heard {
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(unfit) => return reply::unfit(unfit).map_or(Heard::Silence, Heard::Reply),
        };
        let told = match judge(&self.policy(), sender, &question) {
            Err(why) => self.decline(&why, sender, &question),
            Ok(caller) => match self.recall(&caller, &question) {
                Some(told) => told,
                None => match Turnstile::enter(&self.places, caller.bot) {
                    Some(place) => return Heard::Pending(Pending { sender, question, way, _place: place }),
                    None => self.fail(&question, crowded()),
                },
            },
        };
        Heard::Reply(reply::encode(&question, &told, way))
    }

    /// Answers what had to wait.
    pub(super) async fn finish(&self, pending: Pending) -> Vec<u8> {
        let told = self.settle(&pending).await;
        reply::encode(&pending.question, &told, pending.way)
    }

    async fn settle(&self, pending: &Pending) -> Told {
        let question = &pending.question;
        for _ in 0..JUDGED_MAX {
            let policy = self.policy();
            let caller = match judge(&policy, pending.sender, question) {
                Ok(caller) => caller,
                Err(why) => return self.decline(&why, pending.sender, question),
            };
            let (found, left) = self.resolve(&caller, question).await;
            if !self.is_current(&policy) {
                continue;
            }
            let Found::Addresses(to) = &*found else { return self.without_addresses(&found, &caller, question) };
            let told = lifetime::told(left);
            if let Err(reason) = self.admit(&policy, &caller, question, to, told).await {
                return self.fail(question, reason);
            }
            if self.is_current(&policy) {
                self.memory().tally.answered += 1;
                return Told::Addresses(to.clone(), told);
            }
        }
        let reason =
            Reason::new("policy-unsteady", "what the bots may reach changed again and again while one asked");
        self.fail(question, reason)
    }

    /// What is remembered and needs nothing of the kernel.
    fn recall(&self, caller: &Caller, question: &Question) -> Option<Told> {
        let losses = self.admits.losses(caller.deployment);
        let now = Instant::now();
        let mut memory = self.memory();
        let (found, left) = memory.cache.get(question.host.as_deref()?, now)?;
        let Found::Addresses(to) = &*found else {
            drop(memory);
            return Some(self.without_addresses(&found, caller, question));
        };
        let told = lifetime::told(left);
        memory.grants.cover(caller.ways(to, losses), now + told).then(|| {
            memory.tally.recalled += 1;
            Told::Addresses(to.clone(), told)
        })
    }

    fn without_addresses(&self, found: &Found, caller: &Caller, question: &Question) -> Told {
        match found {
            Found::Inside => self.refuse(caller, question),
            Found::Failed(reason) => self.fail(question, reason.clone()),
            Found::Nothing { exists: false } => Told::NoSuchName,
            // Addresses are never empty.
            Found::Nothing { exists: true } | Found::Addresses(_) => Told::Empty,
        }
    }

    fn decline(&self, why: &Decline, sender: Sender, question: &Question) -> Told {
        match why {
            Decline::Stranger => {
                self.seldom.warn("a question from an address that no bot of that network has", sender.address);
                Told::Refused
            }
            Decline::Denied(caller) => self.refuse(caller, question),
            Decline::Meta => Told::Refused,
            Decline::Reverse => Told::NoSuchName,
            Decline::Empty => Told::Empty,
        }
    }

    fn refuse(&self, caller: &Caller, question: &Question) -> Told {
        self.witnesses.name_refused(caller.account, caller.deployment, &question.shown());
        self.memory().tally.refused += 1;
        Told::NoSuchName
    }

    fn fail(&self, question: &Question, reason: Reason) -> Told {
        self.seldom.warn("a name was not answered", &reason);
        let mut memory = self.memory();
        memory.tally.failed += 1;
        memory.tally.last_failure = Some(Failure { name: question.shown(), reason });
        Told::Failed
    }

    /// What was done so far, how many names are remembered, and how many questions wait.
    pub(super) fn tally(&self) -> (Tally, usize, usize) {
        let memory = self.memory();
        (memory.tally.clone(), memory.cache.len(), Turnstile::taken(&self.places))
    }

    fn policy(&self) -> Arc<GatePolicy> {
        Arc::clone(&self.policy.borrow())
    }

    fn is_current(&self, policy: &Arc<GatePolicy>) -> bool {
        Arc::ptr_eq(policy, &self.policy.borrow())
    }

    /// What is known, less what a change of the policy has made doubtful. A panic elsewhere leaves it whole:
    /// each of its parts is changed in one call.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        let policy = self.policy();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.move_to(policy, Instant::now());
        memory
    }
}

fn crowded() -> Reason {
    let sentence =
        format!("a bot waits for {WAITING_PER_BOT_MAX} names already, or all bots together for {WAITING_MAX}");
    Reason::new("names-crowded", sentence).mend("have the bot resolve fewer names at a time")
}

#[cfg(test)]
mod tests;
