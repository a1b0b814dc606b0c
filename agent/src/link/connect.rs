//! From nothing to a Welcome: which route answers, and what the coordinator says first.
//!
//! ```text
//! open a route ─► Control lane ─► call Control, Hello in it ─► answered ─► Welcome   → Greeted
//!                                        │                        └──────► Farewell  → its reason
//!                                        └► refused by the coordinator               → its reason
//! ```
//! Only the first half is raced (`launchpad_pki::dial::race`): once a coordinator has answered on a route, the route is
//! good, and an overloaded coordinator must not be asked twice. A refusal is an answer too. "Connected" is told after
//! the Welcome, never before: TLS 1.3 lets a client that is refused believe for a moment that it was let in.

use std::time::Duration;

use launchpad_pki::dial::{self, DialError, Dialer, Route};
use launchpad_pki::pipe::{Dial, Lane, Transport};
use launchpad_pki::tls::ClientTls;
use launchpad_protocol::frame::{CoordinatorFrame, Hello};
use launchpad_protocol::limits::CLOCK_SKEW_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::session::{AgentEffect, AgentInput, AgentSession, spoken};
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::{self, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::cause::{Refusal, clocks_apart, innermost, names_apart, not_in_force};
use super::ports::Floor;
use super::witness::{Witness, witnessed};
use super::{Introduction, Reach};
use crate::config::HostPort;

/// How long TLS/TCP has for an answer: a handshake's budget, and half as much again for the call.
const TCP_WITHIN: Duration = Duration::from_secs(15);

/// How long QUIC has. Nothing tells a datagram that nobody listens, as a refused connection does: a coordinator that
/// is down would otherwise be waited for longer than it takes to come back.
const QUIC_WITHIN: Duration = Duration::from_secs(8);

/// How long a coordinator that has answered may take for its Welcome. It asks its store first, and after a restart a
/// thousand other agents ask with us.
const WELCOME_WITHIN: Duration = Duration::from_secs(30);

/// Frames that wait for the transport. A report is followed by the next only when it is confirmed, so two are plenty.
const FRAMES_QUEUED: usize = 2;

/// What an attempt needs to know.
pub(super) struct Caller {
    pub(super) reach: Reach,
    pub(super) endpoint: Option<HostPort>,
    pub(super) introduction: Introduction,
    pub(super) floor: watch::Receiver<Floor>,
    pub(super) clock: Clock,
    pub(super) first_answer: Duration,
}

/// A session that stands: its machine has seen the Welcome.
pub(super) struct Greeted {
    pub(super) route: Route,
    pub(super) transport: Transport,
    pub(super) endpoint: Option<HostPort>,
    pub(super) dial: Dial,
    pub(super) machine: AgentSession,
    pub(super) outbound: mpsc::Sender<v1::AgentFrame>,
    pub(super) inbound: Streaming<v1::CoordinatorFrame>,
}

/// A call that the coordinator answered, one way or the other.
enum Answered {
    Accepted(Box<Call>),
    Refused(Reason),
}

struct Call {
    transport: Transport,
    dial: Dial,
    machine: AgentSession,
    outbound: mpsc::Sender<v1::AgentFrame>,
    inbound: Streaming<v1::CoordinatorFrame>,
}

/// Why a route gave no answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the host's certificate cannot be used: {0}")]
    Tls(#[from] launchpad_pki::tls::TlsError),
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("the connection did not stand: {}", innermost(.0))]
    Channel(#[from] tonic::transport::Error),
    #[error("the connection broke before the coordinator answered: {}", innermost(.0))]
    Broken(Box<Status>),
    #[error("no answer within {} s", .0.as_secs())]
    Silence(Duration),
    #[error("the coordinator has revoked this host's certificate")]
    Revoked,
    #[error(
        "the coordinator does not take this host's certificate: it is not in force by its clock, or its CA has ended"
    )]
    OutOfDate,
}

impl CallError {
    /// Whether this host's clock takes the coordinator's certificate to be out of force.
    fn is_of_clocks(&self) -> bool {
        match self {
            Self::Broken(status) => clocks_apart(&**status),
            Self::Tls(_) | Self::Dial(_) | Self::Channel(_) | Self::Silence(_) | Self::Revoked | Self::OutOfDate => {
                clocks_apart(self)
            }
        }
    }
}

