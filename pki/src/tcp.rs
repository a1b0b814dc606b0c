//! TLS over TCP, for networks that drop UDP: the same identity, one connection per lane.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::task::AtomicWaker;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::admission::Live;
use crate::listener::{Door, HANDSHAKE_BUDGET, HANDSHAKES_MAX};
use crate::pipe::{PeerPipe, Pipe, Transport};

/// How long to wait after the operating system refused to accept, for want of file descriptors mostly: long
/// enough not to spin, short enough not to be noticed.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts hosts for ever. Dropping it ends every handshake that it started; accepted pipes live on with
/// their owners.
pub(crate) async fn serve(listener: TcpListener, config: Arc<ArcSwap<ServerConfig>>, door: Arc<Door>) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        // The listener's queue holds those for whom there is no turn yet. The semaphore is never closed.
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let (stream, remote) = match accepted(&listener, &mut handshakes).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a TCP connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(config.load_full());
        let door = Arc::clone(&door);
        handshakes.spawn(async move {
            if let Err(error) = admit(stream, remote, acceptor, &door, turn).await {
                tracing::debug!(%remote, %error, "a TLS connection was not accepted");
            }
        });
    }
}

/// Waits for the next connection, and meanwhile clears away handshakes that are over.
pub(crate) async fn accepted(
    listener: &TcpListener,
    handshakes: &mut JoinSet<()>,
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        // Both futures may be dropped half-way: neither has taken anything out until it is ready.
        tokio::select! {
            accepted = listener.accept() => return accepted,
            Some(_) = handshakes.join_next() => {}
        }
    }
}

async fn admit(
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: TlsAcceptor,
    door: &Door,
    turn: OwnedSemaphorePermit,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = timeout(HANDSHAKE_BUDGET, acceptor.accept(stream)).await??;
    let peer = door.recognise(stream.get_ref().1.peer_certificates(), Transport::Tcp, remote)?;
    let cut = Arc::new(Cut::default());
    let closer = Arc::clone(&cut);
    let live = door.admit(&peer, Box::new(move || closer.cut()))?;
    drop(turn);
    let pipe = PeerPipe::new(Box::new(CutPipe { inner: stream, cut, _live: live }), peer);
    // Nobody listens any more: the pipe is dropped, and with it the connection.
    drop(door.pipes.send(Ok(pipe)).await);
    Ok(())
}

/// Opens one TLS connection. That this succeeds does not mean that the host was let in: TLS 1.3 lets the
/// client finish first, and a refusal comes as the first read's error.
///
/// # Errors
/// When the server does not answer within [`HANDSHAKE_BUDGET`] or is not trusted.
pub async fn connect(
    address: SocketAddr,
    server_name: &str,
    config: &Arc<rustls::ClientConfig>,
) -> io::Result<Box<dyn Pipe>> {
    let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
    let dial = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await
    };
    Ok(Box::new(timeout(HANDSHAKE_BUDGET, dial).await??))
}

/// A pair of scissors for one pipe, usable from any thread.
#[derive(Default)]
struct Cut {
    done: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Cut {
    fn cut(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.reader.wake();
        self.writer.wake();
    }

    /// Registers before it looks, so that a cut in between still wakes.
    fn check(&self, waker: &AtomicWaker, cx: &Context<'_>) -> io::Result<()> {
        waker.register(cx.waker());
        if self.done.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the coordinator"));
        }
        Ok(())
    }
}

/// A pipe that can be cut. Its owner then gets an error, drops it, and the socket closes.
struct CutPipe<P> {
    inner: P,
    cut: Arc<Cut>,
    _live: Live,
}

impl<P: Pipe> AsyncRead for CutPipe<P> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cut.check(&self.cut.reader, cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<P: Pipe> AsyncWrite for CutPipe<P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.cut.check(&self.cut.writer, cx)?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check(&self.cut.writer, cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check(&self.cut.writer, cx)?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
