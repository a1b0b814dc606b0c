//! Asking every running bot whether it is well: one small task per container.
//!
//! `reconcile` says whom to follow and reads [`Prober::health`]; what an answer counts for is [`tally`]'s. A task ends
//! with its container's start, and with the engine: what was said while that was away does not count
//! ([`Prober::let_go`]).

pub mod tally;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launchpad_protocol::spec::ProbeSet;
use launchpad_protocol::time::Moment;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::execute::Eyes;
use crate::plan::Health;
use tally::{Kind, Tally};

/// The first pause between startup probes; doubled up to the probe's own period. A bot that is up in 50 ms is found
/// ready in 50 ms, and a slow one is not asked more often than its profile says.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Whom to ask, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The start that is asked about: another one begins another tally.
    pub started_at: Moment,
    /// Where it serves.
    pub address: Ipv4Addr,
    /// Where it serves.
    pub port: u16,
    /// What to ask.
    pub probes: ProbeSet,
    /// It was ready when the agent last looked, in this very start.
    pub adopted_as_ready: bool,
}

/// Follows running containers.
pub struct Prober {
    eyes: Arc<dyn Eyes>,
    changed: Arc<Notify>,
    followed: BTreeMap<String, Followed>,
}

struct Followed {
    target: Target,
    health: Arc<Mutex<Health>>,
    task: AbortHandle,
}

impl Prober {
    /// A prober that follows nobody yet.
    #[must_use]
    pub fn new(eyes: Arc<dyn Eyes>) -> Self {
        Self { eyes, changed: Arc::new(Notify::new()), followed: BTreeMap::new() }
    }

    /// Follows exactly these containers from now on.
    pub fn follow(&mut self, targets: BTreeMap<String, Target>) {
        self.followed.retain(|id, followed| {
            let same = targets.get(id).is_some_and(|target| {
                // How it is adopted matters only at the beginning.
                Target { adopted_as_ready: followed.target.adopted_as_ready, ..target.clone() } == followed.target
            });
            if !same {
                followed.task.abort();
            }
            same
        });
        for (id, target) in targets {
            if !self.followed.contains_key(&id) {
                let followed = self.begin(target);
                self.followed.insert(id, followed);
            }
        }
    }

    /// What the probes say of each container followed.
    #[must_use]
    pub fn health(&self) -> BTreeMap<String, Health> {
        self.followed.iter().map(|(id, followed)| (id.clone(), lock(&followed.health).clone())).collect()
    }

    /// Lets go of everybody, and of all that their probes said: the engine is away, and a bot that writes a lot blocks on
    /// its log pipe then. Whoever still runs when it is back is followed from the beginning.
    pub fn let_go(&mut self) {
        std::mem::take(&mut self.followed).into_values().for_each(|followed| followed.task.abort());
    }

    /// Returns when a health has changed since it was last waited for. Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn begin(&self, target: Target) -> Followed {
        let tally = Tally::new(target.adopted_as_ready);
        let health = Arc::new(Mutex::new(tally.health().clone()));
        let watch = Watch {
            eyes: Arc::clone(&self.eyes),
            changed: Arc::clone(&self.changed),
            health: Arc::clone(&health),
            target: target.clone(),
            tally,
            began: Instant::now(),
        };
        Followed { target, health, task: tokio::spawn(watch.run()).abort_handle() }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// One container's task.
struct Watch {
    eyes: Arc<dyn Eyes>,
    changed: Arc<Notify>,
    health: Arc<Mutex<Health>>,
    target: Target,
    tally: Tally,
    began: Instant,
}

impl Watch {
    async fn run(mut self) {
        self.startup().await;
        let probes = self.target.probes.clone();
        let mut readiness_at = Instant::now();
        let mut liveness_at = readiness_at + probes.liveness.period;
        // Once the verdict has fallen, the container is stopped and this task with it.
        while self.tally.health().verdict.is_none() {
            sleep_until(readiness_at.min(liveness_at)).await;
            let now = Instant::now();
            if readiness_at <= now {
                self.ask(Kind::Readiness).await;
                readiness_at = now + probes.readiness.period;
            }
            if liveness_at <= now {
                self.ask(Kind::Liveness).await;
                liveness_at = now + probes.liveness.period;
            }
        }
    }

    async fn startup(&mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.tally.health().started && self.tally.health().verdict.is_none() {
            sleep(pause).await;
            pause = (pause * 2).min(self.target.probes.startup.period);
            self.ask(Kind::Startup).await;
        }
    }

    async fn ask(&mut self, kind: Kind) {
        let probe = match kind {
            Kind::Startup => &self.target.probes.startup,
            Kind::Readiness => &self.target.probes.readiness,
            Kind::Liveness => &self.target.probes.liveness,
        };
        let answer = self.eyes.probe(self.target.address, self.target.port, probe).await;
        self.tally.take(kind, answer, &self.target.probes, self.began.elapsed());
        let mut told = lock(&self.health);
        if *told != *self.tally.health() {
            told.clone_from(self.tally.health());
            self.changed.notify_one();
        }
    }
}

fn lock(health: &Mutex<Health>) -> std::sync::MutexGuard<'_, Health> {
    // A task that panicked has left a whole value behind: it is replaced in one step.
    health.lock().unwrap_or_else(PoisonError::into_inner)
}
