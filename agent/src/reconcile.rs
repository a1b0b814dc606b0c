//! The loop: what should be, what is, the difference, and the next step of it. Then again.
//!
//! ```text
//!        offers, forgets ◄──► link             local socket ──► requests
//!                 │                                   │
//!                 ▼                                   ▼
//!   ledger ─► spec, marks ─┐                  (each wakes the loop)
//!   eyes ───► observed ────┼─► judge ─► plan ─► work queues ─► hands, one action per subject at a time
//!   prober ─► health ──────┤               └──► standings ─► journal, records ─► book ─► report ─► link
//!   book ───► records ─────┘
//! ```
//! Observing holds the loop for as long as Docker takes to answer, which has a bound of its own; everything else that
//! takes time runs beside it. It wakes on a signal and on a timer, rereads everything, and takes no hints: any step may be lost, repeated or
//! interrupted by a crash, and the next turn puts it right. What the coordinator does or does not do stops nothing here.
//! `select!` below is cancel safe throughout: every branch is a channel's `recv`, a `Notify` or a timer.

mod doing;
pub mod evicting;
pub mod facts;
mod lease;
pub mod request;
mod serving;
pub mod standing;
mod telling;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::enforcement::Item;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::{DeploymentId, OperationId};
use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, Outcome};
use launchpad_protocol::spec::{HostSpec, InstanceSpec};
use launchpad_protocol::time::Clock;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::book::{Book, BookError, Changes};
use crate::disk::DiskError;
use crate::enforce::{self, Finding, Host};
use crate::execute::{Eyes, Hands};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::link::ports::{Judged, Offer, ReconcilePorts};
use crate::observe::Observed;
use crate::plan::instance::current_container;
use crate::plan::marks::{Marks, OperationMark};
use crate::plan::record::Record;
use crate::plan::{Context, Health, Knowledge, Plan, plan};
use crate::probe::{Prober, Target};
use facts::HostFacts;
use lease::HostLease;
use request::{LocalRequest, Shown};
use work::Work;

/// How long the loop sleeps at most: what Docker's events did not tell is found by then.
const RESYNC: Duration = Duration::from_secs(60);

/// Between two tries to reach an engine that is away.
const ENGINE_RETRY: Duration = Duration::from_millis(500);

/// How long a change on the host may go unseen while actions run: most of those changes are the actions' own, and
/// looking costs the engine more than it costs us.
const LOOK_WHILE_BUSY: Duration = Duration::from_millis(100);

/// Why the loop cannot go on: what it must not forget can no longer be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The ledger's disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The book, even after it was begun anew.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// Everything that the loop is given.
pub struct Parts {
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub entropy: Entropy,
    /// The accepted spec and the marks.
    pub ledger: Ledger,
    /// Records and journal.
    pub book: Box<dyn Book>,
    /// What carries out.
    pub hands: Arc<dyn Hands>,
    /// What observes.
    pub eyes: Arc<dyn Eyes>,
    /// What does not change while the agent runs, and what the host can do.
    pub facts: Box<dyn HostFacts>,
    /// The link's other ends.
    pub ports: ReconcilePorts,
    /// What is asked for on the host itself.
    pub local: mpsc::Receiver<LocalRequest>,
    /// Reasons found while starting, told until the agent ends.
    pub troubles: Vec<Reason>,
}

/// The loop's state.
pub struct Reconciler {
    parts: Parts,
    records: BTreeMap<DeploymentId, Record>,
    journal: Journal,
    changes: Changes,
    prober: Prober,
    work: Work,
    /// The newest whole observation; none before the first.
    observed: Option<Observed>,
    /// The operations that had been answered when it began. A report tells no others: who reads that a snapshot is
    /// deleted must not find it among those that were seen before.
    answered: BTreeMap<OperationId, Outcome>,
    /// Why the engine does not answer, while it does not.
    engine_away: Option<Reason>,
    /// Why the disk or the book does not take what it is given, while it does not.
    disk_trouble: Option<Reason>,
    /// How the promises of every instance stood at that observation.
    findings: BTreeMap<DeploymentId, BTreeMap<Item, Finding>>,
    /// When the leases of what runs here were last renewed.
    lease: HostLease,
    plan: Plan,
    applied: Generation,
    report: Option<Arc<HostReport>>,
    /// What people on the host are shown.
    shown: watch::Sender<Shown>,
    /// Wakes the loop when something of ours may have changed on the host.
    host_changed: Arc<Notify>,
    /// When to observe and plan anew; none: only the next queued action is due.
    look_at: Option<Instant>,
}

