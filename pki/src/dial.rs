//! How a host reaches the coordinator: QUIC first, and TLS/TCP where UDP is blocked.
//!
//! ```text
//! 0 s          open(Quic) → hello … answered? ──────────► the winner
//! 3 s, or QUIC failed   open(Tcp) → hello … answered? ──► the first answer wins, the other is dropped
//! ```
//!
//! "Connected" means that a first call was answered, so the race is over whole attempts: the agent's link
//! gives [`race`] a closure that opens a route, says hello and returns with the answer. The link also decides
//! when to try QUIC again.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};
use hyper_util::rt::TokioIo;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::listener::HANDSHAKE_BUDGET;
use crate::pin;
use crate::pipe::{Dial, Lane, Pipe};
use crate::quic::{CONNECTION_WINDOW_BYTES, IDLE_MAX, KEEP_ALIVE, QuicLink, STREAM_WINDOW_BYTES};
use crate::tcp;
use crate::tls::ClientTls;

/// How long QUIC has for a first answer before TLS/TCP joins the race: RFC 9308 §2 wants a fallback; an
/// answer that takes longer than this on a line that lets UDP through is an outage anyway.
pub const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// A way to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
}

/// Opens routes to one coordinator, under whichever of its addresses answers.
#[derive(Debug, Clone)]
pub struct Dialer {
    endpoints: Vec<String>,
    server_name: String,
    tls: ClientTls,
}

/// Why no route was opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the coordinator over {route}: {}", tried.join("; "))]
pub struct DialError {
    /// Which way was tried.
    pub route: Route,
    /// What became of each endpoint.
    pub tried: Vec<String>,
    /// The last of them as it was told, for whoever knows more than its words.
    #[source]
    pub last: Option<io::Error>,
}

/// Neither route answered.
#[derive(Debug, thiserror::Error)]
#[error("over QUIC: {quic}; over TLS/TCP: {tcp}")]
pub struct RaceError<E: std::error::Error + 'static> {
    /// Why QUIC did not.
    pub quic: E,
    /// Why TLS/TCP did not.
    pub tcp: E,
}

impl Dialer {
    /// A dialer for these endpoints (`HOST:PORT`, tried in order), whose certificate carries `server_name`.
    #[must_use]
    pub fn new(endpoints: Vec<String>, server_name: String, tls: ClientTls) -> Self {
        Self { endpoints, server_name, tls }
    }

    /// Opens a route: all its lanes lead to the same coordinator. That it opens does not mean that the host
    /// was let in; a first answer does.
    ///
    /// # Errors
    /// When no endpoint resolves and answers; it says what became of each.
    pub async fn open(&self, route: Route) -> Result<Dial, DialError> {
        let (mut tried, mut last) = (Vec::new(), None);
        for endpoint in &self.endpoints {
            let addresses = match lookup_host(endpoint).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    tried.push(format!("{endpoint}: {error}"));
                    last = Some(error);
                    continue;
                }
            };
            for address in addresses {
                match self.open_at(route, address).await {
                    Ok(dial) => return Ok(dial),
                    Err(error) => {
                        tried.push(format!("{endpoint} ({address}): {error}"));
                        last = Some(error);
                    }
                }
            }
        }
        if tried.is_empty() {
            tried.push("no endpoint is known".to_owned());
        }
        Err(DialError { route, tried, last })
    }

    async fn open_at(&self, route: Route, address: SocketAddr) -> io::Result<Dial> {
        match route {
            Route::Quic => {
                let connecting = QuicLink::connect(address, &self.server_name, &self.tls);
                let link = timeout(HANDSHAKE_BUDGET, connecting).await??;
                Ok(Arc::new(move |lane| {
                    let link = link.clone();
                    async move { link.open(lane).await }.boxed()
                }))
            }
            Route::Tcp => {
                let (name, config) = (self.server_name.clone(), Arc::clone(&self.tls.tcp));
                // The connection that proves the address serves the first lane.
                let first = Arc::new(Mutex::new(Some(tcp::connect(address, &name, &config).await?)));
                Ok(Arc::new(move |_lane| {
                    let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let (name, config) = (name.clone(), Arc::clone(&config));
                    async move {
                        match ready {
                            Some(pipe) => Ok(pipe),
                            None => tcp::connect(address, &name, &config).await,
                        }
                    }
                    .boxed()
                }))
            }
        }
    }
}

/// Runs `attempt` over `first` and, when that fails or has no answer within `first_answer`, over the other
/// route too. The first that succeeds wins; the other is dropped. `first` is QUIC, or what won the last time.
///
/// # Errors
/// When both failed: why each did.
pub async fn race<T, E, F, A>(first: Route, first_answer: Duration, attempt: F) -> Result<(Route, T), RaceError<E>>
where
    E: std::error::Error + 'static,
    F: Fn(Route) -> A,
    A: Future<Output = Result<T, E>>,
{
    let second = first.other();
    let both = |early, late| match first {
        Route::Quic => RaceError { quic: early, tcp: late },
        Route::Tcp => RaceError { quic: late, tcp: early },
    };
    let mut ahead = Box::pin(attempt(first));
    let early = match timeout(first_answer, &mut ahead).await {
        Ok(Ok(answer)) => return Ok((first, answer)),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let behind = Box::pin(attempt(second));
    if let Some(early) = early {
        return behind.await.map(|answer| (second, answer)).map_err(|late| both(early, late));
    }
    match select(ahead, behind).await {
        Either::Left((Ok(answer), _)) => Ok((first, answer)),
        Either::Right((Ok(answer), _)) => Ok((second, answer)),
        Either::Left((Err(early), behind)) => {
            behind.await.map(|answer| (second, answer)).map_err(|late| both(early, late))
        }
        Either::Right((Err(late), ahead)) => {
            ahead.await.map(|answer| (first, answer)).map_err(|early| both(early, late))
        }
    }
}

/// A gRPC channel over one lane. It redials the lane when the pipe is lost, and gives a silent pipe up after
/// [`IDLE_MAX`], as QUIC does.
///
/// # Errors
/// When the lane cannot be opened.
pub async fn channel(dial: Dial, lane: Lane) -> Result<Channel, tonic::transport::Error> {
    // The name is for the `:authority` header only: who answers was settled below HTTP.
    let endpoint = Endpoint::from_static("http://coordinator")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(IDLE_MAX - KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let connector = tower::service_fn(move |_uri| {
        let pipe = dial(lane);
        async move { pipe.await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

/// Dials the enrolment listener (`HOST:PORT`), with [`crate::tls::enroll_client_config`]. Give it to
/// [`channel`]; which lane it is asked for makes no difference.
#[must_use]
pub fn enroll_dial(endpoint: String, config: Arc<rustls::ClientConfig>) -> Dial {
    Arc::new(move |_lane| {
        let (endpoint, config) = (endpoint.clone(), Arc::clone(&config));
        async move { dial_enroll(&endpoint, &config).await }.boxed()
    })
}

async fn dial_enroll(endpoint: &str, config: &Arc<rustls::ClientConfig>) -> io::Result<Box<dyn Pipe>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{endpoint} has no address"));
    for address in lookup_host(endpoint).await? {
        // The pin, not the name, says who may answer (`pin.rs`): the address serves as the name.
        match tcp::connect(address, &address.ip().to_string(), config).await {
            Ok(pipe) => return Ok(pipe),
            Err(error) => last = pin::explain(error),
        }
    }
    Err(last)
}

impl Route {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Quic => Self::Tcp,
            Self::Tcp => Self::Quic,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "QUIC",
            Self::Tcp => "TLS/TCP",
        })
    }
}
