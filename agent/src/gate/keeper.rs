//! Who keeps the kernel's rules: one task that alone holds the policy, what names have opened, and the [`Kernel`].
//!
//! ```text
//! socket ── Change, Look ──┐                        ┌─► kernel, then disk, then everybody who follows the policy
//! names ─── admit ─────────┼─► orders ─► Keeping ───┤
//! watch ─── touched ───────┤                        └─► what somebody took away is put back, and how long that took
//! timer ─── look, count ───┘
//! ```
//! Everything goes through this one task, so that nothing is judged by a policy that changes meanwhile. A change counts
//! when the kernel has taken it; one that fails leaves the old rules and the old policy. What names have opened is kept in
//! memory, so that it is put back after a flush with what is left of its time.
//! `select!` in here is cancel safe throughout: a channel's `recv_many`, readable sockets, a timer.

mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::GateReport;
use launchpad_protocol::time::Clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admitted::{Admitted, Element};
use super::denials::Tally;
use super::kernel::Kernel;
use super::policy::{Change, GatePolicy};
use super::ports::{Admission, Admits, Witnesses};
use super::routes::{MARK, MARK_MASK};
use super::rules::Wanted;
use super::state::State;
use super::talk::{InstanceSight, Look};
use super::watch::{Heard, Own, Watch};
use crate::disk::{Disk, DiskError};

/// Orders that wait: as many answers of the name server, mostly, as one batch takes.
const ORDERS_QUEUED: usize = 256;

/// Between two looks at the kernel without being told anything, and between two counts of what was refused: a tenth of
/// a second of work where a hundred tenants' bots are refused all the time, next to nothing where nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Before the first new attempt to make the rules what they should be; doubled each time.
const MEND_AGAIN: Duration = Duration::from_millis(100);
/// The longest pause between attempts.
const MEND_CAP: Duration = Duration::from_secs(5);

/// What the keeper is asked to do.
enum Order {
    Change(Change, oneshot::Sender<Result<Option<InstanceSight>, Reason>>),
    Look(oneshot::Sender<Look>),
    Admit(Admission, oneshot::Sender<Result<(), Reason>>),
}

/// What others may touch while the task works.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    tally: Mutex<Tally>,
    losses: Mutex<BTreeMap<DeploymentId, u64>>,
    standing: watch::Sender<u64>,
}

