//! The agent's own host talks to it here: a unix socket for root alone, also when no coordinator answers.
//!
//! ```text
//! launchpad-agent status|ps|why|spec|logs|plan|stop|start|restart|evict      status.rs: one line of JSON there, one back
//!        │  RUN_DIR/agent.sock (0600)                                        (of a log, one for each of its lines)
//!        ▼
//!      serve ─┬─► LocalRequest ──► the reconciler, which writes an order down before it answers
//!             ├─► Windows ───────► what it knew after its last turn, even while it waits for a slow engine
//!             └─► Eyes ──────────► a bot's log
//! ```
//! A local stop holds across restarts of everything until `start`, or a new revision, takes it back; an eviction likewise.
//! Whoever can open the socket is root already: there is no other authentication, and no order that root could not
//! carry out with Docker directly.

pub mod lock;
mod logs;
pub mod show;
pub(crate) mod who;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::frame::Question;
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::VERSION;
use crate::execute::Eyes;
use crate::identity::Enrolled;
use crate::link::ports::LinkStatus;
use crate::reconcile::request::{Evict, LocalRequest, Windows};
use crate::socket::{self, SocketError};
use show::{Bot, Why};

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

/// Logs that are followed at once: the other connections stay free for questions.
const FOLLOWERS_MAX: usize = CONNECTIONS_MAX / 2;

