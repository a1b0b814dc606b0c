//! The gate's socket: the agent alone talks to it, on its own host, as root.
//!
//! Each connection carries one line of JSON there and one back ([`super::talk`]). What is asked goes to the keeper; what
//! ingress and names have to say is added here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ingress::Ingress;
use super::keeper::Keeper;
use super::names::Names;
use super::policy::Change;
use super::talk::{InstanceSight, Look, REQUEST_MAX_BYTES, Request, Response};

/// Connections at once: the agent has one that waits, and one for each bot that it starts just now.
const CONNECTIONS_MAX: usize = 64;

/// How long one exchange may take but for waiting: a batch of rules on a machine that swaps.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(60);

/// How long somebody may wait for something new: then he is answered all the same, and asks again if he is still there.
pub const AWAIT_MAX: Duration = Duration::from_secs(30);

/// How soon a fault of ingress or names is noticed: comparing what they have in memory takes a full host's gate five
/// milliseconds.
const NOTICE_EVERY: Duration = Duration::from_secs(5);

/// After the operating system refused to accept, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is wrong with names, by tenant, and with the way in, by instance.
type Faults = (BTreeMap<AccountId, Option<Reason>>, BTreeMap<DeploymentId, Reason>);

/// Who answers.
#[derive(Clone)]
pub struct Desk {
    /// Who holds the rules.
    pub keeper: Keeper,
    /// Who answers bots about names.
    pub names: Names,
    /// Who answers Caddy.
    pub ingress: Ingress,
    /// Where the host takes traffic for its bots.
    pub public_addresses: Arc<BTreeSet<String>>,
}

impl Desk {
    /// Answers until `stop`.
    pub async fn serve(self, listener: UnixListener, stop: CancellationToken) {
        let mut exchanges = JoinSet::new();
        let mut notices = interval(NOTICE_EVERY);
        notices.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut faults = Faults::default();
        loop {
            // All can be dropped half-way: a connection that was not accepted stays in the listener's queue.
            tokio::select! {
                biased; // The end is the end, whatever else is ready.
                () = stop.cancelled() => return,
                Some(_) = exchanges.join_next() => {}
                _ = notices.tick() => {
                    let now = self.faults();
                    if now != faults {
                        faults = now;
                        self.keeper.ring();
                    }
                }
                accepted = listener.accept(), if exchanges.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let desk = self.clone();
                        exchanges.spawn(async move {
                            if let Err(error) = desk.exchange(stream).await {
                                tracing::debug!(%error, "a request on the gate's socket was given up");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection on the gate's socket");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// What is wrong with names, and with ingress.
    fn faults(&self) -> Faults {
        let instances: Vec<DeploymentId> = self.keeper.policy().borrow().instances.keys().copied().collect();
        let ingress = instances.into_iter().filter_map(|id| Some((id, self.ingress.sight(id).fault?)));
        (self.names.look().tenants, ingress.collect())
    }

    /// One request, one response. An error means that nobody is there to tell.
    async fn exchange(&self, stream: UnixStream) -> io::Result<()> {
        let caller = stream.peer_cred()?.uid();
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        let mut lines = BufReader::new(read.take(REQUEST_MAX_BYTES));
        timeout(EXCHANGE_WITHIN, lines.read_line(&mut line)).await??;
        let response = if caller == 0 || caller == nix::unistd::geteuid().as_raw() {
            match serde_json::from_str(&line) {
                Ok(request) => self.respond(request).await,
                Err(error) => refused(
                    Reason::new("request-malformed", "the gate was asked something that it does not understand")
                        .because(error.to_string())
                        .mend("`systemctl restart launchpad-gate`: it is older than the agent"),
                ),
            }
        } else {
            refused(Reason::new("not-root", "only root may talk to the gate"))
        };
        let mut line = serde_json::to_vec(&response).map_err(io::Error::other)?;
        line.push(b'\n');
        timeout(EXCHANGE_WITHIN, write.write_all(&line)).await??;
        write.shutdown().await
    }

    async fn respond(&self, request: Request) -> Response {
        let answered = match request {
            Request::Change(change) => self.change(change).await,
            Request::Look => self.keeper.look().await.map(|look| Response::Seen(Box::new(self.whole(look)))),
            Request::Await { standing } => Ok(self.news(standing).await),
        };
        answered.unwrap_or_else(refused)
    }

    async fn change(&self, change: Change) -> Result<Response, Reason> {
        let put = if let Change::PutInstance { deployment, .. } = &change { Some(*deployment) } else { None };
        let sight = self.keeper.change(change).await?;
        let told = put.zip(sight).map(|(deployment, sight)| Response::Told(self.with_ingress(deployment, sight)));
        Ok(told.unwrap_or(Response::Done))
    }

    /// What the keeper sees, with what it does not.
    fn whole(&self, look: Look) -> Look {
        let deaf = self.names.look().tenants;
        let Look { standing, tenants, instances, denials, mut report, never } = look;
        report.ingress_addresses = (*self.public_addresses).clone();
        let tenants = tenants.into_iter().map(|(account, mut sight)| {
            sight.fault = sight.fault.or_else(|| deaf.get(&account).cloned().flatten());
            (account, sight)
        });
        let instances =
            instances.into_iter().map(|(deployment, sight)| (deployment, self.with_ingress(deployment, sight)));
        Look { standing, tenants: tenants.collect(), instances: instances.collect(), denials, report, never }
    }

    fn with_ingress(&self, deployment: DeploymentId, sight: InstanceSight) -> InstanceSight {
        let ingress = self.ingress.sight(deployment);
        InstanceSight { ingress_fault: ingress.fault, ingress_seen: ingress.seen, ..sight }
    }

    async fn news(&self, seen: Option<u64>) -> Response {
        let mut standing = self.keeper.standing();
        // Past the end of the time, or of the gate: the answer is the same as without news.
        let _ = timeout(AWAIT_MAX, standing.wait_for(|now| Some(*now) != seen)).await;
        Response::Changed { standing: *standing.borrow() }
    }
}

const fn refused(reason: Reason) -> Response {
    Response::Refused { reason }
}
