//! The enrolment listener: TLS over TCP, open to anybody, and so narrow in everything else.
//!
//! The coordinator's enrolment service takes this stream of pipes. Who is at the other end is not known: a
//! join token or the signature of an old key says so later, in the messages. A stranger can hold a connection
//! for [`ENROLL_CONNECTION_LIFE`] and no longer, and all strangers together [`ENROLL_CONNECTIONS_MAX`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::listener::{HANDSHAKE_BUDGET, ListenError};
use crate::tcp::{self, ACCEPT_PAUSE};

/// How long one connection may last: an enrolment is one exchange, a renewal two.
pub const ENROLL_CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// The most connections at a time; more wait in the listener's queue. A fleet of thousands that comes back
/// after a long night renews through it within minutes.
pub const ENROLL_CONNECTIONS_MAX: usize = 128;

/// Accepted pipes that wait for the server to take them.
const PIPES_WAITING_MAX: usize = 16;

/// A stream of accepted pipes. Dropping it stops accepting.
pub struct EnrollListener {
    pipes: mpsc::Receiver<io::Result<EnrollPipe>>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// Where a caller came from. Nothing more is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrollPeer {
    /// Its address.
    pub remote: SocketAddr,
    /// The address of ours that it reached: a coordinator that listens on all of them learns a good one here.
    pub local: SocketAddr,
}

/// An accepted pipe, in the form that tonic's server takes.
pub struct EnrollPipe {
    stream: TlsStream<TcpStream>,
    peer: EnrollPeer,
    over: Pin<Box<Sleep>>,
    _turn: OwnedSemaphorePermit,
}

impl EnrollListener {
    /// Listens on `address`, with [`crate::tls::enroll_server_config`].
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(address: SocketAddr, config: Arc<ServerConfig>) -> Result<Self, ListenError> {
        Self::bind_for(address, config, ENROLL_CONNECTION_LIFE).await
    }

    /// The same, with connections that last for `life`.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind_for(
        address: SocketAddr,
        config: Arc<ServerConfig>,
        life: Duration,
    ) -> Result<Self, ListenError> {
        let refused = |source| ListenError { address, protocol: "TCP", source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (pipes, accepted) = mpsc::channel(PIPES_WAITING_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, TlsAcceptor::from(config), life, pipes));
        Ok(Self { pipes: accepted, address, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    life: Duration,
    pipes: mpsc::Sender<io::Result<EnrollPipe>>,
) {
    let turns = Arc::new(Semaphore::new(ENROLL_CONNECTIONS_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let (stream, remote) = match tcp::accepted(&listener, &mut handshakes).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the enrolment listener");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Only a connection that is gone already has no address of ours.
        let Ok(local) = stream.local_addr() else { continue };
        let (acceptor, pipes) = (acceptor.clone(), pipes.clone());
        handshakes.spawn(async move {
            let stream = match timeout(HANDSHAKE_BUDGET, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(%remote, %error, "a handshake for enrolment failed");
                    return;
                }
                Err(_) => return,
            };
            let over = Box::pin(sleep(life));
            let pipe = EnrollPipe { stream, peer: EnrollPeer { remote, local }, over, _turn: turn };
            // Nobody listens any more: the pipe is dropped, and with it the connection.
            drop(pipes.send(Ok(pipe)).await);
        });
    }
}

impl Stream for EnrollListener {
    type Item = io::Result<EnrollPipe>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pipes.poll_recv(cx)
    }
}

impl Connected for EnrollPipe {
    type ConnectInfo = EnrollPeer;

    fn connect_info(&self) -> EnrollPeer {
        self.peer
    }
}

impl AsyncRead for EnrollPipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // An HTTP/2 server is always reading, so that the end is noticed here.
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "an enrolment may not last so long")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for EnrollPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for EnrollPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollPipe").field("peer", &self.peer).finish_non_exhaustive()
    }
}
