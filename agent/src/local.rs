//! The agent's own host talks to it here: a unix socket for root alone, also when no coordinator answers.
//!
//! ```text
//! launchpad-agent status|plan|stop|start          status.rs: one line of JSON there, one back
//!        │  RUN_DIR/agent.sock (0600)
//!        ▼
//!      serve ──► LocalRequest ──► the reconciler, which writes a local stop down before it answers
//! ```
//! A local stop holds across restarts of everything until `start`, or a new revision, takes it back.
//! Whoever can open the socket is root already: there is no other authentication, and no order that root could not
//! carry out with Docker directly.

pub mod lock;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::VERSION;
use crate::identity::Enrolled;
use crate::link::ports::LinkStatus;
use crate::reconcile::request::LocalRequest;
use crate::socket::{self, SocketError};

/// The socket's name in the run directory.
pub const SOCKET: &str = "agent.sock";

/// Connections at once: people, not programs, ask here.
const CONNECTIONS_MAX: usize = 8;

/// Bytes of one request: the longest has an id in it.
const REQUEST_MAX_BYTES: u64 = 4 * 1024;

/// How long one exchange may take: the reconciler answers an order within one turn of its loop.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(30);

/// After the operating system refused to accept, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Requests that wait for the reconciler: one per connection.
pub const REQUESTS_QUEUED: usize = CONNECTIONS_MAX;

/// What may be asked on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Request {
    /// Tell everything that the agent knows.
    Status,
    /// Say what is about to be done, line by line.
    Plan,
    /// Keep this bot stopped.
    Stop {
        /// Which.
        deployment: DeploymentId,
    },
    /// Do so no longer.
    Start {
        /// Which.
        deployment: DeploymentId,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Response {
    /// Everything that the agent knows.
    Status(Box<Status>),
    /// The reconciler did it, or tells it.
    Done {
        /// For people: a sentence, or a plan.
        text: String,
    },
    /// It was not done.
    Refused {
        /// Why.
        reason: Reason,
    },
}

/// Everything that the agent knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's process.
    pub pid: u32,
    /// Its version.
    pub agent_version: String,
    /// The host's id.
    pub host: HostId,
    /// What the host is called.
    pub name: String,
    /// Whether the coordinator answers.
    pub link: LinkStatus,
    /// When the host's certificate expires; it is renewed long before.
    pub certificate_expires: Option<Moment>,
    /// The newest report; none until the host was observed once.
    pub report: Option<Box<HostReport>>,
}

/// The socket, before it is served.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Who the host is, and who is asked.
#[derive(Debug, Clone)]
pub struct LocalView {
    /// Who the host is.
    pub enrolled: Arc<Enrolled>,
    /// The reconciler.
    pub reconciler: mpsc::Sender<LocalRequest>,
}

impl LocalSocket {
    /// Makes the socket, in place of one that a killed agent left.
    ///
    /// # Errors
    /// When another agent answers on it, or the operating system refuses.
    pub fn bind(run_dir: &Path) -> Result<Self, SocketError> {
        let (listener, path) = socket::bind(run_dir, SOCKET, "launchpad-agent")?;
        Ok(Self { listener, path })
    }

    /// Answers until `stop`, then takes the socket away.
    pub async fn serve(self, view: LocalView, stop: CancellationToken) {
        let mut exchanges = JoinSet::new();
        loop {
            // Both can be dropped half-way: a connection that was not accepted stays in the listener's queue.
            tokio::select! {
                biased; // The end is the end, whatever else is ready.
                () = stop.cancelled() => break,
                Some(_) = exchanges.join_next() => {}
                accepted = self.listener.accept(), if exchanges.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let view = view.clone();
                        exchanges.spawn(async move {
                            if let Err(error) = timeout(EXCHANGE_WITHIN, exchange(stream, &view)).await {
                                tracing::debug!(%error, "a local request was given up");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a local connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(std::fs::remove_file(&self.path));
    }
}

/// One request, one response. An error means that nobody is there to tell.
async fn exchange(stream: UnixStream, view: &LocalView) -> io::Result<()> {
    let caller = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let response = if caller == 0 || caller == nix::unistd::geteuid().as_raw() {
        let mut line = String::new();
        BufReader::new(read.take(REQUEST_MAX_BYTES)).read_line(&mut line).await?;
        match serde_json::from_str(&line) {
            Ok(request) => respond(request, view).await,
            Err(error) => refused("request-malformed", &format!("the request is not one line of JSON: {error}")),
        }
    } else {
        refused("not-root", "only root may talk to the agent")
    };
    let mut line = serde_json::to_vec(&response).map_err(io::Error::other)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    write.shutdown().await
}

async fn respond(request: Request, view: &LocalView) -> Response {
    let answered = match request {
        Request::Status => view.ask(LocalRequest::Status).await.map(|(link, report)| view.status(link, report)),
        Request::Plan => view.ask(LocalRequest::Plan).await.map(|text| Response::Done { text }),
        Request::Stop { deployment } => {
            let done = view.ask(|reply| LocalRequest::Stop(deployment, reply)).await;
            done.map(|done| {
                settled(done, format!("{deployment} is stopped until it is started here, or its revision changes"))
            })
        }
        Request::Start { deployment } => {
            let done = view.ask(|reply| LocalRequest::Start(deployment, reply)).await;
            done.map(|done| settled(done, format!("{deployment} runs again as its spec says")))
        }
    };
    answered.unwrap_or_else(|| refused("agent-stopping", "the agent is stopping"))
}

fn settled(done: Result<(), Reason>, text: String) -> Response {
    match done {
        Ok(()) => Response::Done { text },
        Err(reason) => Response::Refused { reason },
    }
}

fn refused(code: &str, sentence: &str) -> Response {
    Response::Refused { reason: Reason::new(code, sentence) }
}

impl LocalView {
    /// Asks the reconciler; none when it is gone.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> LocalRequest) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.reconciler.send(request(reply)).await.ok()?;
        answer.await.ok()
    }

    fn status(&self, link: LinkStatus, report: Option<Arc<HostReport>>) -> Response {
        let identity = self.enrolled.identity();
        Response::Status(Box::new(Status {
            pid: std::process::id(),
            agent_version: VERSION.to_owned(),
            host: identity.host,
            name: identity.name.clone(),
            link,
            certificate_expires: identity.check().ok().map(|named| named.not_after),
            report: report.map(|report| Box::new((*report).clone())),
        }))
    }
}
