//! A host: what is on it outlives its agent, and its agent is the real one.
//!
//! ```text
//!   Machine { clock, disk, book, world of containers } ── life after life ──► launchpad_agent::run
//! ```
//! Three things stand between the agent and its world. They take time, so that the agent can die before and after an
//! action's effect, and they tell the oracle.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use launchpad_agent::book::{Book, BookError, Changes, MemoryBook, Pages};
use launchpad_agent::disk::Disk;
use launchpad_agent::execute::fake::{FakeHost, World};
use launchpad_agent::execute::{ExecuteError, Eyes, Hands};
use launchpad_agent::ledger::Ledger;
use launchpad_agent::link::{Pace, Reach};
use launchpad_agent::observe::Observed;
use launchpad_agent::plan::action::Action;
use launchpad_agent::reconcile::facts::FixedFacts;
use launchpad_agent::{AgentError, Outside};
use launchpad_protocol::capability;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::frame::{Answer, Question};
use launchpad_protocol::generation::Accepted;
use launchpad_protocol::id::{HostId, JournalId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::report::Capacity;
use launchpad_protocol::spec::HttpProbe;
use launchpad_protocol::time::{Clock, Moment};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::chronicle::Chronicle;
use crate::drive::{Drive, Plant};
use crate::net;

/// Where an agent keeps its state, on its own disk.
const STATE: &str = "/agent";

/// How long an action takes before and after its effect, at most: an engine's pace.
const ACTION_MAX: Duration = Duration::from_millis(150);

/// How long an observation takes, at most.
const LOOK_MAX: Duration = Duration::from_millis(30);

/// After how long a process that could not run is begun anew, as systemd does.
const BEGIN_AGAIN: Duration = Duration::from_secs(2);

/// The longest pause between two attempts: a run is a minute long.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// What a host has: room for all bots of a run on one of them.
pub(crate) const CAPACITY: Capacity =
    Capacity { cpu_millis: 16_000, memory_bytes: 64 << 30, storage_bytes: 1_000_000_000_000 };

/// The host and all that is on it. Clones are the same host.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Parts>);

struct Parts {
    index: usize,
    id: HostId,
    clock: Clock,
    drive: Drive,
    book: MemoryBook,
    world: World,
    entropy: Entropy,
    chronicle: Chronicle,
    boots: AtomicU64,
    /// How long the next life waits before it begins, in milliseconds.
    pause: AtomicU64,
    /// Whether anything on it has changed since somebody looked.
    touched: AtomicBool,
    journal: Mutex<Option<JournalId>>,
}

impl Machine {
    pub(crate) fn new(
        index: usize,
        id: HostId,
        start: Moment,
        seed: u64,
        plant: Option<Plant>,
        chronicle: &Chronicle,
    ) -> Self {
        let clock = Clock::manual(start);
        Self(Arc::new(Parts {
            index,
            id,
            drive: Drive::new(seed, plant),
            book: MemoryBook::default(),
            world: World::new(clock.clone()),
            clock,
            entropy: Entropy::seeded(seed),
            chronicle: chronicle.clone(),
            boots: AtomicU64::new(1),
            pause: AtomicU64::new(0),
            touched: AtomicBool::new(true),
            journal: Mutex::new(None),
        }))
    }

    pub(crate) fn name(&self) -> String {
        format!("machine-{}", self.0.index)
    }

    pub(crate) fn id(&self) -> HostId {
        self.0.id
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn drive(&self) -> &Drive {
        &self.0.drive
    }

    pub(crate) fn world(&self) -> &World {
        &self.0.world
    }

    /// The events that its agent has not had confirmed.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.0.book.read().map_or(0, |pages| pages.events.len())
    }

    /// Whether anything on it has changed since this was last asked.
    pub(crate) fn take_touched(&self) -> bool {
        self.0.touched.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn touch(&self) {
        self.0.touched.store(true, Ordering::SeqCst);
    }

    /// The next life begins so much later.
    pub(crate) fn pause_next(&self, pause: Duration) {
        self.0.pause.store(u64::try_from(pause.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }

    /// The machine boots: nothing runs on it.
    pub(crate) fn reboot(&self) {
        self.0.world.reboot();
        self.0.clock.reboot();
        self.0.boots.fetch_add(1, Ordering::SeqCst);
        self.touch();
    }

    /// One process of the agent after the other, for as long as the machine is up.
    pub(crate) async fn live(self) {
        tokio::time::sleep(Duration::from_millis(self.0.pause.swap(0, Ordering::SeqCst))).await;
        loop {
            let index = self.0.index;
            match self.one_life().await {
                Ok(()) => self.0.chronicle.note(format_args!("machine {index}: its agent has ended")),
                Err(error) => self.0.chronicle.note(format_args!("machine {index}: its agent cannot run: {error}")),
            }
            tokio::time::sleep(BEGIN_AGAIN).await;
        }
    }

    async fn one_life(&self) -> Result<(), AgentError> {
        let index = self.0.index;
        let disk = Disk::open_on(Arc::new(self.0.drive.clone()), Path::new(STATE))?;
        let ledger = Ledger::open(disk.clone(), self.0.id)?;
        let held = ledger.floor().accepted;
        let generation = held.map(|held: Accepted| held.generation);
        self.0.chronicle.note(format_args!("machine {index}: an agent begins, its disk holds {generation:?}"));
        self.0.chronicle.oracle(|oracle| oracle.begins(index, ledger.marks(), held));
        drop(ledger);
        let guard = Arc::new(Guard { machine: self.clone(), host: FakeHost::on(self.0.world.clone()) });
        let boot_id = format!("boot-{}", self.0.boots.load(Ordering::SeqCst));
        // Nobody is on the host to ask anything.
        let (_local, requests) = mpsc::channel(1);
        let outside = Outside {
            host: self.0.id,
            clock: self.0.clock.clone(),
            entropy: self.0.entropy.clone(),
            disk,
            book: Box::new(Witnessed { book: self.0.book.clone(), machine: self.clone() }),
            hands: Arc::clone(&guard) as _,
            eyes: guard,
            facts: Box::new(FixedFacts { boot_id, capacity: CAPACITY, capabilities: capability::complete() }),
            reach: Reach::Given(net::dial()),
            pace: Pace { retry_cap: RETRY_CAP, ..Pace::default() },
            local: requests,
            troubles: Vec::new(),
        };
        launchpad_agent::run(outside, CancellationToken::new()).await
    }

    async fn while_it_lasts(&self, most: Duration) {
        tokio::time::sleep(self.0.entropy.full_jitter(most)).await;
    }
}

/// Hands and eyes that take their time, under the oracle's.
struct Guard {
    machine: Machine,
    host: FakeHost,
}

#[async_trait]
impl Hands for Guard {
    async fn execute(&self, action: &Action) -> Result<(), ExecuteError> {
        let Parts { index, chronicle, world, .. } = &*self.machine.0;
        self.machine.while_it_lasts(ACTION_MAX).await;
        let observed = world.truth();
        chronicle.oracle(|oracle| oracle.before(*index, &observed, action));
        let done = self.host.execute(action).await;
        let came_of_it = done.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
        chronicle.note(format_args!("machine {index}: {action}: {came_of_it}"));
        self.machine.touch();
        self.machine.while_it_lasts(ACTION_MAX).await;
        done
    }
}

#[async_trait]
impl Eyes for Guard {
    async fn observe(&self, images: &BTreeSet<ImageRef>) -> Result<Observed, ExecuteError> {
        self.machine.while_it_lasts(LOOK_MAX).await;
        self.host.observe(images).await
    }

    async fn changed(&self) {
        self.host.changed().await;
    }

    async fn answer(&self, question: &Question, pieces: mpsc::Sender<Answer>) {
        self.host.answer(question, pieces).await;
    }

    async fn probe(&self, address: Ipv4Addr, port: u16, probe: &HttpProbe) -> Result<(), String> {
        self.machine.while_it_lasts(LOOK_MAX).await;
        self.host.probe(address, port, probe).await
    }
}

/// A book that the oracle reads along.
struct Witnessed {
    book: MemoryBook,
    machine: Machine,
}

impl Book for Witnessed {
    fn read(&self) -> Result<Pages, BookError> {
        let pages = self.book.read()?;
        *self.journal() = pages.journal;
        Ok(pages)
    }

    fn write(&mut self, changes: &Changes) -> Result<(), BookError> {
        self.book.write(changes)?;
        let journal = {
            let mut current = self.journal();
            *current = changes.journal.or(*current);
            *current
        };
        if let Some(journal) = journal {
            let last = changes.events.last().map(|event| event.seq);
            let Parts { index, chronicle, .. } = &*self.machine.0;
            chronicle.oracle(|oracle| oracle.journal(*index, journal, last, changes.forget_through));
        }
        Ok(())
    }
}

impl Witnessed {
    fn journal(&self) -> std::sync::MutexGuard<'_, Option<JournalId>> {
        self.machine.0.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
