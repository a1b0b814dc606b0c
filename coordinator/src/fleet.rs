//! The fleet's side of the coordinator: one session per connected host.
//!
//! ```text
//!           enrolment listener                         fleet listener (mutual TLS; QUIC or TCP)
//!                  │ token, CSR                               │ one pipe a lane, and whose it is
//!                  ▼                                          ▼
//!   enroll ── a host and its certificate ──► store ◄── service ── Control ──► session ◄── seats ◄── publish
//!   renew  ── the next certificate ────────►   ▲                  │ Answer      │ Hello: admit     (newest spec)
//!                                              │                  ▼             │ Report: view
//!   certificates ── revoked? cut ──────────────┘                query ◄─ asks   ▼
//!                                                                             store
//! ```
//! `app` and `jobs` hold a [`Fleet`]: ask a host something, see whether it is connected, say that something was
//! revoked. [`server::FleetServer`] is what [`crate::run`] binds and runs. Reading order: `server`, `service`,
//! `session`, `admit`, `view`, `publish`, `seats`, `query`; then `enroll`, `join`, `renew`, `certificates`.
//!
//! A host is who its certificate says, never what a message says. Nothing here decides what a host should be: that is
//! compiled by `jobs`, from rules in `domain`.

pub mod server;

pub(crate) mod pipes;
mod service;
mod session;

mod admit;
mod crowd;
mod publish;
mod view;

pub mod query;
mod seats;
mod twins;

mod enroll;

mod join;
mod renew;

mod challenge;
mod issue;

mod certificates;
mod trust;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::pipe::Transport;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::frame::Question;
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use tokio::sync::Notify;

use crowd::Crowd;
use query::{Answers, Asker, Asks};
use seats::Seats;
use twins::Twins;

/// What the rest of the coordinator wants of the fleet. Clones are the same fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    clock: Clock,
    entropy: Entropy,
    seats: Arc<Seats>,
    twins: Arc<Twins>,
    asks: Arc<Asks>,
    revoked: Arc<Notify>,
    crowd: Crowd,
}

impl Fleet {
    /// A fleet of which no host is connected yet.
    #[must_use]
    pub fn new(clock: Clock, entropy: Entropy) -> Self {
        let (seats, twins, asks) = (Arc::default(), Arc::default(), Arc::default());
        Self { clock, entropy, seats, twins, asks, revoked: Arc::default(), crowd: Crowd::default() }
    }

    /// Puts a question to a host. The answer comes as the host gives it, and ends at the deadline at the latest.
    ///
    /// # Errors
    /// When the host is not connected here ([`query::HOST_OFFLINE`]), or it or the asker has too many questions in flight.
    pub fn ask(&self, host: HostId, asker: Asker, question: Question, deadline: Duration) -> Result<Answers, Reason> {
        let seat = self.seats.of(host).ok_or_else(query::host_left)?;
        self.asks.ask((host, seat), asker, self.entropy.id(self.clock.wall()), question, deadline)
    }

    /// What carries the host's session, if it is connected here.
    #[must_use]
    pub fn connected(&self, host: HostId) -> Option<Transport> {
        self.seats.of(host).map(|seat| seat.transport)
    }

    /// What is wrong with the host's identity, if two machines have it.
    #[must_use]
    pub fn twins(&self, host: HostId) -> Option<Reason> {
        self.twins.of(host, self.clock.wall())
    }

    /// All hosts that are connected here.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<HostId> {
        self.seats.all().into_keys().collect()
    }

    /// To be called after a revocation is committed: its connections are cut at once. Without the call they are cut
    /// when the store is next reread.
    pub fn revoked(&self) {
        self.revoked.notify_one();
    }

    /// To be called after a rotation of the CA was moved on or back: the doors go by it at once.
    pub fn ca_changed(&self) {
        self.revoked.notify_one();
    }
}
