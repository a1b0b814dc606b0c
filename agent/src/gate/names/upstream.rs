//! The servers that names are asked of: those that we were told, or else the host's own.
//!
//! ```text
//! for each server, the one that answered last first:
//!    datagram ──cut short──► connection ──► an answer that fits the question
//!       │ silent, unreachable, unreadable, or it says that it failed
//!       ▼
//!    the next server; once round, those that were silent are asked once more
//! ```
//! `exchange.rs` speaks with one server, `servers.rs` says which there are. What an answer means is read in
//! `answer.rs`.

mod exchange;
pub(super) mod servers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use launchpad_protocol::reason::Reason;
use tokio::time::{Instant, timeout_at};

use self::exchange::Miss;
use self::servers::Servers;

/// How long one server has for a datagram, or a connection: over the sea and back is 0.3 s, a name that its
/// resolver does not know yet takes twice that.
const TRY_WITHIN: Duration = Duration::from_secs(1);

/// How often a silent server is asked: a datagram may be lost.
const ROUNDS: usize = 2;

/// How long all of it may take: clients wait five seconds (resolv.conf(5)) before they ask again.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Who is asked where a name leads: servers, or a test's stand-in for them.
#[async_trait]
pub(super) trait Upstream: Send + Sync + 'static {
    /// A server's answer to the question for a name's IPv4 addresses.
    ///
    /// # Errors
    /// When none answered, and why.
    async fn ask(&self, name: &Name) -> Result<Message, Reason>;

    /// What is wrong with which server; none: as far as is known it answers.
    fn troubles(&self) -> BTreeMap<SocketAddr, Option<Reason>>;
}

/// Real servers.
#[derive(Debug)]
pub(super) struct Network {
    servers: Servers,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Who answered last.
    last: Option<SocketAddr>,
    /// Who did not.
    troubles: BTreeMap<SocketAddr, Reason>,
}

impl Network {
    /// These servers; none: those that the host itself uses.
    pub(super) fn new(configured: Vec<SocketAddr>) -> Self {
        Self { servers: Servers::new(configured), state: Mutex::default() }
    }

    fn heard(&self, server: SocketAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = Some(server);
        state.troubles.remove(&server);
    }

    fn missed(&self, server: SocketAddr, miss: &Miss) {
        let reason = Reason::new("name-server-silent", format!("name server {server}: {miss}"))
            .mend("correct `--resolver`, or the host's /etc/resolv.conf");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.troubles.insert(server, reason);
    }

    /// The servers, the one that answered last first.
    fn in_order(&self) -> Vec<SocketAddr> {
        let mut servers = self.servers.list(Instant::now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.troubles.retain(|server, _| servers.contains(server));
        if let Some(at) = servers.iter().position(|server| Some(*server) == state.last) {
            servers.rotate_left(at);
        }
        servers
    }
}

#[async_trait]
impl Upstream for Network {
    async fn ask(&self, name: &Name) -> Result<Message, Reason> {
        let until = Instant::now() + ANSWER_WITHIN;
        let mut round = self.in_order();
        let mut said = Vec::new();
        for _ in 0..ROUNDS {
            let mut silent = Vec::new();
            for server in round {
                match timeout_at(until, exchange::ask(server, name, TRY_WITHIN)).await {
                    Ok(Ok(message)) => {
                        self.heard(server);
                        return Ok(message);
                    }
                    Ok(Err(miss)) => {
                        self.missed(server, &miss);
                        silent.extend(miss.may_pass().then_some(server));
                        said.push(format!("{server}: {miss}"));
                    }
                    Err(_) => said.push(format!("{server}: {ANSWER_WITHIN:?} were over")),
                }
            }
            round = silent;
        }
        Err(unanswered(&said))
    }

    fn troubles(&self) -> BTreeMap<SocketAddr, Option<Reason>> {
        let servers = self.in_order();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        servers.into_iter().map(|server| (server, state.troubles.get(&server).cloned())).collect()
    }
}

fn unanswered(said: &[String]) -> Reason {
    if said.is_empty() {
        return Reason::new(
            "name-server-missing",
            "this host knows no name server that the bots' names could be asked of",
        )
        .mend("name one by `--resolver`, or in the host's /etc/resolv.conf");
    }
    Reason::new("name-server-silent", "no name server answers the bots' questions")
        .because(said.join("; "))
        .mend("correct `--resolver`, or the host's /etc/resolv.conf")
}
