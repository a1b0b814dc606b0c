//! What the clerk knows, and under which policy it learnt it. Nothing waits here.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::super::answer::Answer;
use super::super::cache::Cache;
use super::super::grants::Grants;
use super::super::look::Tally;
use super::super::turnstile::Pace;
use crate::gate::policy::GatePolicy;

/// A name that is being asked for: who wants it waits here for the one who asks.
pub(super) type Flight = Arc<OnceCell<Answer>>;

/// What is known.
pub(super) struct Memory {
    policy: Arc<GatePolicy>,
    /// Where names lead.
    pub(super) cache: Cache,
    /// What the kernel holds open.
    pub(super) grants: Grants,
    /// Who may have names handed on.
    pub(super) pace: Pace,
    /// Names that are being asked for.
    pub(super) flights: HashMap<String, Flight>,
    /// What was done.
    pub(super) tally: Tally,
}

impl Memory {
    pub(super) fn under(policy: Arc<GatePolicy>) -> Self {
        Self {
            policy,
            cache: Cache::default(),
            grants: Grants::default(),
            pace: Pace::default(),
            flights: HashMap::new(),
            tally: Tally::default(),
        }
    }

    pub(super) fn is_under(&self, policy: &Arc<GatePolicy>) -> bool {
        Arc::ptr_eq(&self.policy, policy)
    }

    /// Forgets what another policy makes doubtful.
    pub(super) fn move_to(&mut self, policy: Arc<GatePolicy>, now: Instant) {
        if self.is_under(&policy) {
            return;
        }
        self.grants.forget_changed(&self.policy, &policy);
        self.pace.forget_patient(now);
        // Answers were rid of what was inside then.
        if self.policy.never != policy.never {
            self.cache = Cache::default();
        }
        // A tenant's waiting questions are dropped with it, and with them whoever would have landed these.
        self.flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        self.policy = policy;
    }

    /// Ends a flight, unless another has begun since.
    pub(super) fn land(&mut self, host: &str, flight: &Flight) {
        if self.flights.get(host).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            self.flights.remove(host);
        }
    }
}
