//! The link: keeps one session with the coordinator, for as long as the agent runs.
//!
//! `run` in `lib.rs` starts one [`Link`]; the reconciler meets it only through [`ports`]. A coordinator that is away,
//! restarts or refuses changes nothing on the host: the link tries again, and says in its status why it must.
//!
//! ```text
//!   connect.rs  endpoint 1, 2, … : QUIC ─ 3 s ─► and TLS/TCP ──► answered ──► Hello, Welcome
//!                    ▲                                                            │
//!       full jitter, at most 30 s                                                 ▼
//!                    └──────── Farewell, silence, a broken pipe ◄──── session.rs: live
//!                                                                        │ on TCP: QUIC again, every 5–10 min
//!                                                                        │ at half-life: a new certificate
//!                                                                        └ answer.rs: a lane for answers
//! ```
//! One task, besides one per question that is being answered. Everything here may be dropped at any point: what must
//! last is on the other side of the ports.

pub(crate) mod cause;
mod connect;
pub mod ports;
mod session;
mod witness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::dial::{FIRST_ANSWER, Route};
use launchpad_pki::pipe::{Dial, Transport};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::session::VERSIONS_APART;
use launchpad_protocol::time::Clock;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::HostPort;
use crate::execute::Eyes;
use crate::identity::Enrolled;
use crate::renew::Renewal;
use connect::Greeted;
use ports::{LinkPorts, LinkStatus};

/// How the coordinator is reached.
#[derive(Clone)]
pub enum Reach {
    /// Over the network, as the host's identity says; the certificate is renewed on the way.
    Fleet(Arc<Enrolled>),
    /// Through these pipes: the simulator's.
    Given(Dial),
}

/// How fast the link is. Tests are faster.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long the first route has for an answer before the other joins the race.
    pub first_answer: Duration,
    /// The most that is waited after a first failure; doubled with each further one. It is jittered in full, so a
    /// thousand agents of a restarted coordinator spread over it.
    pub retry_first: Duration,
    /// Never waited longer: the bound on how long a coordinator that is back goes unnoticed.
    pub retry_cap: Duration,
    /// How long is waited after a coordinator whose version is too far from ours, give or take half: somebody has to
    /// upgrade one of the two first.
    pub apart_again: Duration,
    /// How often QUIC is tried again from a session over TCP, give or take a third: a network's mind seldom changes.
    pub quic_again: Duration,
    /// How long a session must have lived to count as a success: two agents with one identity, each replacing the
    /// other, must not do so as fast as they can.
    pub steady_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_answer: FIRST_ANSWER,
            retry_first: Duration::from_millis(500),
            retry_cap: Duration::from_secs(30),
            apart_again: Duration::from_secs(300),
            quic_again: Duration::from_secs(450),
            steady_after: Duration::from_secs(5),
        }
    }
}

impl Pace {
    /// How long to wait after so many failures, the last of them for that reason.
    fn pause(&self, failures: u32, reason: &Reason, entropy: &Entropy) -> Duration {
        if reason.code == VERSIONS_APART {
            return entropy.around(self.apart_again, APART_AGAIN_SHARE);
        }
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        entropy.full_jitter(self.retry_first.saturating_mul(1 << doublings).min(self.retry_cap))
    }
}

/// By how much of itself [`Pace::apart_again`] varies: a fleet that is behind does not come all at once.
const APART_AGAIN_SHARE: f64 = 0.5;

/// By how much of itself [`Pace::quic_again`] varies.
const QUIC_AGAIN_SHARE: f64 = 1.0 / 3.0;

/// How long the link goes on after `stop`, so that the end of its session still leaves the machine: otherwise the
/// coordinator would believe the host connected until the transport gives it up, 30 s later.
const GOODBYE: Duration = Duration::from_millis(50);

/// Doublings of [`Pace::retry_first`] that are counted; the cap is reached long before.
const DOUBLINGS_MAX: u32 = 16;

/// What the link says of the agent in every Hello.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The agent's version.
    pub agent_version: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// What the agent can do.
    pub features: BTreeSet<Feature>,
}