/// What may be asked on the socket. A bot is said as people say it: by its id, its name, or the beginning of either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Request {
    /// Tell everything that the agent knows.
    Status,
    /// Say what is about to be done, line by line.
    Plan,
    /// List every bot.
    Ps,
    /// Say why this bot stands where it does.
    Why {
        /// Which.
        bot: String,
    },
    /// Show what is accepted.
    Spec {
        /// Of which bot; none: of all.
        bot: Option<String>,
    },
    /// Send what this bot wrote, in lines of their own.
    Logs {
        /// Which.
        bot: String,
        /// Lines from the past, at most.
        tail: u32,
        /// Whether to go on with new lines.
        follow: bool,
    },
    /// Keep this bot stopped.
    Stop {
        /// Which.
        bot: String,
    },
    /// Do so no longer, or put an evicted one back.
    Start {
        /// Which.
        bot: String,
    },
    /// Stop this bot and start it again, once.
    Restart {
        /// Which.
        bot: String,
    },
    /// Have bots gone from this host. Asked again until nothing of them is left.
    Evict {
        /// Which; none: all.
        bots: Vec<String>,
        /// Whether their data goes, too.
        data: bool,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Response {
    /// Everything that the agent knows.
    Status(Box<Status>),
    /// Every bot.
    Bots {
        /// Those that the host should run first.
        bots: Vec<Bot>,
    },
    /// Why a bot stands where it does.
    Why(Box<Why>),
    /// What is accepted, what is sealed told by its digest.
    Spec {
        /// As JSON.
        spec: serde_json::Value,
    },
    /// A line of a bot's log.
    Line {
        /// When the engine took it.
        at: Moment,
        /// Where the bot wrote it.
        stream: Stream,
        /// The text.
        text: String,
    },
    /// The end of a log.
    End {
        /// Why there is less than was asked for, if there is.
        reason: Option<Reason>,
    },
    /// It is written down, and being done.
    Evicting {
        /// Of these something is still here.
        left: BTreeSet<DeploymentId>,
    },
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

/// Where a bot wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
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
#[derive(Clone)]
pub struct LocalView {
    /// Who the host is.
    pub enrolled: Arc<Enrolled>,
    /// The reconciler.
    pub reconciler: mpsc::Sender<LocalRequest>,
    /// What answers for logs.
    pub eyes: Arc<dyn Eyes>,
}

/// What every exchange shares.
struct Desk {
    view: LocalView,
    windows: OnceCell<Windows>,
    followers: Semaphore,
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
        let desk = Arc::new(Desk { view, windows: OnceCell::new(), followers: Semaphore::new(FOLLOWERS_MAX) });
        loop {
            // Both can be dropped half-way: a connection that was not accepted stays in the listener's queue.
            tokio::select! {
                biased; // The end is the end, whatever else is ready.
                () = stop.cancelled() => break,
                Some(_) = exchanges.join_next() => {}
                accepted = self.listener.accept(), if exchanges.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let desk = Arc::clone(&desk);
                        exchanges.spawn(async move {
                            if let Err(error) = exchange(stream, &desk).await {
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

/// One request, one response, or a log. An error means that nobody is there to tell.
async fn exchange(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let caller = stream.peer_cred()?.uid();
    let (mut read, mut write) = stream.into_split();
    let answered = timeout(EXCHANGE_WITHIN, async {
        if caller != 0 && caller != nix::unistd::geteuid().as_raw() {
            return Ok(Err(refused("not-root", "only root may talk to the agent")));
        }
        let mut line = String::new();
        BufReader::new((&mut read).take(REQUEST_MAX_BYTES)).read_line(&mut line).await?;
        Ok(match serde_json::from_str(&line) {
            Ok(Request::Logs { bot, tail, follow }) => desk.about_log(&bot, tail, follow).await,
            Ok(request) => Err(desk.respond(request).await),
            Err(error) => Err(refused("request-malformed", &format!("the request is not one line of JSON: {error}"))),
        })
    });
    let busy = || Ok(Err(refused("agent-busy", "the agent waits for its engine, and has not come round to this")));
    let answered: io::Result<Result<Log<'_>, Response>> = answered.await.unwrap_or_else(|_| busy());
    match answered? {
        Ok(log) => {
            logs::send(&desk.view.eyes, log.question, &mut read, &mut write).await?;
            drop(log.place);
        }
        Err(response) => write.write_all(&line_of(&response)?).await?,
    }
    write.shutdown().await
}

/// A log that may be sent.
struct Log<'a> {
    question: Question,
    place: Option<SemaphorePermit<'a>>,
}

fn line_of(response: &Response) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(response).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

impl Desk {
    async fn respond(&self, request: Request) -> Response {
        let answered = self.answer(request).await;
        answered.unwrap_or_else(|reason| Response::Refused { reason })
    }

    async fn answer(&self, request: Request) -> Result<Response, Reason> {
        let shown = self.windows().await?.shown.borrow().clone();
        let meant = |bot: &str| who::meant(bot, &shown);
        match request {
            Request::Status => {
                let link = self.windows().await?.link.borrow().clone();
                Ok(self.view.status(link, shown.report))
            }
            Request::Ps => Ok(Response::Bots { bots: show::bots(&shown) }),
            Request::Why { bot } => {
                let deployment = meant(&bot)?;
                let why = show::why(deployment, &shown);
                why.map(|why| Response::Why(Box::new(why))).ok_or_else(|| unknown(deployment))
            }
            Request::Spec { bot } => {
                let only = bot.as_deref().map(meant).transpose()?;
                let spec = shown.spec.ok_or_else(|| {
                    Reason::new("no-spec", "this host holds no spec yet")
                        .mend("launchpad-agent status tells of the link")
                })?;
                let spec = show::unsealed_by_nobody(&spec, only);
                let spec = spec.map_err(|error| Reason::new("spec-unreadable", error.to_string()))?;
                Ok(Response::Spec { spec })
            }
            Request::Plan => Ok(Response::Done { text: self.ask(LocalRequest::Plan).await? }),
            Request::Stop { bot } => {
                let deployment = meant(&bot)?;
                self.ask(|reply| LocalRequest::Stop(deployment, reply)).await??;
                Ok(done(format!("{deployment} is stopped until it is started here, or its revision changes")))
            }
            Request::Start { bot } => {
                let deployment = meant(&bot)?;
                self.ask(|reply| LocalRequest::Start(deployment, reply)).await??;
                Ok(done(format!("{deployment} runs again as its spec says")))
            }
            Request::Restart { bot } => {
                let deployment = meant(&bot)?;
                self.ask(|reply| LocalRequest::Restart(deployment, reply)).await??;
                Ok(done(format!("{deployment} is restarted once; launchpad-agent why {deployment} follows it")))
            }
            Request::Evict { bots, data } => {
                let deployments = bots.iter().map(|bot| meant(bot)).collect::<Result<_, _>>()?;
                let evict = Evict { deployments, data };
                let left = self.ask(|reply| LocalRequest::Evict(evict, reply)).await??;
                Ok(Response::Evicting { left })
            }
            Request::Logs { .. } => Err(Reason::new("request-malformed", "a log is no answer of one line")),
        }
    }

    /// Whose log it is, and that there is a place for whoever follows it.
    async fn about_log(&self, bot: &str, tail: u32, follow: bool) -> Result<Log<'_>, Response> {
        let deployment = match self.windows().await {
            Ok(windows) => who::meant(bot, &windows.shown.borrow()),
            Err(reason) => Err(reason),
        };
        let deployment = deployment.map_err(|reason| Response::Refused { reason })?;
        let place = follow.then(|| self.followers.try_acquire()).transpose().map_err(|_| {
            let sentence = format!("{FOLLOWERS_MAX} logs are followed on this host already");
            Response::Refused {
                reason: Reason::new("followers-full", sentence).mend("end one of them, or read without -f"),
            }
        })?;
        Ok(Log { question: Question::Logs { deployment, tail, follow }, place })
    }

    /// Where all is found that is shown. The loop tells it once, and need not be asked again.
    async fn windows(&self) -> Result<&Windows, Reason> {
        self.windows.get_or_try_init(|| self.ask(LocalRequest::Watch)).await
    }

    /// Asks the reconciler.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> LocalRequest) -> Result<T, Reason> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Reason::new("agent-stopping", "the agent is stopping");
        self.view.reconciler.send(request(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

const fn done(text: String) -> Response {
    Response::Done { text }
}

fn unknown(deployment: DeploymentId) -> Reason {
    Reason::new("instance-unknown", format!("nothing of {deployment} is on this host"))
        .mend("launchpad-agent ps lists what is")
}

fn refused(code: &str, sentence: &str) -> Response {
    Response::Refused { reason: Reason::new(code, sentence) }
}

impl LocalView {
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
