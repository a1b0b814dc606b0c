//! One host's session: drives [`CoordinatorSession`], which decides; here are the waiting and the doing.
//!
//! ```text
//!        frames from the host ─┐                                ┌─► frames to the host
//!   orders, newest spec (seat) ┼─► input ─► CoordinatorSession ─┼─► admit, view ─► store ─► input
//!    dismissal, stop, no hello ┘                                └─► seat taken, session over
//! ```
//! One task a session; effects are carried out one after the other, so that what the store has confirmed is what the
//! host is told. A store that is away ends no session: its reports stay unconfirmed, and the host sends them again.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use launchpad_pki::pipe::PeerInfo;
use launchpad_protocol::frame::{AgentFrame, CoordinatorFrame, Hello};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::session::{CoordinatorEffect, CoordinatorInput, CoordinatorSession};
use tokio::sync::mpsc;

use super::admit;
use super::seats::{Order, Seat, SeatEnds};
use super::server::Ground;
use super::view::{self, ViewError};

/// How long a connected host may be silent before its Hello: what a slow host needs, many times over.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How long one frame may wait to be sent: longer only when the host has stopped reading. A 16 MiB spec takes this long
/// at 4 Mbit/s.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// The host's frames, already decoded; an error ends them.
pub(super) type Frames = BoxStream<'static, Result<AgentFrame, Reason>>;

/// One session and its ends.
struct Session {
    ground: Arc<Ground>,
    peer: PeerInfo,
    out: mpsc::Sender<CoordinatorFrame>,
    machine: CoordinatorSession,
    seated: Option<(Seat, SeatEnds)>,
}

/// What a session waited for.
enum Next {
    /// Something to be handled.
    Input(CoordinatorInput),
    /// The host has gone.
    Gone,
}

/// What follows from an effect.
enum Then {
    /// Nothing more.
    On,
    /// The session is told something.
    Input(CoordinatorInput),
    /// The session is over.
    Over,
}

/// Runs one session until it is over.
pub(super) async fn run(
    ground: Arc<Ground>,
    peer: PeerInfo,
    mut frames: Frames,
    out: mpsc::Sender<CoordinatorFrame>,
) {
    let host = peer.host;
    tracing::debug!(%host, transport = %peer.transport, remote = %peer.remote, "a host opens a session");
    let mut session = Session { ground, peer, out, machine: CoordinatorSession::default(), seated: None };
    while let Next::Input(input) = session.next(&mut frames).await {
        if session.take(input).await.is_break() {
            break;
        }
    }
    session.leave();
}

impl Session {
    /// The next input. Cancel-safe in all its branches: a frame, an order or a spec that is not taken stays where it is.
    async fn next(&mut self, frames: &mut Frames) -> Next {
        let stop = self.ground.stop.clone();
        let Some((_, ends)) = &mut self.seated else {
            return tokio::select! {
                frame = tokio::time::timeout(HELLO_PATIENCE, frames.next()) => match frame {
                    Ok(frame) => received(frame),
                    Err(_) => dismissed(no_hello()),
                },
                () = stop.cancelled() => dismissed(coordinator_stops()),
            };
        };
        tokio::select! {
            // In this order: an ending session takes nothing more, and a stop is not kept waiting by reports.
            biased;
            () = ends.leave.cancelled() => dismissed(ends.dismissal()),
            () = stop.cancelled() => dismissed(coordinator_stops()),
            Ok(()) = ends.newest.changed() => match ends.newest.borrow_and_update().clone() {
                Some(offer) => Next::Input(CoordinatorInput::Publish(offer)),
                None => Next::Gone,
            },
            Some(order) = ends.orders.recv() => Next::Input(match order {
                Order::Ask(ask) => CoordinatorInput::Ask(ask),
                Order::Cancel(id) => CoordinatorInput::Cancel(id),
            }),
            frame = frames.next() => received(frame),
        }
    }

