//! The agent's side of the gate: what it is told, what it answers, and when it has something new to tell.
//!
//! `network.rs` tells tenants and `docker.rs` instances; `sight.rs` looks. The gate is another process
//! ([`crate::gate`]): while it is away nothing new is started, and what runs runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::ExecuteError;
use super::address::Subnet;
use super::events::Board;
use super::network::Placed;
use crate::gate::policy::{Change, TenantGate};
use crate::gate::socket::AWAIT_MAX;
use crate::gate::talk::{InstanceSight, Look, RESPONSE_MAX_BYTES, Request, Response, SOCKET};
use crate::observe::GateSight;

/// How long the gate may take to do something: a batch of rules for many tenants, on a machine that swaps.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to tell: everything waits for this that looks at the host.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// Before the first attempt to reach a gate that went away: it is away for a moment when it is upgraded.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Between later attempts.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// The code of the reason that the gate does not answer.
pub const GATE_AWAY: &str = "gate-away";

/// How the gate is reached.
#[derive(Debug, Clone)]
pub struct GateClient {
    socket: PathBuf,
}

impl GateClient {
    /// The gate that has its socket in that directory.
    #[must_use]
    pub fn at(run_dir: &Path) -> Self {
        Self { socket: run_dir.join(SOCKET) }
    }

    /// Changes what the gate lets through. For an instance that was put, how it stands.
    ///
    /// # Errors
    /// When it does not answer, or does not do it.
    pub async fn change(&self, change: Change) -> Result<Option<InstanceSight>, ExecuteError> {
        match self.ask(&Request::Change(change), CHANGE_WITHIN).await.map_err(ExecuteError::Passing)? {
            Response::Told(sight) => Ok(Some(sight)),
            Response::Done | Response::Seen(_) | Response::Changed { .. } => Ok(None),
            Response::Refused { reason } => Err(ExecuteError::Passing(reason)),
        }
    }

    /// Everything that the gate knows, as it is in the kernel now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn look(&self) -> Result<Look, Reason> {
        match self.ask(&Request::Look, LOOK_WITHIN).await? {
            Response::Seen(look) => Ok(*look),
            Response::Refused { reason } => Err(reason),
            Response::Done | Response::Told(_) | Response::Changed { .. } => {
                Err(self.away("it answers something else than it was asked"))
            }
        }
    }

    /// Waits until there is more to see than that, or a while; what there is to see then.
    ///
    /// # Errors
    /// When it does not answer.
    async fn news(&self, standing: Option<u64>) -> Result<u64, Reason> {
        match self.ask(&Request::Await { standing }, AWAIT_MAX + LOOK_WITHIN).await? {
            Response::Changed { standing } => Ok(standing),
            Response::Refused { reason } => Err(reason),
            Response::Done | Response::Told(_) | Response::Seen(_) => {
                Err(self.away("it answers something else than it was asked"))
            }
        }
    }

    async fn ask(&self, request: &Request, within: Duration) -> Result<Response, Reason> {
        match timeout(within, self.exchange(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.away(&error.to_string())),
            Err(_) => Err(self.away(&format!("no answer within {} s", within.as_secs()))),
        }
    }

    async fn exchange(&self, request: &Request) -> io::Result<Response> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        BufReader::new(stream.take(RESPONSE_MAX_BYTES)).read_until(b'\n', &mut answer).await?;
        if answer.is_empty() {
            return Err(io::Error::other("it hung up"));
        }
        serde_json::from_slice(&answer).map_err(io::Error::other)
    }

    fn away(&self, cause: &str) -> Reason {
        Reason::new(
            GATE_AWAY,
            "the gate does not answer: no bot is let out anew, and those that run stay as they are",
        )
        .because(format!("{}: {cause}", self.socket.display()))
        .mend("systemctl start launchpad-gate")
    }
}

/// What the gate is told of a tenant's network.
///
/// # Errors
/// Never for a subnet and a bridge of ours.
pub fn tenant(bridge: String, subnet: Subnet) -> Result<TenantGate, ExecuteError> {
    let range = launchpad_protocol::egress::Cidr::new(subnet.base(), subnet.bits());
    let subnet = range.ok_or_else(|| {
        ExecuteError::Passing(Reason::new("network-malformed", format!("{subnet} is no range of addresses")))
    })?;
    Ok(TenantGate { bridge, subnet })
}