/// The link's task, before it runs.
pub struct Link {
    /// How the coordinator is reached.
    pub reach: Reach,
    /// What every Hello says.
    pub introduction: Introduction,
    /// What answers questions.
    pub eyes: Arc<dyn Eyes>,
    /// The reconciler.
    pub ports: LinkPorts,
    /// The time.
    pub clock: Clock,
    /// Jitter.
    pub entropy: Entropy,
    /// How fast.
    pub pace: Pace,
}

/// What the link remembers from one attempt to the next.
struct Memory {
    /// The route that won the last time.
    route: Route,
    /// The endpoint whose turn it is.
    turn: usize,
    /// Attempts and short sessions since the last good one.
    failures: u32,
    /// Whether the coordinator refused this host's certificate as one that another would replace.
    out_of_date: bool,
}

impl Link {
    /// Keeps a session until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let renewal = match &self.reach {
            Reach::Fleet(enrolled) => Some(Renewal::new(enrolled, &self.clock, &self.entropy)),
            Reach::Given(_) => None,
        };
        let mut memory = Memory { route: Route::Quic, turn: 0, failures: 0, out_of_date: false };
        let keep = async {
            loop {
                let reason = self.once(renewal.as_ref(), &mut memory).await;
                self.disconnected(&reason);
                sleep(self.pace.pause(memory.failures, &reason, &self.entropy)).await;
            }
        };
        // Dropping either half-way loses nothing: a session that is cut off is resumed by the next Hello.
        tokio::select! {
            biased; // The end is the end, whatever else is ready.
            () = stop.cancelled() => {}
            () = keep => {}
        }
        if matches!(*self.ports.status.borrow(), LinkStatus::Connected { .. }) {
            sleep(GOODBYE).await;
        }
    }

    /// One attempt and, if it is answered, one session; returns why there is none any more.
    async fn once(&mut self, renewal: Option<&Renewal>, memory: &mut Memory) -> Reason {
        memory.failures = memory.failures.saturating_add(1);
        if let Some(renewal) = renewal {
            // Taken only once: what comes of it is told by the next attempt.
            match renewal.revive(std::mem::take(&mut memory.out_of_date)).await {
                Ok(()) => {}
                Err(reason) => return reason,
            }
        }
        let endpoint = self.endpoint(memory.turn);
        match connect::connect(&self.caller(endpoint), memory.route).await {
            Ok(greeted) => {
                let began = Instant::now();
                let reason = self.live(greeted, renewal, memory).await;
                if began.elapsed() >= self.pace.steady_after {
                    memory.failures = 0;
                }
                reason
            }
            Err(reason) => {
                memory.turn = memory.turn.wrapping_add(1);
                memory.out_of_date = reason.code == connect::OUT_OF_DATE;
                reason
            }
        }
    }

    /// Lives through sessions without a gap: the first, and those that replace it by a better route.
    async fn live(&mut self, mut greeted: Greeted, renewal: Option<&Renewal>, memory: &mut Memory) -> Reason {
        loop {
            memory.route = greeted.route;
            self.connected(&greeted);
            let caller = self.caller(greeted.endpoint.clone());
            let (dial, on_tcp) = (Arc::clone(&greeted.dial), greeted.transport == Transport::Tcp);
            let (clock, entropy, pace) = (self.clock.clone(), self.entropy.clone(), self.pace);
            let session = session::live(greeted, &mut self.ports, &self.eyes, &clock);
            let better = Better { caller: &caller, entropy: &entropy, pace };
            // Neither keeps anything that dropping it would lose.
            let next = tokio::select! {
                next = until_replaced(session, &better, on_tcp) => next,
                never = keep_renewed(renewal, dial) => match never {},
            };
            match next {
                Ok(better) => greeted = better,
                Err(reason) => return reason,
            }
        }
    }

    fn caller(&self, endpoint: Option<HostPort>) -> connect::Caller {
        connect::Caller {
            reach: self.reach.clone(),
            endpoint,
            introduction: self.introduction.clone(),
            floor: self.ports.floor.clone(),
            clock: self.clock.clone(),
            first_answer: self.pace.first_answer,
        }
    }

    fn endpoint(&self, turn: usize) -> Option<HostPort> {
        match &self.reach {
            Reach::Fleet(enrolled) => {
                let endpoints = &enrolled.identity().fleet_endpoints;
                endpoints.get(turn.checked_rem(endpoints.len())?).cloned()
            }
            Reach::Given(_) => None,
        }
    }

    fn connected(&self, greeted: &Greeted) {
        let endpoint = greeted.endpoint.as_ref().map_or_else(|| "sim".to_owned(), ToString::to_string);
        tracing::info!(%endpoint, transport = %greeted.transport, "connected to the coordinator");
        let (transport, since) = (greeted.transport, self.clock.wall());
        self.ports.status.send_replace(LinkStatus::Connected { transport, endpoint, since });
    }

    /// Says so once, and keeps the moment at which it began through all further attempts.
    fn disconnected(&self, reason: &Reason) {
        let now = self.clock.wall();
        self.ports.status.send_modify(|status| {
            let since = match status {
                LinkStatus::Connected { .. } => now,
                LinkStatus::Disconnected { since, .. } => *since,
            };
            let next = LinkStatus::Disconnected { reason: reason.clone(), since };
            if *status == next {
                tracing::debug!(%reason, "still not connected to the coordinator");
            } else {
                tracing::warn!(%reason, "not connected to the coordinator; the bots run on");
            }
            *status = next;
        });
    }
}