    /// Handles one input, and all that its effects bring about. Breaks when the session is over.
    async fn take(&mut self, input: CoordinatorInput) -> ControlFlow<()> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.handle(input) {
                match self.carry_out(effect).await {
                    Then::On => {}
                    Then::Input(next) => inputs.push_back(next),
                    Then::Over => return ControlFlow::Break(()),
                }
            }
        }
        ControlFlow::Continue(())
    }

    async fn carry_out(&mut self, effect: CoordinatorEffect) -> Then {
        let host = self.peer.host;
        match effect {
            CoordinatorEffect::Send(frame) => self.send(frame).await,
            CoordinatorEffect::Admit(hello) => self.admit(&hello).await,
            CoordinatorEffect::Store { seq, report } => self.store(seq, &report).await,
            CoordinatorEffect::FloorAbove { held } => {
                if let Err(error) = view::floor_above(&self.ground, host, held).await {
                    // The next report shows the same floor again.
                    tracing::error!(%host, %error, "cannot freeze publishing");
                }
                Then::On
            }
            CoordinatorEffect::Judged { generation, refusal: Some(reason) } => {
                tracing::warn!(%host, %generation, code = reason.code, "the host refused its spec: {reason}");
                Then::On
            }
            CoordinatorEffect::Judged { generation, refusal: None } => {
                tracing::debug!(%host, %generation, "the host accepted its spec");
                Then::On
            }
            CoordinatorEffect::Close(reason) => {
                tracing::info!(%host, code = reason.code, "session over: {reason}");
                Then::Over
            }
        }
    }

    async fn send(&mut self, frame: CoordinatorFrame) -> Then {
        match tokio::time::timeout(SEND_PATIENCE, self.out.send(frame)).await {
            Ok(Ok(())) => Then::On,
            Ok(Err(_)) => Then::Over,
            Err(_) => {
                tracing::warn!(host = %self.peer.host, "session over: the host has stopped reading");
                Then::Over
            }
        }
    }

    /// Asks the store, and takes the host's seat.
    async fn admit(&mut self, hello: &Hello) -> Then {
        let host = self.peer.host;
        // Until it has its seat.
        let _turn = match self.ground.fleet.crowd.turn() {
            Ok(turn) => turn,
            Err(reason) => return Then::Input(CoordinatorInput::Dismiss(reason)),
        };
        let admission = match admit::admit(&self.ground, host, hello).await {
            Ok(admission) => admission,
            Err(reason) => return Then::Input(CoordinatorInput::Dismiss(reason)),
        };
        let (seat, ends) = Seat::new(admission.fence, self.peer.transport, admission.published.clone());
        if let Err(reason) = self.ground.fleet.seats.take(host, seat.clone()) {
            return Then::Input(CoordinatorInput::Dismiss(reason));
        }
        tracing::info!(%host, fence = %admission.fence, transport = %self.peer.transport, remote = %self.peer.remote,
            agent = hello.agent_version, "a host is connected");
        if self.ground.fleet.twins.greeted(host, &hello.boot_id, admission.wall) {
            tracing::error!(%host, remote = %self.peer.remote, "two machines use this host's identity: its disk was copied");
        }
        self.seated = Some((seat, ends));
        // What was published between the store's answer and the seat was published to nobody.
        self.ground.signals.publisher.notify();
        Then::Input(CoordinatorInput::Admitted(Box::new(admission)))
    }

    async fn store(&mut self, seq: u64, report: &HostReport) -> Then {
        let Some((seat, _)) = &self.seated else { return Then::On };
        match view::store(&self.ground, self.peer.host, seat.fence, report).await {
            Ok(leases) => Then::Input(CoordinatorInput::Stored { seq, leases }),
            Err(ViewError::Dismissed(reason)) => Then::Input(CoordinatorInput::Dismiss(reason)),
            Err(ViewError::Store(error)) => {
                tracing::error!(host = %self.peer.host, %error, "cannot store a report; it stays unconfirmed");
                Then::On
            }
        }
    }

    /// Gives the seat up, and lets go of whoever waits for this session.
    fn leave(self) {
        let host = self.peer.host;
        if let Some((seat, _)) = self.seated {
            seat.over.cancel();
            self.ground.fleet.seats.leave(host, seat.fence);
            tracing::info!(%host, fence = %seat.fence, "a host is disconnected");
        }
    }
}

fn received(frame: Option<Result<AgentFrame, Reason>>) -> Next {
    match frame {
        Some(Ok(frame)) => Next::Input(CoordinatorInput::Frame(Box::new(frame))),
        Some(Err(reason)) => dismissed(reason),
        None => Next::Gone,
    }
}

fn dismissed(reason: Reason) -> Next {
    Next::Input(CoordinatorInput::Dismiss(reason))
}

fn no_hello() -> Reason {
    Reason::new("no-hello", format!("no hello came within {} s", HELLO_PATIENCE.as_secs()))
        .mend("the agent connects again by itself; if this repeats, its host is overloaded")
}

fn coordinator_stops() -> Reason {
    Reason::new("coordinator-stops", "the coordinator stops").mend("the agent connects again by itself")
}
