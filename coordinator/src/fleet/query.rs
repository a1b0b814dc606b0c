//! Questions to a host that is connected, and their answers.
//!
//! The API asks ([`super::Fleet::ask`]); the question goes down the host's session; the host answers by a call of its
//! own ([`Asks::answer`]), so that a burst of log lines never delays a stop.
//!
//! ```text
//!  ask ──► waiting ── the host calls back ──► answering ── End ─────────────► over
//!             └──────── asker gone, deadline, session over, broken call ──────► over (the host is told to stop)
//! ```
//! One task tends one question from start to end, so that there is one place where it can end. The channel between host
//! and asker is short: an asker who reads slowly slows the host's stream, never fills this process. Nothing is stored,
//! and nothing here decides who may ask: `app` has decided that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use launchpad_protocol::frame::{Answer, Ask, LogLine, Question};
use launchpad_protocol::id::{AccountId, AskId, HostId, UserId};
use launchpad_protocol::limits::{ASKS_PER_ASKER_MAX, ASKS_PER_HOST_MAX};
use launchpad_protocol::reason::Reason;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::seats::{Order, Seat};

/// Lines between host and asker: enough to keep both busy, few enough that 32 stalled askers of a host hold 16 MiB at
/// the very most ([`launchpad_protocol::limits::LOG_LINE_MAX_BYTES`] each).
const ANSWER_BUFFER_LINES: usize = 32;

/// How long a session may take to pass a question on: longer only when its peer no longer reads.
const HAND_OVER: Duration = Duration::from_secs(2);

/// The pieces of an answer as they come from the host; an error ends them.
pub(super) type Pieces = BoxStream<'static, Result<Answer, Reason>>;

/// All questions in flight.
#[derive(Debug, Default)]
pub(super) struct Asks(Mutex<BTreeMap<AskId, Waiting>>);

/// On whose behalf a question is asked. Nobody holds all that a host answers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody of that account.
    Tenant(AccountId),
    /// One of the staff.
    Staff(UserId),
}

/// A question whose host has not called back yet, or is answering.
#[derive(Debug)]
struct Waiting {
    host: HostId,
    asker: Asker,
    /// Taken when the host calls back: it may answer once.
    answer: Option<oneshot::Sender<Call>>,
}

/// The host's call, and whom to tell that no more of it is wanted.
struct Call {
    pieces: Pieces,
    done: oneshot::Sender<()>,
}

/// What comes back, in order: lines, then exactly one [`Answer::End`]. Dropping it cancels the question.
#[derive(Debug)]
pub struct Answers {
    lines: mpsc::Receiver<LogLine>,
    end: Option<oneshot::Receiver<Option<Reason>>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl Answers {
    /// The next piece; nothing after the end. Cancel-safe: a piece is never lost between two calls.
    pub async fn next(&mut self) -> Option<Answer> {
        if let Some(line) = self.lines.recv().await {
            return Some(Answer::Line(line));
        }
        let end = self.end.as_mut()?;
        let reason = end.await.unwrap_or_else(|_| Some(coordinator_stops()));
        self.end = None;
        Some(Answer::End(reason))
    }
}

impl Asks {
    /// Puts a question to the host in that seat.
    ///
    /// # Errors
    /// When too many questions to that host are in flight, or of that asker.
    pub(super) fn ask(
        self: &Arc<Self>,
        (host, seat): (HostId, Seat),
        asker: Asker,
        id: AskId,
        question: Question,
        deadline: Duration,
    ) -> Result<Answers, Reason> {
        let call = self.enter(host, asker, id)?;
        let (line_sender, lines) = mpsc::channel(ANSWER_BUFFER_LINES);
        let (end_sender, end) = oneshot::channel();
        let ask = Ask { id, deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX), question };
        let asks = Arc::clone(self);
        let expires = Instant::now() + deadline;
        tokio::spawn(async move {
            let reason = tend(&seat, ask, call, &line_sender, expires).await;
            asks.lock().remove(&id);
            // The asker may be gone: then nobody is told.
            let _ = end_sender.send(reason);
        });
        Ok(Answers { lines, end: Some(end) })
    }