impl CallError {
    /// Whether the coordinator's certificate is for other names.
    fn is_of_names(&self) -> bool {
        match self {
            Self::Broken(status) => names_apart(&**status),
            Self::Tls(_) | Self::Dial(_) | Self::Channel(_) | Self::Silence(_) | Self::Revoked | Self::OutOfDate => {
                names_apart(self)
            }
        }
    }
}

/// Connects over `first`, or over the other route where that answers sooner.
pub(super) async fn connect(caller: &Caller, first: Route) -> Result<Greeted, Reason> {
    if let Reach::Given(_) = caller.reach {
        return connect_over(caller, first).await;
    }
    match dial::race(first, caller.first_answer, |route| call(caller, route)).await {
        Ok((route, answered)) => greet(caller, route, answered).await,
        Err(error) => {
            let either = |is: fn(&CallError) -> bool| is(&error.quic) || is(&error.tcp);
            Err(if either(|error| matches!(error, CallError::Revoked)) {
                revoked()
            } else if either(|error| matches!(error, CallError::OutOfDate)) {
                out_of_date()
            } else if either(CallError::is_of_clocks) {
                not_in_force(
                    &caller.endpoint.as_ref().map_or_else(|| "the coordinator".to_owned(), ToString::to_string),
                )
            } else if either(CallError::is_of_names) {
                misnamed(caller, &error.to_string())
            } else {
                unreachable_because(caller, &error.to_string())
            })
        }
    }
}

/// Connects over this route or not at all.
pub(super) async fn connect_over(caller: &Caller, route: Route) -> Result<Greeted, Reason> {
    match call(caller, route).await {
        Ok(answered) => greet(caller, route, answered).await,
        Err(error) => Err(unreachable_because(caller, &error.to_string())),
    }
}

async fn call(caller: &Caller, route: Route) -> Result<Answered, CallError> {
    let within = match route {
        Route::Quic => QUIC_WITHIN,
        Route::Tcp => TCP_WITHIN,
    };
    let witness = Witness::default();
    let answered = timeout(within, call_patiently(caller, route, &witness)).await;
    let answered = answered.unwrap_or(Err(CallError::Silence(within)));
    answered.map_err(|error| match witness.heard() {
        Some(Refusal::Revoked) => CallError::Revoked,
        Some(Refusal::OutOfDate) => CallError::OutOfDate,
        None => error,
    })
}

async fn call_patiently(caller: &Caller, route: Route, witness: &Witness) -> Result<Answered, CallError> {
    let (transport, dial) = open(caller, route).await?;
    let dial = witnessed(dial, witness.clone());
    let channel = dial::channel(dial.clone(), Lane::Control).await?;
    let mut machine = AgentSession::default();
    let (outbound, frames) = mpsc::channel(FRAMES_QUEUED);
    for effect in machine.handle(AgentInput::Connected(Box::new(hello(caller)))) {
        if let AgentEffect::Send(frame) = effect {
            // The queue is empty and its other end is in our hand.
            drop(outbound.try_send(frame.into()));
        }
    }
    match wire::fleet_client(channel).control(ReceiverStream::new(frames)).await {
        Ok(response) => {
            let call = Call { transport, dial, machine, outbound, inbound: response.into_inner() };
            Ok(Answered::Accepted(Box::new(call)))
        }
        // Only the coordinator itself gives details.
        Err(status) if !status.details().is_empty() => Ok(Answered::Refused(wire::refused_because(&status))),
        Err(status) => Err(CallError::Broken(Box::new(status))),
    }
}

async fn open(caller: &Caller, route: Route) -> Result<(Transport, Dial), CallError> {
    let enrolled = match &caller.reach {
        Reach::Fleet(enrolled) => enrolled,
        Reach::Given(dial) => return Ok((Transport::Sim, dial.clone())),
    };
    // Made anew each time: a renewal may have brought other roots.
    let identity = enrolled.identity();
    let tls = ClientTls::new(enrolled.credentials(), &identity.bundle, &caller.clock)?;
    let endpoints = caller.endpoint.iter().map(ToString::to_string).collect();
    let dial = Dialer::new(endpoints, identity.server_name.clone(), tls).open(route).await?;
    let transport = match route {
        Route::Quic => Transport::Quic,
        Route::Tcp => Transport::Tcp,
    };
    Ok((transport, dial))
}

fn hello(caller: &Caller) -> Hello {
    let floor = *caller.floor.borrow();
    Hello {
        protocol: spoken(),
        features: caller.introduction.features.clone(),
        agent_version: caller.introduction.agent_version.clone(),
        boot_id: caller.introduction.boot_id.clone(),
        incarnation: floor.incarnation,
        accepted: floor.accepted,
        wall: caller.clock.wall(),
    }
}

