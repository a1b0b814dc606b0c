//! Which hosts are connected: one seat a host, taken by its newest session.
//!
//! A session takes its host's seat when the store has admitted it under a fence. The higher fence wins: a host that
//! reconnects replaces its own older session, whose connection may look alive for half a minute yet. Asks and
//! publishing reach a session through its seat. The registry is this process's memory; the fence in the store is what
//! holds across processes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use launchpad_pki::pipe::Transport;
use launchpad_protocol::frame::Ask;
use launchpad_protocol::generation::{Fence, Generation};
use launchpad_protocol::id::{AskId, HostId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::SpecOffer;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Questions and cancellations that may wait for their session: all that one host may have in flight, twice.
pub(super) const ORDERS_MAX: usize = 2 * launchpad_protocol::limits::ASKS_PER_HOST_MAX;

/// What a session is told by others.
#[derive(Debug)]
pub(super) enum Order {
    /// Put this question.
    Ask(Ask),
    /// Nobody waits for that any more.
    Cancel(AskId),
}

/// One live session, as others reach it.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// The session's number.
    pub(super) fence: Fence,
    /// What carries it.
    pub(super) transport: Transport,
    /// Cancelled when the session is over, however it ended.
    pub(super) over: CancellationToken,
    orders: mpsc::Sender<Order>,
    newest: watch::Sender<Option<SpecOffer>>,
    leave: CancellationToken,
    dismissal: Arc<OnceLock<Reason>>,
}

/// The session's own ends of its seat.
#[derive(Debug)]
pub(super) struct SeatEnds {
    /// What others want of it.
    pub(super) orders: mpsc::Receiver<Order>,
    /// The newest spec to offer.
    pub(super) newest: watch::Receiver<Option<SpecOffer>>,
    /// Cancelled when it must end; [`SeatEnds::dismissal`] says why.
    pub(super) leave: CancellationToken,
    dismissal: Arc<OnceLock<Reason>>,
}

impl Seat {
    /// A seat for a session that was admitted under `fence`, and told of `published` then.
    pub(super) fn new(fence: Fence, transport: Transport, published: Option<SpecOffer>) -> (Self, SeatEnds) {
        let (orders, orders_ahead) = mpsc::channel(ORDERS_MAX);
        let (newest, newest_ahead) = watch::channel(published);
        let (leave, dismissal) = (CancellationToken::new(), Arc::new(OnceLock::new()));
        let ends = SeatEnds {
            orders: orders_ahead,
            newest: newest_ahead,
            leave: leave.clone(),
            dismissal: Arc::clone(&dismissal),
        };
        (Self { fence, transport, over: CancellationToken::new(), orders, newest, leave, dismissal }, ends)
    }

    /// Gives the session an order; whether it took it in time.
    pub(super) async fn order(&self, order: Order, patience: Duration) -> bool {
        tokio::select! {
            taken = tokio::time::timeout(patience, self.orders.send(order)) => matches!(taken, Ok(Ok(()))),
            () = self.over.cancelled() => false,
        }
    }

    /// Hands the session a newer spec; an older one is let go.
    pub(super) fn publish(&self, offer: SpecOffer) {
        self.newest.send_if_modified(|held| {
            let newer = held.as_ref().is_none_or(|held| held.generation < offer.generation);
            if newer {
                *held = Some(offer);
            }
            newer
        });
    }

    /// The generation that the session was last handed.
    pub(super) fn handed(&self) -> Option<Generation> {
        self.newest.borrow().as_ref().map(|offer| offer.generation)
    }

    /// Ends the session. The first reason counts.
    pub(super) fn dismiss(&self, reason: Reason) {
        // Already set: it is leaving for another reason.
        let _ = self.dismissal.set(reason);
        self.leave.cancel();
    }
}

impl SeatEnds {
    /// Why the session must end.
    pub(super) fn dismissal(&self) -> Reason {
        self.dismissal
            .get()
            .cloned()
            .unwrap_or_else(|| Reason::new("session-ended", "the coordinator ended the session"))
    }
}

/// All live sessions of this process.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<BTreeMap<HostId, Seat>>);

impl Seats {
    /// Takes the host's seat, and dismisses whoever has it under a lower fence.
    ///
    /// # Errors
    /// When a newer session has the seat.
    pub(super) fn take(&self, host: HostId, seat: Seat) -> Result<(), Reason> {
        let mut seats = self.lock();
        match seats.get(&host) {
            Some(other) if other.fence > seat.fence => return Err(replaced(other.fence)),
            Some(other) => other.dismiss(replaced(seat.fence)),
            None => {}
        }
        seats.insert(host, seat);
        Ok(())
    }

    /// Gives the seat up, unless a newer session has it.
    pub(super) fn leave(&self, host: HostId, fence: Fence) {
        let mut seats = self.lock();
        if seats.get(&host).is_some_and(|seat| seat.fence == fence) {
            seats.remove(&host);
        }
    }

    /// The host's live session.
    pub(super) fn of(&self, host: HostId) -> Option<Seat> {
        self.lock().get(&host).cloned()
    }

    /// All live sessions.
    pub(super) fn all(&self) -> BTreeMap<HostId, Seat> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Seat>> {
        // No code panics while it holds this lock, and a map has no half-done state if one did.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session lost its host to a newer one.
pub(super) fn replaced(by: Fence) -> Reason {
    Reason::new("session-replaced", format!("session {by} of this host has replaced this one"))
        .because("the host connected again, or two machines use one host's key")
        .mend("if this repeats, look for a cloned disk: revoke the host and enrol both machines anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use launchpad_protocol::digest::Digest;
    use uuid::Uuid;

    fn host() -> HostId {
        HostId::from(Uuid::from_u128(7))
    }

    fn offer(generation: u64) -> SpecOffer {
        SpecOffer { generation: Generation(generation), digest: Digest::of(b""), bytes: Vec::new() }
    }

    #[test]
    fn a_newer_session_replaces_an_older_one_and_never_the_reverse() {
        let seats = Seats::default();
        let (old, old_ends) = Seat::new(Fence(1), Transport::Quic, None);
        let (new, new_ends) = Seat::new(Fence(2), Transport::Tcp, None);
        seats.take(host(), old.clone()).unwrap();
        seats.take(host(), new).unwrap();
        assert!(old_ends.leave.is_cancelled());
        assert_eq!(old_ends.dismissal().code, "session-replaced");
        assert_eq!(seats.take(host(), old).unwrap_err().code, "session-replaced");
        assert!(!new_ends.leave.is_cancelled());
        assert_eq!(seats.of(host()).map(|seat| seat.fence), Some(Fence(2)));
    }

    #[test]
    fn a_replaced_session_does_not_empty_its_successors_seat() {
        let seats = Seats::default();
        seats.take(host(), Seat::new(Fence(1), Transport::Quic, None).0).unwrap();
        seats.take(host(), Seat::new(Fence(2), Transport::Quic, None).0).unwrap();
        seats.leave(host(), Fence(1));
        assert!(seats.of(host()).is_some());
        seats.leave(host(), Fence(2));
        assert!(seats.of(host()).is_none());
    }

    #[test]
    fn a_seat_keeps_the_newest_spec_whatever_the_order() {
        let (seat, ends) = Seat::new(Fence(1), Transport::Quic, None);
        for generation in [3, 5, 4] {
            seat.publish(offer(generation));
        }
        assert_eq!(ends.newest.borrow().as_ref().map(|offer| offer.generation), Some(Generation(5)));
        assert_eq!(seat.handed(), Some(Generation(5)));
    }
}
