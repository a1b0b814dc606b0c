//! The bots' name server: it answers a bot with the addresses of names that its rules allow, after the kernel
//! lets the bot go there. Nothing else is answered, and no other name ever leaves this host.
//!
//! ```text
//!             gateway:53                                                         --resolver, or
//!  bot ─────► listen ─► question ─► verdict ─► cache ──not there──► upstream ──► the host's own servers
//!   ▲                      │           │         │                     │
//!   │                      │           │         ▼                     ▼
//!   └──────── reply ◄──────┴───────────┴────── grants ◄── inside ── answer
//!                                                │ not open long enough
//!                                                ▼
//!                                         ports::Admits (nftables), and only then the reply
//! ```
//! `clerk.rs` leads a question along this way. Pure, with the time as an argument: `question`, `verdict`,
//! `answer`, `lifetime`, `cache`, `grants`, `turnstile`, `reply`. The rest speaks with the outside: `listen`,
//! `upstream`, `inside`.
//!
//! [`crate::gate`] starts it in its own process, which outlives the agent. One thread answers all; a bot that
//! asks for much waits behind itself (`turnstile.rs`). The codec is hickory's; its server and its resolver
//! are not used, because they start a task for every datagram, and would add as much code as a tenth of the
//! agent.

mod answer;
mod cache;
mod clerk;
mod grants;
mod inside;
mod lifetime;
mod listen;
mod look;
mod question;
mod reply;
mod seldom;
mod turnstile;
mod upstream;
mod verdict;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::clerk::Clerk;
use self::listen::{Posts, Troubles};
pub use self::look::{Failure, NamesLook, Tally};
pub use self::upstream::servers::{ServerError, server};
use self::upstream::{Network, Upstream};
use super::policy::GatePolicy;
use super::ports::{Admits, Witnesses};

/// Where name servers listen (RFC 1035 §4.2).
pub const PORT: u16 = 53;

/// What the name server is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The servers that names are asked of, the first three; none: those that the host itself uses, as they
    /// change.
    pub upstreams: Vec<SocketAddr>,
    /// Where it listens on each gateway: [`PORT`], but in tests.
    pub port: u16,
}

impl Default for Setting {
    fn default() -> Self {
        Self { upstreams: Vec::new(), port: PORT }
    }
}

/// The name server. Clones are the same one.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    policy: watch::Receiver<Arc<GatePolicy>>,
    upstream: Arc<dyn Upstream>,
    clerk: Arc<Clerk>,
    port: u16,
    troubles: Troubles,
}

impl Names {
    /// One that follows that policy, has the kernel's keeper let addresses pass, and tells the witness what
    /// it refused.
    #[must_use]
    pub fn new(
        setting: Setting,
        policy: watch::Receiver<Arc<GatePolicy>>,
        admits: Arc<dyn Admits>,
        witnesses: Arc<dyn Witnesses>,
    ) -> Self {
        let upstream: Arc<dyn Upstream> = Arc::new(Network::new(setting.upstreams));
        let clerk = Arc::new(Clerk::new(policy.clone(), admits, witnesses, Arc::clone(&upstream)));
        let troubles = Mutex::new(BTreeMap::new());
        Self(Arc::new(Inner { policy, upstream, clerk, port: setting.port, troubles }))
    }

    /// Listens on the gateway of every tenant of the policy, and answers, until `stop`. What stands in the
    /// way of a tenant is shown by [`Self::look`] and tried again. To be run once.
    pub async fn serve(self, stop: CancellationToken) {
        let posts = Posts::new(Arc::clone(&self.0.clerk), self.0.port);
        posts.run(self.0.policy.clone(), &self.0.troubles, stop).await;
    }

    /// How it is doing.
    #[must_use]
    pub fn look(&self) -> NamesLook {
        let (tally, remembered, waiting) = self.0.clerk.tally();
        let tenants = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        NamesLook { servers: self.0.upstream.troubles(), tenants, remembered, waiting, tally }
    }
}
