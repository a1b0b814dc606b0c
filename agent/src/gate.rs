//! The gate: what bots may reach, and what may reach them. A process of its own (`launchpad-agent gate`), because bots
//! outlive the agent: its rules, its name server and its directory stay while the agent is stopped, upgraded or gone.
//!
//! ```text
//! agent ── gate.sock ──► socket ─► keeper ─► policy (on disk) ─┬─► rules, routes ─► nftables, ip rule
//!                                    ▲                         ├─► names: DNS for bots ─► a timed set, then the answer
//!                                    │                         └─► ingress: Caddy asks which bot a public name leads to
//! kernel ── netlink ───► watch ──────┘ whatever somebody took away is put back
//! ```
//! **No mark, no route.** nftables marks what a bot may send; a routing rule per bridge drops everything of it that
//! carries no mark. So a ruleset that somebody flushed, or a gate that is dead, lets nothing out.
//!
//! Only the gate writes `inet launchpad` and our routing rules; Docker's tables are never touched. In the order of a
//! change's journey: [`talk`] · [`socket`] · [`keeper`] · [`policy`], [`state`] · [`rules`], [`admitted`] · [`kernel`]
//! ([`nft`], [`listing`], [`netfilter`], [`routes`], [`netlink`]) · [`watch`] · [`denials`].

pub mod talk;

pub mod keeper;
pub mod policy;
pub mod socket;
pub mod state;

pub mod admitted;
pub mod kernel;
pub mod listing;
pub mod netfilter;
pub mod netlink;
pub mod nft;
pub mod routes;
pub mod rules;

pub mod denials;
pub mod watch;

pub mod ingress;
pub mod names;
pub mod ports;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use tokio_util::sync::CancellationToken;

use crate::disk::{Disk, DiskError};
use crate::socket::SocketError;
use ingress::Ingress;
use ingress::options::IngressArgs;
use keeper::Keeper;
use kernel::Kernel;
use names::Names;
use socket::Desk;
use state::State;
use watch::{Own, Watch};

/// What a gate is told when it starts.
#[derive(Debug, Clone)]
pub struct GateConfig {
    /// What outlives a boot.
    pub data_dir: PathBuf,
    /// Where its socket is.
    pub run_dir: PathBuf,
    /// Name servers that it asks for bots; none: the host's own.
    pub resolvers: Vec<SocketAddr>,
    /// Addresses or names at which the host takes traffic for its bots, for their owners' DNS records.
    pub public_addresses: BTreeSet<String>,
    /// The way in.
    pub ingress: IngressArgs,
}

/// Why a gate cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// What it was told before cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel lacks something.
    #[error(transparent)]
    Kernel(#[from] Reason),
}

/// Runs a gate in this process's network namespace until `stop`. Every rule stays in place when it ends, however it ends.
///
/// # Errors
/// [`GateError`] when it cannot begin; no rule has been touched then. What fails later is tried again, and told.
pub async fn run(config: GateConfig, clock: Clock, stop: CancellationToken) -> Result<(), GateError> {
    let disk = Disk::open(&config.data_dir)?;
    let state = State::read(&disk)?;
    let own = Arc::new(Own::default());
    let kernel = Kernel::open(Arc::clone(&own))?;
    let watch = Watch::start(kernel.routes_port())?;
    let (listener, _) = crate::socket::bind(&config.run_dir, talk::SOCKET, "launchpad-agent gate")?;
    let (keeper, keeping) = Keeper::new(kernel, own, state, disk, clock);
    let setting = names::Setting { upstreams: config.resolvers, ..names::Setting::default() };
    let names = Names::new(setting, keeper.policy(), Arc::new(keeper.clone()), Arc::new(keeper.clone()));
    let ingress = Ingress::new(config.ingress, keeper.policy());
    let bell = keeper.clone();
    let desk = Desk {
        keeper,
        names: names.clone(),
        ingress: ingress.clone(),
        public_addresses: Arc::new(config.public_addresses),
    };
    tokio::join!(
        keeping.run(watch, stop.clone()),
        names.serve(stop.clone()),
        ring_for(ingress.clone(), bell, stop.clone()),
        ingress.run(stop.clone()),
        desk.serve(listener, stop),
    );
    Ok(())
}

/// Rings when public names begin, or cease, to lead to bots.
async fn ring_for(ingress: Ingress, bell: Keeper, stop: CancellationToken) {
    while stop.run_until_cancelled(ingress.changed()).await.is_some() {
        bell.ring();
    }
}
