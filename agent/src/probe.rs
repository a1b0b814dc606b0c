//! Asking every running bot whether it is well: one small task per container.
//!
//! `reconcile` says whom to follow and reads [`Prober::health`]; what an answer counts for is [`tally`]'s. A task ends
//! with its container's start. While the engine is away failures do not count ([`Prober::engine`]).

pub mod tally;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
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
    shared: Arc<Shared>,
    followed: BTreeMap<String, Followed>,
}

struct Followed {
    target: Target,
    health: Arc<Mutex<Health>>,
    task: AbortHandle,
}

/// What every task sees of the world.
struct Shared {
    changed: Notify,
    /// Even: the engine answers. Odd: it is away. Each change raises it, so that a task notices an absence that it slept
    /// through.
    engine_changes: AtomicU64,
}

impl Prober {
    /// A prober that follows nobody yet.
    #[must_use]
    pub fn new(eyes: Arc<dyn Eyes>) -> Self {
        let shared = Shared { changed: Notify::new(), engine_changes: AtomicU64::new(0) };
        Self { eyes, shared: Arc::new(shared), followed: BTreeMap::new() }
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

    /// Says whether the engine answers. Failures gathered while it does not are pardoned.
    pub fn engine(&self, answers: bool) {
        let is_away = self.shared.engine_changes.load(Ordering::SeqCst) % 2 == 1;
        if is_away == answers {
            self.shared.engine_changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns when a health has changed since it was last waited for. Cancel safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    fn begin(&self, target: Target) -> Followed {
        let tally = Tally::new(target.adopted_as_ready);
        let health = Arc::new(Mutex::new(tally.health().clone()));
        let watch = Watch {
            eyes: Arc::clone(&self.eyes),
            shared: Arc::clone(&self.shared),
            health: Arc::clone(&health),
            target: target.clone(),
            tally,
            began: Instant::now(),
            engine_seen: self.shared.engine_changes.load(Ordering::SeqCst),
        };
        Followed { target, health, task: tokio::spawn(watch.run()).abort_handle() }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.followed.values().for_each(|followed| followed.task.abort());
    }
}

/// One container's task.
struct Watch {
    eyes: Arc<dyn Eyes>,
    shared: Arc<Shared>,
    health: Arc<Mutex<Health>>,
    target: Target,
    tally: Tally,
    began: Instant,
    engine_seen: u64,
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
        let changes = self.shared.engine_changes.load(Ordering::SeqCst);
        let was_away = changes % 2 == 1 || changes != self.engine_seen;
        if was_away {
            self.engine_seen = changes;
            self.tally.pardon();
            self.began = Instant::now();
        }
        if was_away && answer.is_err() {
            return;
        }
        self.tally.take(kind, answer, &self.target.probes, self.began.elapsed());
        let mut told = lock(&self.health);
        if *told != *self.tally.health() {
            told.clone_from(self.tally.health());
            self.shared.changed.notify_one();
        }
    }
}

fn lock(health: &Mutex<Health>) -> std::sync::MutexGuard<'_, Health> {
    // A task that panicked has left a whole value behind: it is replaced in one step.
    health.lock().unwrap_or_else(PoisonError::into_inner)
}