impl Reconciler {
    /// Takes up where the last life ended.
    ///
    /// # Errors
    /// [`ReconcileError`] when the book cannot be read.
    pub fn new(mut parts: Parts) -> Result<Self, ReconcileError> {
        let mut pages = parts.book.read()?;
        let mut changes = Changes::default();
        let fresh = parts.entropy.id(parts.clock.wall());
        let journal = Journal::open(&mut pages, fresh, &mut changes);
        parts.troubles.extend_from_slice(parts.ledger.troubles());
        Ok(Self {
            prober: Prober::new(Arc::clone(&parts.eyes)),
            work: Work::default(),
            records: pages.records,
            journal,
            changes,
            observed: None,
            answered: answered(parts.ledger.marks()),
            engine_away: None,
            disk_trouble: None,
            findings: BTreeMap::new(),
            lease: HostLease::open(parts.ledger.disk().clone(), parts.facts.boot_id()),
            plan: Plan::default(),
            applied: Generation(0),
            report: None,
            shown: watch::Sender::default(),
            host_changed: Arc::new(Notify::new()),
            look_at: Some(Instant::now()),
            parts,
        })
    }

    /// Runs until told to stop. Bots run on afterwards, as they do after a crash.
    pub async fn run(mut self, stop: CancellationToken) {
        let watch = tokio::spawn(watch_host(Arc::clone(&self.parts.eyes), Arc::clone(&self.host_changed)));
        while !stop.is_cancelled() {
            self.turn().await;
            self.wait(&stop).await;
        }
        watch.abort();
    }