/// Renews whenever it is time, for as long as the connection stands.
async fn keep_renewed(renewal: Option<&Renewal>, dial: Dial) -> std::convert::Infallible {
    match renewal {
        Some(renewal) => renewal.keep(&dial).await,
        None => std::future::pending().await,
    }
}

/// The way to a better route than the one that carries the session.
struct Better<'a> {
    caller: &'a connect::Caller,
    entropy: &'a Entropy,
    pace: Pace,
}

impl Better<'_> {
    async fn wait(&self) {
        sleep(self.entropy.around(self.pace.quic_again, QUIC_AGAIN_SHARE)).await;
    }

    async fn find(&self) -> Option<Greeted> {
        let found = timeout(self.pace.first_answer, connect::connect_over(self.caller, Route::Quic)).await;
        match found {
            Ok(Ok(greeted)) => {
                tracing::info!("QUIC answers again: the session moves to it");
                Some(greeted)
            }
            Ok(Err(reason)) => {
                tracing::debug!(%reason, "QUIC does not answer yet");
                None
            }
            Err(_) => None,
        }
    }
}

/// Carries the session until it is over, or until a better one stands. The coordinator ends a session when it admits
/// its successor, often before the successor's Welcome: so a session that ends meanwhile still waits for the answer.
async fn until_replaced(
    session: impl Future<Output = Reason>,
    better: &Better<'_>,
    on_tcp: bool,
) -> Result<Greeted, Reason> {
    let mut session = std::pin::pin!(session);
    loop {
        tokio::select! {
            reason = &mut session => return Err(reason),
            () = better.wait(), if on_tcp => {}
        }
        let mut found = std::pin::pin!(better.find());
        let over = tokio::select! {
            greeted = &mut found => match greeted {
                Some(greeted) => return Ok(greeted),
                None => continue,
            },
            reason = &mut session => reason,
        };
        return found.await.ok_or(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_of_another_time_is_asked_again_slowly_from_the_first_time_on() {
        let (pace, entropy) = (Pace::default(), Entropy::seeded(7));
        let apart = Reason::new(VERSIONS_APART, "two releases apart");
        let away = Reason::new("coordinator-unreachable", "no answer");
        for failures in 1..40 {
            let slowly = pace.pause(failures, &apart, &entropy);
            assert!(slowly >= pace.apart_again / 2 && slowly <= pace.apart_again * 3 / 2, "{slowly:?}");
            assert!(pace.pause(failures, &away, &entropy) <= pace.retry_cap);
        }
    }
}
