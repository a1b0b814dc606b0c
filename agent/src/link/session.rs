//! One live session: frames in and out, offers to the ledger, reports from the reconciler, questions to their tasks.
//!
//! ```text
//!   frames ──►┐                       ┌──► frames
//!  verdicts ──►  AgentSession::handle  ──► offers, forgets     (the reconciler)
//!   reports ──►┘      (pure)          └──► answer.rs           (one task per question)
//! ```
//! The machine in `protocol::session` decides; this file only carries. It returns when the session is over, with the
//! reason. Nothing here waits for the reconciler: a judgement is awaited beside everything else.

use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::frame::AgentFrame;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::session::{AgentEffect, AgentInput, AgentSession, Renewal};
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{Greeted, next_frame};
use super::ports::{Forget, Judged, LinkPorts, Offer};
use crate::answer::Answering;
use crate::execute::Eyes;

/// Reports are at least this far apart: one burst of changes becomes one report, and nobody sees the difference.
const REPORTS_APART: Duration = Duration::from_millis(20);

/// How long the transport may refuse a frame. Its own keep-alive gives a dead peer up after 30 s; this is for one that
/// lives and does not read.
const SEND_WITHIN: Duration = Duration::from_secs(30);

/// Carries one session until it is over.
pub(super) async fn live(greeted: Greeted, ports: &mut LinkPorts, eyes: &Arc<dyn Eyes>, clock: &Clock) -> Reason {
    let Greeted { dial, machine, outbound, mut inbound, .. } = greeted;
    let mut session = Session {
        machine,
        outbound,
        forgets: ports.forgets.clone(),
        renewals: ports.renewals.clone(),
        answering: Answering::new(Arc::clone(eyes), dial),
        clock,
        judging: None,
        waiting: None,
    };
    let offers = ports.offers.clone();
    // The report of before the session is new to this coordinator.
    ports.reports.mark_changed();
    let mut report_due = Instant::now() + REPORT_INTERVAL;
    let mut report_allowed = Instant::now();
    loop {
        // Each of these can be dropped while it waits without losing anything: a frame, a change and a judgement stay
        // where they are until they are taken.
        let step = tokio::select! {
            frame = next_frame(&mut inbound) => match frame {
                Ok(frame) => session.handle(AgentInput::Frame(Box::new(frame))).await,
                Err(reason) => Err(reason),
            },
            place = offers.reserve(), if session.waiting.is_some() && session.judging.is_none() => match place {
                Ok(place) => {
                    session.put(place);
                    Ok(())
                }
                Err(_) => Err(ledger_gone()),
            },
            judged = judgement(&mut session.judging) => session.judged(judged).await,
            () = changed_or_due(&mut ports.reports, report_allowed, report_due) => {
                report_allowed = Instant::now() + REPORTS_APART;
                report_due = Instant::now() + REPORT_INTERVAL;
                session.report(&mut ports.reports).await
            }
            () = session.answering.reap() => Ok(()),
        };
        if let Err(reason) = step {
            return reason;
        }
    }
}

struct Session<'a> {
    machine: AgentSession,
    outbound: mpsc::Sender<v1::AgentFrame>,
    forgets: mpsc::Sender<Forget>,
    renewals: mpsc::Sender<Renewal>,
    answering: Answering,
    clock: &'a Clock,
    /// The spec that the ledger has before it.
    judging: Option<Judging>,
    /// The newest spec behind it. One that is replaced here was never judged, and need not be.
    waiting: Option<SpecOffer>,
}

struct Judging {
    generation: Generation,
    reply: oneshot::Receiver<Judged>,
}

impl Session<'_> {
    async fn handle(&mut self, input: AgentInput) -> Result<(), Reason> {
        for effect in self.machine.handle(input) {
            match effect {
                AgentEffect::Send(frame) => self.send(frame).await?,
                AgentEffect::Offer(offer) => self.waiting = Some(offer),
                AgentEffect::Forget { journal, through } => {
                    // A full queue loses nothing: the next confirmation says as much and more.
                    let _ = self.forgets.try_send(Forget { journal, through });
                }
                AgentEffect::Renew(word) => {
                    // A lost renewal ends a lease sooner; the next report brings another.
                    let _ = self.renewals.try_send(word);
                }
                AgentEffect::Ask(ask) => self.answering.begin(ask),
                AgentEffect::Cancel(id) => self.answering.cancel(id),
                AgentEffect::Close(reason) => return Err(reason),
                // It was live before this file had it.
                AgentEffect::Live(_) => {}
            }
        }
        Ok(())
    }

    /// Puts the waiting spec before the ledger.
    fn put(&mut self, place: mpsc::Permit<'_, Offer>) {
        if let Some(offer) = self.waiting.take() {
            let (reply, judgement) = oneshot::channel();
            self.judging = Some(Judging { generation: offer.generation, reply: judgement });
            place.send(Offer { offer, reply });
        }
    }

    async fn judged(&mut self, judged: Option<Judged>) -> Result<(), Reason> {
        let Some(judging) = self.judging.take() else { return Ok(()) };
        let Judged { held, refusal } = judged.ok_or_else(ledger_gone)?;
        if let Some(reason) = &refusal {
            tracing::warn!(generation = %judging.generation, %reason, "the ledger refuses a spec");
        }
        self.handle(AgentInput::Judged { generation: judging.generation, held, refusal }).await
    }

    async fn report(&mut self, reports: &mut watch::Receiver<Option<Arc<HostReport>>>) -> Result<(), Reason> {
        let newest = reports.borrow_and_update().clone();
        // None before the host was observed once: an empty report would say that nothing is there.
        let Some(report) = newest else { return Ok(()) };
        let mut report = Box::new((*report).clone());
        // The same report an interval later is still true, and says so.
        report.wall = self.clock.wall();
        let now = self.clock.boot();
        self.handle(AgentInput::Report { report, now }).await
    }

    async fn send(&self, frame: AgentFrame) -> Result<(), Reason> {
        match timeout(SEND_WITHIN, self.outbound.send(frame.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Reason::new("link-lost", "the connection to the coordinator was lost while sending")),
            Err(_) => {
                let sentence = format!("the coordinator has read nothing for {} s", SEND_WITHIN.as_secs());
                Err(Reason::new("link-stuck", sentence).because("it is overloaded, or hangs"))
            }
        }
    }
}

/// The ledger's answer, once there is one; none when the reconciler dropped the question.
async fn judgement(judging: &mut Option<Judging>) -> Option<Judged> {
    match judging {
        Some(judging) => (&mut judging.reply).await.ok(),
        None => std::future::pending().await,
    }
}

/// Returns when a report changed and may be sent, or is due again all the same. The wait comes first: a change that was
/// seen and then waited with would be lost when a frame comes between and this is dropped.
async fn changed_or_due<T>(reports: &mut watch::Receiver<T>, allowed: Instant, due: Instant) {
    let changed = async {
        sleep_until(allowed).await;
        // A closed channel changes no more; the agent is about to stop.
        if reports.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = changed => {}
        () = sleep_until(due) => {}
    }
}

fn ledger_gone() -> Reason {
    Reason::new("ledger-gone", "the spec was not judged: the agent is stopping")
}
