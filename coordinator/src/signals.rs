//! Who wakes whom, so that a change need not wait for anybody's timer.
//!
//! ```text
//!   app ── placer ──► jobs::placer ── compiler ──► jobs::compiler ── publisher ──► fleet::publish
//!    └──── compiler (restart, delete) ──►                 fleet::view ── timeline ──► whoever follows a deployment
//! ```
//! A signal is a hint and never the truth: a loop that wakes rereads the store, and wakes by a timer too. A signal that
//! is lost (a crash after the commit, another replica) costs that interval and nothing else.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// The signals of one coordinator. Clones are the same signals.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// A deployment wants a host, or a host has room.
    pub placer: Signal,
    /// A host's desired state has changed.
    pub compiler: Signal,
    /// A host has a newer spec.
    pub publisher: Signal,
    /// Agents are wanted of another version.
    pub upgrader: Signal,
    /// Another key that wraps is wanted.
    pub rotator: Signal,
    /// A round of the compiler is over, well or not: what systemd takes for the coordinator's pulse.
    pub compiled: Bell,
    /// Something of a deployment has changed that people may be watching.
    pub timeline: Bell,
}

/// Wakes the one loop that waits for it. A signal given while that loop is busy is kept, and several become one.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<Notify>);

impl Signal {
    /// Wakes the loop.
    pub fn notify(&self) {
        self.0.notify_one();
    }

    /// Waits for the signal. Cancel-safe: a signal that is not taken is found at the next wait.
    pub async fn notified(&self) {
        self.0.notified().await;
    }
}

/// Wakes everybody who listens.
#[derive(Debug, Clone)]
pub struct Bell(watch::Sender<u64>);

impl Bell {
    /// Wakes all listeners.
    pub fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// Listens from now on; `changed()` answers once for any number of rings since it was last asked.
    #[must_use]
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_signal_given_while_nobody_waits_is_kept_once() {
        let signal = Signal::default();
        signal.notify();
        signal.clone().notify();
        signal.notified().await;
        let again = tokio::time::timeout(Duration::from_millis(1), signal.notified()).await;
        assert!(again.is_err(), "two signals became one");
    }

    #[tokio::test]
    async fn a_bell_wakes_everybody_who_listens() {
        let bell = Bell::default();
        let (mut one, mut other) = (bell.listen(), bell.listen());
        bell.ring();
        assert!(one.changed().await.is_ok() && other.changed().await.is_ok());
    }
}