/// Whether a tenant's rules stand, around that network.
#[must_use]
pub fn stands(look: &Look, account: AccountId, bridge: &str, subnet: Subnet) -> bool {
    look.tenants.get(&account).is_some_and(|sight| {
        let told = &sight.told;
        let same =
            told.bridge == bridge && (told.subnet.base(), told.subnet.bits()) == (subnet.base(), subnet.bits());
        same && sight.fault.is_none()
    })
}

/// Every instance that the gate knows; one that it knows at another address than the bot has counts as not told of.
#[must_use]
pub fn sights(look: &Look, placed: &BTreeMap<DeploymentId, Placed>) -> BTreeMap<DeploymentId, GateSight> {
    let is_right = |deployment, sight: &InstanceSight| {
        placed.get(deployment).is_some_and(|placed| placed.address == sight.address)
    };
    let right = look.instances.iter().filter(|(deployment, sight)| is_right(deployment, sight));
    right.map(|(deployment, sight)| (*deployment, sighted(sight.clone()))).collect()
}

fn sighted(sight: InstanceSight) -> GateSight {
    let InstanceSight { told, address: _, egress_fault, ingress_fault, egress_seen, ingress_seen } = sight;
    GateSight { told, egress_fault, ingress_fault, egress_seen, ingress_seen }
}

/// The task that waits for the gate's news, and marks what was seen as stale.
#[derive(Debug)]
pub struct GateWatch {
    _task: AbortOnDropHandle<()>,
}

impl GateWatch {
    /// Listens until this is dropped.
    #[must_use]
    pub fn start(gate: GateClient, board: Arc<Board>) -> Self {
        Self { _task: AbortOnDropHandle::new(tokio::spawn(listen(gate, board))) }
    }
}

async fn listen(gate: GateClient, board: Arc<Board>) {
    let mut pause = RETRY_FIRST;
    // None: it was away, as far as anybody was told.
    let mut seen: Option<u64> = None;
    loop {
        match gate.news(seen).await {
            Ok(standing) => {
                pause = RETRY_FIRST;
                if seen != Some(standing) {
                    board.mark(|stale| stale.rest = true);
                }
                seen = Some(standing);
            }
            Err(reason) => {
                if seen.take().is_some() {
                    tracing::warn!(%reason, "the gate went away");
                    board.mark(|stale| stale.rest = true);
                }
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_CAP);
            }
        }
    }
}

/// How often the coordinators' addresses are looked up, and compared with what the gate was told: they move seldom, and a
/// gate that lost its state is told again by then.
const LOOK_UP_EVERY: Duration = Duration::from_secs(300);

/// Keeps the gate told of addresses that no bot may ever reach, until the handle is dropped: those of the coordinators,
/// as `HOST:PORT`. A name that does not resolve now keeps the addresses that it had.
pub fn keep_away(gate: GateClient, coordinators: impl Fn() -> Vec<String> + Send + 'static) -> AbortOnDropHandle<()> {
    let mut known: BTreeMap<String, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    let task = async move {
        loop {
            let named = coordinators();
            known.retain(|name, _| named.contains(name));
            for name in named {
                let found = tokio::net::lookup_host(&name).await.map(|found| found.filter_map(ipv4).collect());
                match found {
                    Ok(found) => drop(known.insert(name, found)),
                    Err(error) => tracing::warn!(%error, name, "cannot look up a coordinator that no bot may reach"),
                }
            }
            let pause = match deny(&gate, known.values().flatten().copied().collect()).await {
                Ok(()) => LOOK_UP_EVERY,
                Err(_) => RETRY_CAP,
            };
            sleep(pause).await;
        }
    };
    AbortOnDropHandle::new(tokio::spawn(task))
}

async fn deny(gate: &GateClient, addresses: BTreeSet<Ipv4Addr>) -> Result<(), ExecuteError> {
    let told = gate.look().await.map_err(ExecuteError::Passing)?.never;
    if told == addresses { Ok(()) } else { gate.change(Change::PutNever { addresses }).await.map(drop) }
}

fn ipv4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address.ip().to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