    /// One turn: look if it is time, start what can be started, tell.
    async fn turn(&mut self) {
        let spec = self.parts.ledger.spec().cloned().or_else(|| self.nothing_but_evictions());
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look_at = None;
            self.look(spec.as_deref()).await;
        }
        self.begin_next();
        self.tell(spec.as_deref());
        self.show();
        self.save();
    }

    /// Observes, remembers, plans.
    async fn look(&mut self, spec: Option<&HostSpec>) {
        self.observe(spec).await;
        if self.engine_away.is_none()
            && let Some(spec) = spec
            && let Some(observed) = self.observed.take()
        {
            self.weigh(spec, &observed);
            self.remember(spec, &observed);
            self.follow(spec, &observed);
            let context = self.context();
            let health = self.prober.health();
            let known = Knowledge {
                marks: self.parts.ledger.marks(),
                records: &self.records,
                health: &health,
                findings: &self.findings,
                renewed_at: self.lease.renewed_at(),
            };
            self.plan = plan(spec, &observed, known, &context);
            self.observed = Some(observed);
            self.enqueue(spec);
            if self.plan.is_settled() && self.work.is_idle() {
                self.applied = spec.generation;
            }
        }
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        let nap = self.nap();
        let deadline = tokio::time::sleep(nap);
        tokio::select! {
            // In the order of what must not wait: the end, what is done, what is wished, what is seen.
            biased;
            () = stop.cancelled() => {}
            finished = self.work.next() => self.finish(finished),
            Some(offer) = self.parts.ports.offers.recv() => {
                self.judge(offer);
                self.look_within(Duration::ZERO);
            }
            Some(forget) = self.parts.ports.forgets.recv() => {
                self.journal.forget(forget.journal, forget.through, &mut self.changes);
            }
            Some(word) = self.parts.ports.renewals.recv() => self.renew(word),
            Some(request) = self.parts.local.recv() => self.serve(request),
            () = self.prober.changed() => self.look_within(Duration::ZERO),
            () = self.host_changed.notified() => {
                let busy = !self.work.is_idle();
                self.look_within(if busy { LOOK_WHILE_BUSY } else { Duration::ZERO });
            }
            () = deadline => self.look_within(Duration::ZERO),
        }
    }

    /// Has the loop look no later than that.
    fn look_within(&mut self, span: Duration) {
        let at = Instant::now() + span;
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn nap(&self) -> Duration {
        let due = self.plan.wake_at.map_or(RESYNC, |at| at.since(self.parts.clock.boot()));
        let engine = if self.engine_away.is_some() { ENGINE_RETRY } else { RESYNC };
        let look = self.look_at.map_or(RESYNC, |at| at.saturating_duration_since(Instant::now()));
        due.min(engine).min(look).min(REPORT_INTERVAL)
    }

    async fn observe(&mut self, spec: Option<&HostSpec>) {
        let images: BTreeSet<_> = spec
            .into_iter()
            .flat_map(|spec| spec.instances.values())
            .map(|instance| instance.image.clone())
            .collect();
        let answered = answered(self.parts.ledger.marks());
        match self.parts.eyes.observe(&images).await {
            Ok(observed) => {
                self.answered = answered;
                if self.engine_away.take().is_some() {
                    tracing::info!("the container engine answers again");
                }
                self.observed = Some(observed);
            }
            Err(error) => {
                if self.engine_away.is_none() {
                    tracing::warn!(%error, "the host cannot be observed; nothing is decided until it can");
                }
                self.engine_away = Some(error.reason().clone());
                self.prober.let_go();
            }
        }
    }

    fn context(&self) -> Context {
        Context {
            now: self.parts.clock.boot(),
            wall: self.parts.clock.wall(),
            boot_id: self.parts.facts.boot_id().to_owned(),
        }
    }

    /// Judges how the promises of every instance stand.
    fn weigh(&mut self, spec: &HostSpec, observed: &Observed) {
        let capabilities = self.parts.facts.capabilities();
        let host = Host { desired: spec, observed, capabilities: &capabilities };
        let judge = |instance: &InstanceSpec| {
            (instance.deployment, enforce::judge(instance, current_container(instance, observed), host))
        };
        self.findings = spec.instances.values().map(judge).collect();
    }

    /// Brings the records up to what is observed.
    fn remember(&mut self, spec: &HostSpec, observed: &Observed) {
        let context = self.context();
        let health = self.prober.health();
        for instance in spec.instances.values() {
            let container = current_container(instance, observed);
            let said: Option<&Health> = container.and_then(|container| health.get(&container.id));
            let record = self.records.entry(instance.deployment).or_default();
            let before = record.clone();
            record.absorb(instance, container, said, self.parts.ledger.marks(), &context);
            if let Some(findings) = self.findings.get(&instance.deployment) {
                record.absorb_findings(findings, context.now);
            }
            if *record != before {
                self.changes.records.insert(instance.deployment, Some(record.clone()));
            }
        }
        let evicted = &self.parts.ledger.marks().evicted;
        let is_gone = |id: &&DeploymentId| !spec.instances.contains_key(id) && !evicted.contains_key(id);
        let gone: Vec<_> = self.records.keys().filter(is_gone).copied().collect();
        for deployment in gone {
            self.records.remove(&deployment);
            self.changes.records.insert(deployment, None);
        }
    }

    /// Has the prober follow what runs.
    fn follow(&mut self, spec: &HostSpec, observed: &Observed) {
        let mut targets = BTreeMap::new();
        for instance in spec.instances.values() {
            let Some(container) = current_container(instance, observed) else { continue };
            let (Some(started_at), Some(address)) = (container.running_since(), container.address) else { continue };
            let record = self.records.get(&instance.deployment);
            let adopted_as_ready =
                record.is_some_and(|record| record.started_at == Some(started_at) && record.ready_at.is_some());
            let target = Target {
                started_at,
                address,
                port: instance.ingress.port,
                probes: instance.probes.clone(),
                adopted_as_ready,
            };
            targets.insert(container.id.clone(), target);
        }
        self.prober.follow(targets);
    }

    /// Judges an offer; a newer spec ends what is only queued, because it was planned for the older one.
    fn judge(&mut self, offer: Offer) {
        match self.parts.ledger.offer(&offer.offer) {
            Ok(judged) => {
                if judged.refusal.is_none() {
                    self.work.replan(self.parts.ledger.spec().map(AsRef::as_ref));
                }
                self.parts.ports.floor.send_replace(self.parts.ledger.floor());
                // The link is gone if nobody takes the answer; the next session asks anew.
                let _ = offer.reply.send(judged);
            }
            Err(error) => {
                tracing::error!(%error, "the offered spec cannot be stored; the old one stays");
                let refusal = Some(disk_reason(&error));
                let _ = offer.reply.send(Judged { held: self.parts.ledger.floor().accepted, refusal });
            }
        }
    }
}

/// The operations that have an end, and which.
fn answered(marks: &Marks) -> BTreeMap<OperationId, Outcome> {
    let ended = marks.operations.iter().filter_map(|(id, mark)| match mark {
        OperationMark::Ended(outcome) => Some((*id, outcome.clone())),
        OperationMark::Begun { .. } => None,
    });
    ended.collect()
}

/// Passes the host's changes on for as long as the agent runs.
async fn watch_host(eyes: Arc<dyn Eyes>, changed: Arc<Notify>) {
    loop {
        eyes.changed().await;
        changed.notify_one();
    }
}

fn disk_reason(error: &DiskError) -> Reason {
    Reason::new("state-unwritable", error.to_string()).mend("free some space under the agent's data directory")
}
