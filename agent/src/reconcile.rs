//! The loop: what should be, what is, the difference, and the next step of it. Then again.
//!
//! ```text
//!        offers, forgets ◄──► link             local socket ──► requests
//!                 │                                   │
//!                 ▼                                   ▼
//!   ledger ─► spec, marks ─┐                  (each wakes the loop)
//!   eyes ───► observed ────┼─► plan ─► work queues ─► hands, one action per subject at a time
//!   prober ─► health ──────┤     └──► standings ─► journal, records ─► book ─► report ─► link
//!   book ───► records ─────┘
//! ```
//! It wakes on a signal and on a timer, rereads everything, and takes no hints: any step may be lost, repeated or
//! interrupted by a crash, and the next turn puts it right. What the coordinator does or does not do stops nothing here.
//! `select!` below is cancel safe throughout: every branch is a channel's `recv`, a `Notify` or a timer.

pub mod facts;
pub mod request;
mod standing;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, Outcome};
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::Clock;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::book::{Book, BookError, Changes};
use crate::disk::DiskError;
use crate::execute::{ExecuteError, Eyes, Hands};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::link::ports::{Judged, Offer, ReconcilePorts};
use crate::observe::Observed;
use crate::plan::action::{Action, StopCause};
use crate::plan::instance::current_container;
use crate::plan::marks::OperationMark;
use crate::plan::record::{Record, Trouble};
use crate::plan::{Context, Health, Knowledge, Plan, Standing, Subject, plan};
use crate::probe::{Prober, Target};
use facts::HostFacts;
use request::LocalRequest;
use work::{Finished, Work};

/// How long the loop sleeps at most: what Docker's events did not tell is found by then.
const RESYNC: Duration = Duration::from_secs(60);

/// The first pause after a failed step; doubled each time.
const TROUBLE_INITIAL: Duration = Duration::from_secs(1);