async fn greet(caller: &Caller, route: Route, answered: Answered) -> Result<Greeted, Reason> {
    let mut call = match answered {
        Answered::Accepted(call) => *call,
        Answered::Refused(reason) => return Err(reason),
    };
    let welcome = timeout(WELCOME_WITHIN, welcomed(&mut call));
    let welcome = welcome.await.unwrap_or_else(|_| Err(overloaded()))?;
    let apart = welcome.wall.apart(caller.clock.wall());
    if apart > CLOCK_SKEW_MAX {
        tracing::warn!(
            apart_s = apart.as_secs(),
            "this host's clock and the coordinator's are far apart: set both by NTP, or certificates will be refused"
        );
    }
    let Call { transport, dial, machine, outbound, inbound } = call;
    Ok(Greeted { route, transport, endpoint: caller.endpoint.clone(), dial, machine, outbound, inbound })
}

/// Feeds the machine until it is live or closed.
async fn welcomed(call: &mut Call) -> Result<launchpad_protocol::frame::Welcome, Reason> {
    loop {
        let frame = next_frame(&mut call.inbound).await?;
        for effect in call.machine.handle(AgentInput::Frame(Box::new(frame))) {
            match effect {
                AgentEffect::Live(welcome) => return Ok(welcome),
                AgentEffect::Close(reason) => return Err(reason),
                // A machine that is not live asks for nothing else.
                AgentEffect::Send(_)
                | AgentEffect::Offer(_)
                | AgentEffect::Forget { .. }
                | AgentEffect::Renew(_)
                | AgentEffect::Ask(_)
                | AgentEffect::Cancel(_) => {}
            }
        }
    }
}

/// The next frame, or why there is none. Nothing is lost when this is dropped while it waits.
pub(super) async fn next_frame(inbound: &mut Streaming<v1::CoordinatorFrame>) -> Result<CoordinatorFrame, Reason> {
    match inbound.message().await {
        Ok(Some(message)) => CoordinatorFrame::try_from(message).map_err(|error| {
            Reason::new("frame-malformed", format!("the coordinator sent a frame that cannot be read: {error}"))
                .mend("compare the versions of agent and coordinator; the older one is to be upgraded")
        }),
        Ok(None) => Err(Reason::new("link-closed", "the coordinator closed the connection without a word")
            .because("it stops or restarts")),
        Err(status) if !status.details().is_empty() => Err(wire::refused_because(&status)),
        Err(status) => {
            Err(Reason::new("link-lost", "the connection to the coordinator was lost").because(innermost(&status)))
        }
    }
}

fn revoked() -> Reason {
    Reason::new("host-revoked", "the coordinator has revoked this host")
        .because("an operator cut it off for good")
        .mend(
            "to join again, make a token there (`launchpad host token create`) and run `launchpad-agent enroll --replace` \
             here; the bots run on meanwhile",
        )
}

/// The code of [`out_of_date`]: `link.rs` has the certificate renewed, whatever this host's clock says.
pub(super) const OUT_OF_DATE: &str = "certificate-out-of-date";

fn out_of_date() -> Reason {
    Reason::new(OUT_OF_DATE, "the coordinator does not take this host's certificate any more")
        .because("it is not in force by the coordinator's clock, or another CA has taken over; the host asks for a new one")
        .mend("if it comes again, compare the two clocks (NTP)")
}

fn overloaded() -> Reason {
    let sentence = format!("the coordinator answered, but sent no welcome within {} s", WELCOME_WITHIN.as_secs());
    Reason::new("welcome-late", sentence).because("it is overloaded, or its store does not answer")
}

fn misnamed(caller: &Caller, cause: &str) -> Reason {
    let whom = caller.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    Reason::new("coordinator-misnamed", format!("the coordinator{whom} has a certificate for other names than this host expects"))
        .because(cause)
        .mend(
            "have it serve the old name again (server_names in coordinator.toml of its data directory), or join this host \
             anew (`launchpad-agent enroll --replace`); the bots run on meanwhile",
        )
}

fn unreachable_because(caller: &Caller, cause: &str) -> Reason {
    let whom = caller.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    Reason::new("coordinator-unreachable", format!("no answer from the coordinator{whom}"))
        .because(cause)
        .mend("see that it runs, and that this host may reach that port over UDP or TCP; the bots run on meanwhile")
}
