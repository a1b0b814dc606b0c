//! Ears on every tenant's gateway address, and on no other: a datagram socket and a listener for connections
//! each.
//!
//! ```text
//! policy ─► tenants ─► post per tenant { udp.rs, tcp.rs } ─► Clerk
//!    ▲                   │ cannot listen, or has ended: again within a second
//!    └── a change, or time ◄┘
//! ```
//! A post listens before its bridge exists and stays when that is made anew (IP_FREEBIND), so that bridges
//! and posts come in any order. Rules keep others away from the port; who asks all the same is refused by his
//! address.

mod sockets;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::clerk::Clerk;
use super::turnstile::Turnstile;
use crate::gate::policy::{GatePolicy, TenantGate};

/// Between two attempts to listen where that failed: another server may have let go of the port.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at posts that nobody has said anything about.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Connections at once, of all bots: clients open one where a datagram does not do, and close it.
const CONNECTIONS_MAX: usize = 256;

/// Connections of one bot.
const CONNECTIONS_PER_BOT_MAX: usize = 8;

/// What is wrong with each tenant's post; nothing: its bots are answered.
pub(super) type Troubles = Mutex<BTreeMap<AccountId, Option<Reason>>>;

/// All posts.
pub(super) struct Posts {
    clerk: Arc<Clerk>,
    port: u16,
    connections: Arc<Mutex<Turnstile>>,
    standing: BTreeMap<AccountId, Post>,
}

/// One tenant's two ears. They end when this is dropped.
struct Post {
    gateway: Ipv4Addr,
    udp: AbortOnDropHandle<()>,
    tcp: AbortOnDropHandle<()>,
}

impl Post {
    fn is_heard_at(&self, gateway: Ipv4Addr) -> bool {
        self.gateway == gateway && !self.udp.is_finished() && !self.tcp.is_finished()
    }
}

impl Posts {
    pub(super) fn new(clerk: Arc<Clerk>, port: u16) -> Self {
        let connections = Turnstile::new(CONNECTIONS_MAX, CONNECTIONS_PER_BOT_MAX);
        Self { clerk, port, connections, standing: BTreeMap::new() }
    }

    /// Follows the policy until `stop`.
    pub(super) async fn run(
        mut self,
        mut policy: watch::Receiver<Arc<GatePolicy>>,
        troubles: &Troubles,
        stop: CancellationToken,
    ) {
        // Whoever changes the policy may be gone; what stands is looked after all the same.
        let mut is_told = true;
        loop {
            let tenants = policy.borrow_and_update().tenants.clone();
            let found = self.arrange(&tenants);
            let again = if found.values().any(Option::is_some) { RETRY_EVERY } else { LOOK_EVERY };
            *troubles.lock().unwrap_or_else(PoisonError::into_inner) = found;
            // All three can be dropped at any point: each round reads the policy anew.
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(again) => {}
                changed = policy.changed(), if is_told => is_told = changed.is_ok(),
            }
        }
    }

    /// Has a post for each tenant, and for nobody else; says what is in the way of which.
    fn arrange(&mut self, tenants: &BTreeMap<AccountId, TenantGate>) -> BTreeMap<AccountId, Option<Reason>> {
        let is_right = |account: &AccountId, post: &Post| {
            tenants.get(account).is_some_and(|tenant| post.is_heard_at(tenant.gateway()))
        };
        // Before any is made: an address may have gone from one tenant to another.
        self.standing.retain(|account, post| is_right(account, post));
        let mut troubles = BTreeMap::new();
        for (account, tenant) in tenants {
            let trouble = match self.standing.contains_key(account) {
                true => None,
                false => self.post(*account, tenant.gateway()).err(),
            };
            let at = SocketAddrV4::new(tenant.gateway(), self.port);
            troubles.insert(*account, trouble.map(|error| deaf(at, &error)));
        }
        troubles
    }

    fn post(&mut self, account: AccountId, gateway: Ipv4Addr) -> io::Result<()> {
        let at = SocketAddrV4::new(gateway, self.port);
        let (datagrams, connections) = (sockets::datagrams(at)?, sockets::connections(at)?);
        let udp = udp::answer(Arc::clone(&self.clerk), account, datagrams);
        let tcp = tcp::answer(Arc::clone(&self.clerk), account, connections, Arc::clone(&self.connections));
        let [udp, tcp] = [tokio::spawn(udp), tokio::spawn(tcp)].map(AbortOnDropHandle::new);
        self.standing.insert(account, Post { gateway, udp, tcp });
        Ok(())
    }
}

fn deaf(at: SocketAddrV4, error: &io::Error) -> Reason {
    let reason =
        Reason::new("names-deaf", format!("the bots' name server cannot listen on {at}")).because(error.to_string());
    if error.kind() == io::ErrorKind::AddrInUse {
        return reason.mend("have the host's own name server listen on its own addresses instead of on all");
    }
    reason.mend("the gate tries again every second")
}
