//! All that the process touches beside its files, its database and its sockets: time, chance, and who wants to know
//! where it listens.
//!
//! `main.rs` and the tests build one; everything inside takes its clock and its chance from here.

use std::net::SocketAddr;

use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::time::Clock;
use tokio::sync::watch;

/// The world around one coordinator.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Wall and boot time.
    pub clock: Clock,
    /// Ids, jitter and backoff. Keys come from the TLS provider instead.
    pub entropy: Entropy,
    /// Told once every listener is bound: with port 0 nobody knows earlier.
    pub listening: watch::Sender<Option<Addresses>>,
}

/// Where a coordinator listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The HTTP API.
    pub http: SocketAddr,
    /// The fleet link, over UDP and TCP.
    pub fleet: SocketAddr,
    /// Enrolment.
    pub enroll: SocketAddr,
}

impl Outside {
    /// The machine's own clock and chance.
    #[must_use]
    pub fn machine() -> Self {
        Self { clock: Clock::machine(), entropy: Entropy::system(), listening: watch::Sender::new(None) }
    }
}