/// The longest pause after a failed step: a registry that comes back is found within it.
const TROUBLE_CAP: Duration = Duration::from_secs(60);

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
    /// Why the engine does not answer, while it does not.
    engine_away: Option<Reason>,
    /// Why the disk or the book does not take what it is given, while it does not.
    disk_trouble: Option<Reason>,
    plan: Plan,
    applied: Generation,
    report: Option<Arc<HostReport>>,
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
            engine_away: None,
            disk_trouble: None,
            plan: Plan::default(),
            applied: Generation(0),
            report: None,
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
        let spec = self.parts.ledger.spec().cloned();
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look_at = None;
            self.look(spec.as_ref()).await;
        }
        self.begin_next();
        self.tell(spec.as_ref());
        self.save();
    }

    /// Observes, remembers, plans.
    async fn look(&mut self, spec: Option<&HostSpec>) {
        self.observe(spec).await;
        if self.engine_away.is_none()
            && let Some(spec) = spec
            && let Some(observed) = self.observed.take()
        {
            self.remember(spec, &observed);
            self.follow(spec, &observed);
            let context = self.context();
            let health = self.prober.health();
            let known = Knowledge { marks: self.parts.ledger.marks(), records: &self.records, health: &health };
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
        match self.parts.eyes.observe(&images).await {
            Ok(observed) => {
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
            }
        }
        self.prober.engine(self.engine_away.is_none());
    }

    fn context(&self) -> Context {
        Context {
            now: self.parts.clock.boot(),
            wall: self.parts.clock.wall(),
            boot_id: self.parts.facts.boot_id().to_owned(),
        }
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
            if *record != before {
                self.changes.records.insert(instance.deployment, Some(record.clone()));
            }
        }
        let gone: Vec<_> = self.records.keys().filter(|id| !spec.instances.contains_key(id)).copied().collect();
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

    /// Hands new work over. A tombstone waits for whatever is still being done to its instance.
    fn enqueue(&mut self, spec: &HostSpec) {
        let now = self.parts.clock.boot();
        for (subject, actions) in self.plan.work.clone() {
            let waits = self.work.is_paused(subject, now)
                || match subject {
                    Subject::Instance(_) => false,
                    Subject::Burial(id) => spec
                        .tombstones
                        .get(&id)
                        .is_some_and(|tombstone| self.work.is_busy(Subject::Instance(tombstone.deployment))),
                };
            if !waits {
                self.work.enqueue(subject, actions);
            }
        }
    }

    /// Starts the next action of every subject that has one and does nothing. What the ledger does is done at once.
    fn begin_next(&mut self) {
        for subject in self.work.ready() {
            while let Some(action) = self.work.peek(subject).cloned() {
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

    /// Carries out what is the ledger's to do; none: it is the hands'.
    fn by_ledger(&mut self, action: &Action) -> Option<Result<(), DiskError>> {
        let at = self.parts.clock.wall();
        let done = match action {
            Action::BeginOperation { operation, ends } => self.parts.ledger.begin_operation(*operation, *ends),
            Action::FinishOperation { operation, refusal } => {
                let outcome = match refusal.clone() {
                    None => Outcome::Done { at },
                    Some(reason) => Outcome::Refused { reason },
                };
                self.parts.ledger.finish_operation(*operation, outcome)
            }
            Action::Bury { tombstone } => self.parts.ledger.bury(*tombstone),
            _ => return None,
        };
        self.look_within(Duration::ZERO);
        Some(done)
    }

    /// Notes, before a container is stopped, what its exit will mean.
    fn expect_exit(&mut self, action: &Action) {
        let Action::StopContainer { container, why, .. } = action else { return };
        let owner = self.observed.as_ref().and_then(|observed| observed.containers.get(container));
        let Some(record) = owner.and_then(|owner| self.records.get_mut(&owner.deployment)) else { return };
        match why {
            StopCause::Unhealthy(reason) => record.unhealthy = Some(reason.clone()),
            StopCause::PowerOff
            | StopCause::LocalStop
            | StopCause::Replaced
            | StopCause::Operation(_)
            | StopCause::Tombstone(_) => record.stop_expected = true,
        }
        let deployment = owner.map(|owner| owner.deployment);
        self.changes.records.extend(deployment.map(|deployment| (deployment, Some(record.clone()))));
        self.save();
    }

    /// Takes in what became of an action.
    fn finish(&mut self, finished: Finished) {
        let Finished { subject, action, result } = finished;
        // Between two queued actions nothing is to be decided.
        if result.is_err() || !self.work.is_busy(subject) {
            self.look_within(Duration::ZERO);
        }
        match result {
            Ok(()) => {
                tracing::debug!(%action, "done");
                if let Subject::Instance(deployment) = subject
                    && let Some(record) = self.records.get_mut(&deployment)
                    && !self.work.is_busy(subject)
                {
                    record.trouble = None;
                }
            }
            Err(ExecuteError::EngineAway(reason)) => {
                tracing::debug!(%action, %reason, "given up, the engine is away");
                self.work.give_up(subject);
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

    fn trouble(&mut self, subject: Subject, reason: Reason) {
        let now = self.parts.clock.boot();
        let pause = |tries: u32| TROUBLE_INITIAL.saturating_mul(1 << tries.min(6)).min(TROUBLE_CAP);
        match subject {
            Subject::Instance(deployment) => {
                let record = self.records.entry(deployment).or_default();
                let tries = record.trouble.as_ref().map_or(0, |trouble| trouble.tries + 1);
                record.trouble = Some(Trouble { reason, tries, retry_at: now + pause(tries) });
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

    /// Judges an offer; a newer spec ends what is only queued, because it was planned for the older one.
    fn judge(&mut self, offer: Offer) {
        match self.parts.ledger.offer(&offer.offer) {
            Ok(judged) => {
                if judged.refusal.is_none() {
                    self.work.replan(self.parts.ledger.spec());
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

    fn serve(&mut self, request: LocalRequest) {
        // Whoever asked may have gone: an answer that nobody takes is no failure.
        match request {
            LocalRequest::Status(reply) => {
                let link = self.parts.ports.status.borrow().clone();
                drop(reply.send((link, self.report.clone())));
            }
            LocalRequest::Plan(reply) => drop(reply.send(self.plan_text())),
            LocalRequest::Stop(deployment, reply) => drop(reply.send(self.local_stop(deployment, true))),
            LocalRequest::Start(deployment, reply) => drop(reply.send(self.local_stop(deployment, false))),
        }
    }

    fn local_stop(&mut self, deployment: DeploymentId, stop: bool) -> Result<(), Reason> {
        let Some(instance) = self.parts.ledger.spec().and_then(|spec| spec.instances.get(&deployment)) else {
            return Err(Reason::new(
                "instance-unknown",
                format!("no instance of {deployment} is wished for on this host"),
            )
            .mend("launchpad-agent status lists those that are"));
        };
        let revision = stop.then_some(instance.revision);
        self.parts.ledger.local_stop(deployment, revision).map_err(|error| disk_reason(&error))?;
        self.work.replan(self.parts.ledger.spec());
        self.look_within(Duration::ZERO);
        Ok(())
    }

    /// Notes what has changed for the timeline, and reports.
    fn tell(&mut self, spec: Option<&HostSpec>) {
        let wall = self.parts.clock.wall();
        let mut standings: BTreeMap<DeploymentId, Standing> = BTreeMap::new();
        for (deployment, planned) in &self.plan.standings {
            let now = standing::during(self.work.current(Subject::Instance(*deployment)), planned);
            if let Some(record) = self.records.get_mut(deployment) {
                let told = (now.phase, now.reason.as_ref().map(|reason| reason.code.clone()));
                if record.told.as_ref() != Some(&told) {
                    record.told = Some(told);
                    self.journal.note(*deployment, &now, wall, &mut self.changes);
                    self.changes.records.insert(*deployment, Some(record.clone()));
                }
            }
            standings.insert(*deployment, now);
        }
        let report = self.build_report(spec, standings);
        let unchanged = self.report.as_ref().is_some_and(|last| {
            report.wall.since(last.wall) < REPORT_INTERVAL
                && HostReport { wall: last.wall, ..report.clone() } == **last
        });
        if !unchanged {
            let report = Arc::new(report);
            self.report = Some(Arc::clone(&report));
            self.parts.ports.reports.send_replace(Some(report));
        }
    }

    fn build_report(&self, spec: Option<&HostSpec>, standings: BTreeMap<DeploymentId, Standing>) -> HostReport {
        let mut troubles = self.parts.troubles.clone();
        troubles.extend(self.engine_away.clone());
        troubles.extend(self.disk_trouble.clone());
        troubles.extend(self.plan.troubles.iter().cloned());
        troubles.extend(self.work.pauses().cloned());
        let marks = self.parts.ledger.marks();
        let ended = marks.operations.iter().filter_map(|(id, mark)| match mark {
            OperationMark::Ended(outcome) => Some((*id, outcome.clone())),
            OperationMark::Begun { .. } => None,
        });
        HostReport {
            boot_id: self.parts.facts.boot_id().to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            wall: self.parts.clock.wall(),
            accepted: self.parts.ledger.floor().accepted,
            applied: self.applied,
            capacity: self.parts.facts.capacity(),
            capabilities: self.parts.facts.capabilities(),
            instances: standing::instances(spec, self.observed.as_ref(), &self.records, standings),
            orphans: self.plan.orphans.clone(),
            buried: marks.buried.clone(),
            outcomes: ended.collect(),
            troubles,
            events: self.journal.batch(),
        }
    }

    /// What runs, what waits, and what is planned: for people on the host.
    fn plan_text(&self) -> String {
        let mut text = self.plan.to_string();
        text.push_str(&self.work.to_string());
        if let Some(reason) = &self.engine_away {
            text.push_str(&reason.paragraph());
            text.push('\n');
        }
        text
    }

    /// Writes to the book what has changed. A book that cannot be written is told; nothing waits for it.
    fn save(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        match self.parts.book.write(&self.changes) {
            Ok(()) => {
                self.changes = Changes::default();
                self.disk_trouble = None;
            }
            Err(error) => {
                tracing::error!(%error, "the book cannot be written; its changes are kept in memory");
                self.disk_trouble = Some(
                    Reason::new("book-unwritable", error.to_string())
                        .mend("free some space under the agent's data directory"),
                );
            }
        }
    }
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
