//! Answers to the coordinator's questions: one task each, on a lane of their own, so that a flood of log lines never
//! delays a spec.
//!
//! ```text
//! Ask ──► begin ──► task: Eyes::answer ── pieces ──► Answer call on Lane::Answer
//!                     │
//!                     ├ answered: one End, the coordinator's acknowledgement
//!                     ├ Cancel, or the session is over: dropped
//!                     └ the deadline, unless it follows a log: dropped
//! ```
//! `link/session.rs` calls this; `local/logs.rs` answers people on the host by the same [`carry`]. What is answered is [`crate::execute::Eyes`]' business; nothing is decided here but
//! how many questions are answered at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::dial;
use launchpad_pki::pipe::{Dial, Lane};
use launchpad_protocol::frame::{Answer, Ask, Question};
use launchpad_protocol::id::AskId;
use launchpad_protocol::limits::ASKS_PER_HOST_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::wire::{self, AnswerPart, v1};
use tokio::sync::{OnceCell, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;

use crate::execute::Eyes;

/// Pieces between the engine and the lane: with lines of 16 KiB at most, 256 KiB per question.
const PIECES_QUEUED: usize = 16;

/// Questions that are told No at once, besides those that are answered. Beyond, nothing is said at all: the asker's
/// deadline does.
const REFUSALS_MAX: usize = ASKS_PER_HOST_MAX;

/// The questions of one session that are being answered. Dropping it ends them all.
pub struct Answering {
    eyes: Arc<dyn Eyes>,
    lane: Arc<AnswerLane>,
    tasks: JoinSet<AskId>,
    by_id: BTreeMap<AskId, AbortHandle>,
}

/// The one lane for all answers of a session, opened with the first of them.
struct AnswerLane {
    dial: Dial,
    channel: OnceCell<Channel>,
}

impl Answering {
    /// No question yet.
    #[must_use]
    pub fn new(eyes: Arc<dyn Eyes>, dial: Dial) -> Self {
        let lane = Arc::new(AnswerLane { dial, channel: OnceCell::new() });
        Self { eyes, lane, tasks: JoinSet::new(), by_id: BTreeMap::new() }
    }

    /// Begins to answer. A question that is being answered already is not answered twice.
    pub fn begin(&mut self, ask: Ask) {
        let running = self.tasks.len();
        if self.by_id.contains_key(&ask.id) || running >= ASKS_PER_HOST_MAX + REFUSALS_MAX {
            tracing::warn!(ask = %ask.id, running, "a question is not answered: asked twice, or one too many");
            return;
        }
        let (id, lane) = (ask.id, Arc::clone(&self.lane));
        let handle = if running < ASKS_PER_HOST_MAX {
            let eyes = Arc::clone(&self.eyes);
            self.tasks.spawn(async move {
                answer(&*eyes, &lane, ask).await;
                id
            })
        } else {
            self.tasks.spawn(async move {
                let part = tokio_stream::once(AnswerPart::Piece(Answer::End(Some(too_many()))));
                lane.call(id, part).await;
                id
            })
        };
        self.by_id.insert(id, handle);
    }

    /// Stops answering.
    pub fn cancel(&mut self, id: AskId) {
        if let Some(task) = self.by_id.remove(&id) {
            task.abort();
        }
    }

    /// Clears away questions that are answered; never returns while there is none. May be dropped at any point.
    pub async fn reap(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(id)) => {
                self.by_id.remove(&id);
            }
            // Cancelled: `cancel` has removed it. A panic is told by its own hook, and ends no other answer.
            Some(Err(_)) => self.by_id.retain(|_, task| !task.is_finished()),
            None => std::future::pending().await,
        }
    }
}

/// Answers one question until it is answered, nobody listens, or its time is up.
async fn answer(eyes: &dyn Eyes, lane: &AnswerLane, ask: Ask) {
    let Ask { id, deadline_ms, question } = ask;
    // The call ends when the coordinator has taken the last piece.
    let take = |pieces: ReceiverStream<Answer>| lane.call(id, pieces.map(AnswerPart::Piece));
    if !carry(eyes, &question, Duration::from_millis(deadline_ms), take).await {
        tracing::debug!(ask = %id, "the time for an answer is up");
    }
}

/// Has the eyes answer, and somebody take the pieces, for as long as that takes him. Without a follow, not for longer
/// than `within`: whether it was in time. Whoever takes slowly is answered slowly.
pub async fn carry<F: Future<Output = ()>>(
    eyes: &dyn Eyes,
    question: &Question,
    within: Duration,
    take: impl FnOnce(ReceiverStream<Answer>) -> F,
) -> bool {
    let (pieces, queue) = mpsc::channel(PIECES_QUEUED);
    let asking = async {
        eyes.answer(question, pieces).await;
        std::future::pending::<()>().await;
    };
    let taking = take(ReceiverStream::new(queue));
    let both = async {
        tokio::select! {
            () = taking => {}
            () = asking => {}
        }
    };
    match question {
        // The asker's interest is its only end.
        Question::Logs { follow: true, .. } => {
            both.await;
            true
        }
        Question::Logs { follow: false, .. } => tokio::time::timeout(within, both).await.is_ok(),
    }
}

impl AnswerLane {
    /// Sends the parts, and returns when the coordinator has taken or refused them.
    async fn call(&self, id: AskId, parts: impl Stream<Item = AnswerPart> + Send + 'static) {
        let channel = match self.channel.get_or_try_init(|| dial::channel(self.dial.clone(), Lane::Answer)).await {
            Ok(channel) => channel.clone(),
            Err(error) => {
                tracing::warn!(ask = %id, %error, "no lane for an answer");
                return;
            }
        };
        let frames = tokio_stream::once(AnswerPart::Begins(id)).chain(parts).map(v1::AnswerFrame::from);
        if let Err(status) = wire::fleet_client(channel).answer(frames).await {
            tracing::debug!(ask = %id, reason = %wire::refused_because(&status), "an answer was not taken");
        }
    }
}

fn too_many() -> Reason {
    Reason::new("asks-full", format!("the host is answering {ASKS_PER_HOST_MAX} questions already"))
        .mend("end a follow, or ask again in a moment")
}