    /// The host calls back. Returns when the answer is complete, or when nobody wants more of it.
    ///
    /// # Errors
    /// When nobody asked this host that, or it has answered already: then it should stop.
    pub(super) async fn answer(&self, host: HostId, id: AskId, pieces: Pieces) -> Result<(), Reason> {
        let (done, over) = oneshot::channel();
        let waiting = self.claim(host, id).ok_or_else(nobody_asks)?;
        waiting.send(Call { pieces, done }).map_err(|_| nobody_asks())?;
        // An error means that the tending task let go of it, which is an end as well.
        let _ = over.await;
        Ok(())
    }

    fn enter(&self, host: HostId, asker: Asker, id: AskId) -> Result<oneshot::Receiver<Call>, Reason> {
        let mut waiting = self.lock();
        let to_host = waiting.values().filter(|one| one.host == host);
        let own = to_host.clone().filter(|one| one.asker == asker).count();
        if own >= ASKS_PER_ASKER_MAX {
            let sentence = format!("{own} questions of yours to this host are in flight, as many as one may have");
            return Err(Reason::new("too-many-questions", sentence).mend("close one of the open logs"));
        }
        let in_flight = to_host.count();
        if in_flight >= ASKS_PER_HOST_MAX {
            let sentence = format!("{in_flight} questions to this host are in flight, as many as it answers");
            return Err(Reason::new("host-is-answering", sentence).mend("try again in a moment"));
        }
        let (answer, call) = oneshot::channel();
        waiting.insert(id, Waiting { host, asker, answer: Some(answer) });
        Ok(call)
    }

    /// Only the host that was asked may answer, and only once.
    fn claim(&self, host: HostId, id: AskId) -> Option<oneshot::Sender<Call>> {
        self.lock().get_mut(&id).filter(|waiting| waiting.host == host)?.answer.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AskId, Waiting>> {
        // No code panics while it holds this lock, and a map has no half-done state if one did.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks, waits for the host's call, passes the lines on. Says why there is less than was asked for.
async fn tend(
    seat: &Seat,
    ask: Ask,
    call: oneshot::Receiver<Call>,
    lines: &mpsc::Sender<LogLine>,
    expires: Instant,
) -> Option<Reason> {
    let id = ask.id;
    if !seat.order(Order::Ask(ask), HAND_OVER).await {
        return Some(host_left());
    }
    let (ended_by_host, reason) = tokio::select! {
        end = answered(call, lines) => (true, end),
        () = lines.closed() => (false, None),
        () = tokio::time::sleep_until(expires) => (false, Some(too_late())),
        () = seat.over.cancelled() => (false, Some(host_left())),
    };
    if !ended_by_host {
        // If the session is over, so is the answer: not being able to tell the host is fine.
        seat.order(Order::Cancel(id), HAND_OVER).await;
    }
    reason
}

/// Passes the host's answer on until its end. Not cancel-safe, and need not be: whoever stops it wants no more lines.
async fn answered(call: oneshot::Receiver<Call>, lines: &mpsc::Sender<LogLine>) -> Option<Reason> {
    // The sender lives in the registry until this task removes it.
    let Ok(Call { mut pieces, done }) = call.await else { return Some(broken()) };
    let end = loop {
        match pieces.next().await {
            Some(Ok(Answer::Line(line))) => {
                if lines.send(line).await.is_err() {
                    break None;
                }
            }
            Some(Ok(Answer::End(reason))) => break reason,
            Some(Err(reason)) => break Some(reason),
            None => break Some(broken()),
        }
    };
    // The host may be gone already.
    let _ = done.send(());
    end
}

/// The code of the reason for a host that is not connected here.
pub const HOST_OFFLINE: &str = "host-offline";

/// The host is not connected, or went away.
pub(super) fn host_left() -> Reason {
    Reason::new(HOST_OFFLINE, "the host is not connected")
        .because("its agent is down, or the network between it and the coordinator")
        .mend("see `launchpad hosts`; what runs there runs on")
}

fn too_late() -> Reason {
    Reason::new("answer-too-late", "the host did not finish its answer in time")
        .mend("ask for less, or ask again when the host is less busy")
}

fn broken() -> Reason {
    Reason::new("answer-broken-off", "the host's answer broke off before its end").mend("ask again")
}

fn nobody_asks() -> Reason {
    Reason::new("nobody-asks", "nobody waits for this answer")
}

fn coordinator_stops() -> Reason {
    Reason::new("coordinator-stops", "the coordinator stops").mend("ask again in a moment")
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
