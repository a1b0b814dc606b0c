//! Who may not come in, and who is in: what makes a revocation take effect at once.
//!
//! A list of revoked certificates stops handshakes, but not connections that are already open. So every
//! accepted connection is registered here with a way to close it, under the same lock that refuses a denied
//! host: between the two nobody slips through.
//!
//! ```text
//! handshake ok ──► admit ──► live ──► the connection ends, or revoke closes it
//!                    └► denied: closed before the first byte is served
//! ```
//!
//! What is denied is kept by the coordinator's store and told to this registry at start and at each
//! revocation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use launchpad_protocol::id::HostId;

use crate::pipe::PeerInfo;
use crate::serial::Serial;

/// The most connections of one host: three lanes over TCP, as many that died unnoticed, and room for a
/// reconnect or two. One more closes the oldest, so that a host that lost its connections is never locked out
/// by them.
pub const CONNECTIONS_PER_HOST_MAX: usize = 16;

/// Closes one connection, from any thread, without waiting.
pub type Close = Box<dyn Fn() + Send + Sync>;

/// The registry.
#[derive(Default)]
pub struct Admission {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hosts: BTreeSet<HostId>,
    serials: BTreeSet<Serial>,
    live: BTreeMap<HostId, BTreeMap<u64, Close>>,
    next: u64,
}

/// Why a host with a valid certificate is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The host was revoked.
    #[error("{0} was revoked")]
    Host(HostId),
    /// This certificate was revoked.
    #[error("certificate {0} was revoked")]
    Serial(Serial),
}

/// One registered connection. Forgotten here when dropped.
pub struct Live {
    admission: Arc<Admission>,
    host: HostId,
    number: u64,
}

impl Admission {
    /// A registry that denies these hosts and certificates from the start.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = HostId>, serials: impl IntoIterator<Item = Serial>) -> Arc<Self> {
        let state =
            State { hosts: hosts.into_iter().collect(), serials: serials.into_iter().collect(), ..State::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Registers a connection, which `close` closes.
    ///
    /// # Errors
    /// When the host or its certificate is denied; the caller closes the connection.
    pub fn admit(self: &Arc<Self>, peer: &PeerInfo, close: Close) -> Result<Live, Denied> {
        let mut state = self.lock();
        if state.hosts.contains(&peer.host) {
            return Err(Denied::Host(peer.host));
        }
        if state.serials.contains(&peer.serial) {
            return Err(Denied::Serial(peer.serial));
        }
        let number = state.next;
        state.next += 1;
        let live = state.live.entry(peer.host).or_default();
        live.insert(number, close);
        let oldest = if live.len() > CONNECTIONS_PER_HOST_MAX { live.pop_first() } else { None };
        drop(state);
        if let Some((_, close)) = oldest {
            tracing::warn!(host = %peer.host, "too many connections of one host: the oldest is closed");
            close();
        }
        Ok(Live { admission: Arc::clone(self), host: peer.host, number })
    }

    /// Denies the host from now on, and closes what it has open. Returns how many connections that was.
    pub fn revoke_host(&self, host: HostId) -> usize {
        let mut state = self.lock();
        state.hosts.insert(host);
        let live = state.live.remove(&host).unwrap_or_default();
        drop(state);
        close_all(live)
    }

    /// Denies one certificate from now on. A connection that was opened with it stays open.
    pub fn deny_serial(&self, serial: Serial) {
        self.lock().serials.insert(serial);
    }

    /// Closes what the host has open, without denying it: it may come back. Returns how many connections that
    /// was.
    pub fn close_host(&self, host: HostId) -> usize {
        let live = self.lock().live.remove(&host).unwrap_or_default();
        close_all(live)
    }

    /// How many connections the host has open.
    #[must_use]
    pub fn live(&self, host: HostId) -> usize {
        self.lock().live.get(&host).map_or(0, BTreeMap::len)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close_all(live: BTreeMap<u64, Close>) -> usize {
    let count = live.len();
    for close in live.into_values() {
        close();
    }
    count
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        let Some(live) = state.live.get_mut(&self.host) else { return };
        let close = live.remove(&self.number);
        if live.is_empty() {
            state.live.remove(&self.host);
        }
        // What `close` holds on to is let go outside of the lock.
        drop(state);
        drop(close);
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Admission").field("denied", &state.hosts).field("live", &state.live.len()).finish()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("host", &self.host).field("number", &self.number).finish_non_exhaustive()
    }
}