impl Shared {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn losses(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeploymentId, u64>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the keeper is reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keeper {
    orders: mpsc::Sender<Order>,
    policy: watch::Receiver<Arc<GatePolicy>>,
    shared: Arc<Shared>,
}

impl Keeper {
    /// A keeper of what was told before, and its task, which begins when it is [`Keeping::run`].
    #[must_use]
    pub fn new(kernel: Kernel, own: Arc<Own>, state: State, disk: Disk, clock: Clock) -> (Self, Keeping) {
        let (orders, queue) = mpsc::channel(ORDERS_QUEUED);
        let (followed, policy) = watch::channel(Arc::new(state.policy.clone()));
        let shared = Arc::new(Shared {
            clock,
            tally: Mutex::default(),
            losses: Mutex::default(),
            standing: watch::Sender::new(0),
        });
        let now = Instant::now();
        let keeping = Keeping {
            kernel,
            own,
            disk,
            state,
            admitted: Admitted::default(),
            is_saved: true,
            trouble: None,
            good_at: now,
            look_at: now,
            story: GateReport::default(),
            counted: 0,
            orders: queue,
            policy: followed,
            shared: Arc::clone(&shared),
        };
        (Self { orders, policy, shared }, keeping)
    }

    /// The policy that counts, and every later one.
    #[must_use]
    pub fn policy(&self) -> watch::Receiver<Arc<GatePolicy>> {
        self.policy.clone()
    }

    /// What is worth telling, by a number that rises.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<u64> {
        self.shared.standing.subscribe()
    }

    /// Notes that there is something new to tell.
    pub fn ring(&self) {
        self.shared.standing.send_modify(|standing| *standing += 1);
    }

    /// Changes the policy. For an instance that was put, how it stands then.
    ///
    /// # Errors
    /// When the change makes no sense or the kernel does not take it: nothing has changed then. When the disk does not
    /// take it, it counts, as it does in the kernel, and is written later ([`Keeping::save`]): whoever asks again is
    /// answered when it is kept.
    pub async fn change(&self, change: Change) -> Result<Option<InstanceSight>, Reason> {
        self.ask(|reply| Order::Change(change, reply)).await?
    }

    /// Everything, as it is in the kernel now.
    ///
    /// # Errors
    /// When the gate is ending.
    pub async fn look(&self) -> Result<Look, Reason> {
        self.ask(Order::Look).await
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Reason> {
        let ending = || Reason::new("gate-ending", "the gate is ending").mend("ask again once it runs again");
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}

#[async_trait]
impl Admits for Keeper {
    async fn admit(&self, admission: Admission) -> Result<(), Reason> {
        self.ask(|reply| Order::Admit(admission, reply)).await?
    }

    fn losses(&self, deployment: DeploymentId) -> u64 {
        self.shared.losses().get(&deployment).copied().unwrap_or_default()
    }
}

impl Witnesses for Keeper {
    fn name_refused(&self, account: AccountId, deployment: DeploymentId, name: &str) {
        let now = self.shared.clock.wall();
        self.shared.tally().name(account, deployment, name, now);
    }
}

/// The kernel could not be made what it should be.
#[derive(Debug)]
struct Trouble {
    reason: Reason,
    /// Since when it is not.
    since: Instant,
    /// Before the next attempt.
    pause: Duration,
}

/// The keeper's task.
#[derive(Debug)]
pub struct Keeping {
    kernel: Kernel,
    own: Arc<Own>,
    disk: Disk,
    state: State,
    admitted: Admitted,
    /// Whether the disk has the state.
    is_saved: bool,
    trouble: Option<Trouble>,
    /// When everything was last seen to be as it should be.
    good_at: Instant,
    look_at: Instant,
    story: GateReport,
    /// How much had been refused when that was last worth telling.
    counted: u64,
    orders: mpsc::Receiver<Order>,
    policy: watch::Sender<Arc<GatePolicy>>,
    shared: Arc<Shared>,
}

impl Keeping {
    /// Keeps the rules until told to stop, and leaves every one of them in place.
    pub async fn run(mut self, watch: Watch, stop: CancellationToken) {
        self.begin().await;
        let own = Arc::clone(&self.own);
        let mut orders = Vec::new();
        loop {
            tokio::select! {
                // The end is the end; then what others took away, for nothing waits as badly.
                biased;
                () = stop.cancelled() => return,
                heard = watch.heard(&own) => self.touched(heard, Instant::now()).await,
                count = self.orders.recv_many(&mut orders, ORDERS_QUEUED) => match count {
                    0 => return,
                    _ => self.serve(orders.drain(..)).await,
                },
                () = tokio::time::sleep_until(self.look_at) => self.look_around().await,
            }
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { state: &self.state, admitted: &self.admitted, now: Instant::now() }
    }

    /// Makes the rules of the policy that was kept, with what an earlier gate had admitted.
    async fn begin(&mut self) {
        let now = Instant::now();
        match self.kernel.list().await {
            Ok(found) => {
                let shown = found.iter().flat_map(|listing| listing.names.values().flatten());
                for timed in shown.filter(|timed| timed.mark & MARK_MASK == MARK) {
                    let (bot, target, number) = (timed.bot, timed.target, timed.mark & !MARK_MASK);
                    self.admitted.adopt(Element { bot, target, number, until: now + timed.left }, &self.state);
                }
            }
            Err(reason) => tracing::warn!(%reason, "cannot see what an earlier gate had made"),
        }
        let made = self.replace().await;
        self.settle(made, now);
        self.look_at = self.look_at.min(Instant::now() + LOOK_EVERY);
    }

    /// Makes everything what it should be; when it was.
    async fn replace(&mut self) -> Result<Instant, Reason> {
        let wanted = Wanted { state: &self.state, admitted: &self.admitted, now: Instant::now() };
        self.kernel.replace(&wanted).await
    }

    /// Sees that the disk has the state, if it does not. Tried again with each change and each look, until it has.
    fn save(&mut self) -> Result<(), Reason> {
        if !self.is_saved {
            let failed = |error: DiskError| {
                Reason::new("state-file", error.to_string()).mend("free some space in the gate's directory")
            };
            self.state.write(&self.disk).map_err(failed)?;
            self.is_saved = true;
        }
        Ok(())
    }

    /// Somebody else has written rules.
    async fn touched(&mut self, heard: std::io::Result<Heard>, at: Instant) {
        let heard = heard.unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel's news cannot be read; everything is looked at instead");
            Heard::Perhaps
        });
        match heard {
            // It was our own program, under another process id than it was started with: behind a wrapper, say.
            Heard::Rules if self.kernel.is_untouched() => {}
            Heard::Rules => {
                let made = self.replace().await;
                self.mended(made, at, "nftables' rules");
            }
            Heard::Routes => match self.kernel.put_routes(&self.wanted()) {
                Ok(missing) if missing.is_empty() => {}
                made => self.mended(made.map(|_| Instant::now()), at, "routing rules"),
            },
            Heard::Perhaps => drop(self.see().await),
        }
    }

    /// Looks without being told anything, and tries again what failed.
    async fn look_around(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
        if let Err(reason) = self.save() {
            tracing::warn!(%reason, "a gate that started now would not know the latest changes");
        }
        if let Some(Trouble { since, .. }) = self.trouble {
            let made = self.replace().await;
            return self.mended(made, since, "the rules");
        }
        self.see().await;
        let counted = self.shared.tally().count();
        if counted != self.counted {
            self.counted = counted;
            self.ring();
        }
    }

    /// What became of an attempt to put back what somebody had taken away since that moment.
    fn mended(&mut self, made: Result<Instant, Reason>, since: Instant, what: &str) {
        if let Ok(at) = made {
            let exposure = at.saturating_duration_since(since);
            self.story.flushes += 1;
            self.story.longest_exposure = self.story.longest_exposure.max(exposure);
            tracing::warn!(
                exposure_ms = exposure.as_millis(),
                what,
                "somebody had changed them; they are ours again"
            );
            self.ring();
        }
        self.settle(made, since);
    }

    /// What became of an attempt to make the kernel what it should be, and is not since that moment.
    fn settle(&mut self, made: Result<Instant, Reason>, since: Instant) {
        match made {
            Ok(at) => {
                self.good_at = at;
                if self.trouble.take().is_some() {
                    tracing::info!("the kernel's rules are what they should be again");
                    self.ring();
                }
            }
            Err(reason) => {
                let pause = self.trouble.as_ref().map_or(MEND_AGAIN, |trouble| (trouble.pause * 2).min(MEND_CAP));
                if self.trouble.as_ref().is_none_or(|trouble| trouble.reason != reason) {
                    tracing::error!(%reason, "the kernel's rules are not what they should be; no bot is let out anew");
                    self.ring();
                }
                self.look_at = Instant::now() + pause;
                self.trouble = Some(Trouble { reason, since, pause });
            }
        }
    }

    fn ring(&self) {
        self.shared.standing.send_modify(|standing| *standing += 1);
    }

    /// Notes whose bots have lost addresses that they were told of.
    fn lose(&self, lost: BTreeSet<DeploymentId>) {
        let mut losses = self.shared.losses();
        losses.retain(|deployment, _| {
            self.state.policy.instances.contains_key(deployment) || lost.contains(deployment)
        });
        for deployment in lost {
            *losses.entry(deployment).or_default() += 1;
        }
    }
}
