//! QUIC: one connection per host, one bidirectional stream per lane, each a byte pipe.
//!
//! ```text
//! agent                                            coordinator
//! QuicLink ── connection (mTLS, keep-alive) ─────► serve ── who is it? ── Admission
//!    └─ open(Lane) ── stream ── QuicIo ◄──────────────────► QuicIo ── PeerPipe ──► tonic
//! ```
//!
//! A trap of TLS 1.3: the client has finished before the server has looked at its certificate. A refused host
//! still sees `connect` succeed, and learns of the refusal from the first pipe. Connected means that a first
//! call was answered.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use launchpad_protocol::digest::Digest;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    Connection, ConnectionError, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Incoming, RecvStream,
    SendStream, TransportConfig, VarInt,
};
use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ca::IssuingCa;
use crate::listener::{Door, HANDSHAKE_BUDGET, HANDSHAKES_MAX};
use crate::pipe::{Lane, PeerPipe, Pipe, Transport};
use crate::tls::{ClientTls, FleetTls};

/// How often an idle connection shows that it lives. Short enough for the UDP bindings of home routers, which
/// RFC 4787 §4.3 lets expire after 120 s and many expire after 30 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a connection may be silent before it is given up: three keep-alives.
pub const IDLE_MAX: Duration = Duration::from_secs(30);

/// The most pipes that a host has open on one connection: three lanes, and answers that overlap.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 16;

/// Bytes that one stream may have in flight towards us. Control messages are a few KiB, a host's spec at most
/// some hundred; on a line with 100 ms of delay it still makes 2.5 MiB/s.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes that all streams of a connection may have in flight, in each direction: what a slow host can make us
/// hold.
pub const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// Bytes of handshake data that may wait out of order: a chain of three P-256 certificates has about 2 KiB.
const HANDSHAKE_BUFFER_BYTES: usize = 8 * 1024;

/// Bytes of a connection id: at a million connections two random ones of 64 bits still do not collide.
const CONNECTION_ID_BYTES: usize = 8;

/// Where QUIC's error codes for TLS alerts begin (RFC 9001 §4.8).
const ALERT_CODES_FROM: u64 = 0x100;

/// Close codes of ours, for the other side's log.
pub(crate) const CLOSE_DONE: u32 = 0;
/// The host or its certificate is not let in.
pub(crate) const CLOSE_DENIED: u32 = 1;

/// Makes a restarted coordinator recognisable as one: with a key that outlives the process, it answers
/// packets of the connections that died with it by a stateless reset (RFC 9000 §10.3), and agents reconnect
/// at once instead of after [`IDLE_MAX`].
#[derive(Clone)]
pub struct ResetKey([u8; 32]);

impl ResetKey {
    /// The key of this CA: the same after each restart, and nobody else's.
    #[must_use]
    pub fn of(ca: &IssuingCa) -> Self {
        let derived = Digest::of(&[b"launchpad quic reset v1", &ca.key_pkcs8()[..]].concat());
        Self(*derived.as_bytes())
    }

    fn endpoint_config(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.0)));
        config.cid_generator(|| Box::new(PlainIds));
        config
    }
}

/// Connection ids without a mark of the process that made them. The library's own carry one, and a packet
/// without the mark is dropped unanswered: those of the process's last life would be.
#[derive(Debug)]
struct PlainIds;

impl ConnectionIdGenerator for PlainIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0_u8; CONNECTION_ID_BYTES];
        // Without random bytes no handshake gets this far; and an id that is taken is drawn again.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The TLS alert with which the other side ended the handshake, if that is what this error says.
#[must_use]
pub fn alert(error: &(dyn std::error::Error + 'static)) -> Option<AlertDescription> {
    let Some(ConnectionError::ConnectionClosed(close)) = error.downcast_ref() else { return None };
    let alert = u64::from(close.error_code).checked_sub(ALERT_CODES_FROM)?;
    u8::try_from(alert).ok().map(AlertDescription::from)
}

/// One stream as a byte pipe.
struct QuicIo {
    send: SendStream,
    recv: RecvStream,
    connection: Connection,
}

impl QuicIo {
    /// A stream's own error says no more than that the connection is lost. Why it was is what people ask.
    fn explain<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        done.map_err(|error| self.connection.close_reason().map_or(error, io::Error::from))
    }
}

impl AsyncRead for QuicIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let done = AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf);
        self.explain(done)
    }
}

impl AsyncWrite for QuicIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf);
        self.explain(done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = AsyncWrite::poll_flush(Pin::new(&mut self.send), cx);
        self.explain(done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx);
        self.explain(done)
    }
}

/// An endpoint that accepts hosts.
pub(crate) fn endpoint(socket: UdpSocket, tls: &FleetTls, reset: &ResetKey) -> io::Result<Endpoint> {
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(reset.endpoint_config(), Some(server_config(tls)?), socket, runtime)
}

/// The settings for hosts that connect from now on.
pub(crate) fn server_config(tls: &FleetTls) -> io::Result<quinn::ServerConfig> {
    let crypto = QuicServerConfig::try_from(Arc::clone(&tls.quic)).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport(STREAMS_PER_CONNECTION_MAX)));
    config.max_incoming(HANDSHAKES_MAX);
    Ok(config)
}

/// Accepts hosts until the endpoint is closed. Dropping it ends every task that it started.
pub(crate) async fn serve(endpoint: Endpoint, door: Arc<Door>) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Both futures may be dropped half-way: neither has taken anything out until it is ready.
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                let Ok(turn) = Arc::clone(&turns).try_acquire_owned() else {
                    incoming.refuse();
                    continue;
                };
                // Under load the sender first proves its address, which costs us no signature (RFC 9000
                // §8.1.2).
                if turns.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
                    drop(incoming.retry());
                    continue;
                }
                let door = Arc::clone(&door);
                connections.spawn(async move {
                    let remote = incoming.remote_address();
                    if let Err(error) = connection(incoming, &door, turn).await {
                        tracing::debug!(%remote, %error, "a QUIC connection ended");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(incoming: Incoming, door: &Door, turn: OwnedSemaphorePermit) -> io::Result<()> {
    let connection = timeout(HANDSHAKE_BUDGET, incoming.accept()?).await??;
    let chain = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<_>>().ok());
    let remote = connection.remote_address();
    let refuse = |error: io::Error| {
        connection.close(VarInt::from_u32(CLOSE_DENIED), error.to_string().as_bytes());
        error
    };
    let peer = door.recognise(chain.as_deref().map(Vec::as_slice), Transport::Quic, remote).map_err(refuse)?;
    let closer = connection.clone();
    let close = Box::new(move || closer.close(VarInt::from_u32(CLOSE_DENIED), b"closed by the coordinator"));
    let _live = door.admit(&peer, close).map_err(refuse)?;
    drop(turn);
    loop {
        let (send, recv) = connection.accept_bi().await?;
        let io = QuicIo { send, recv, connection: connection.clone() };
        let pipe = PeerPipe::new(Box::new(io), peer.clone());
        if door.pipes.send(Ok(pipe)).await.is_err() {
            connection.close(VarInt::from_u32(CLOSE_DONE), b"the coordinator stops");
            return Ok(());
        }
    }
}

/// A host's connection to the coordinator. It closes when the link and all its pipes are gone.
#[derive(Debug, Clone)]
pub struct QuicLink {
    connection: Connection,
}

impl QuicLink {
    /// Connects, showing the host's certificate. That this succeeds does not mean that the host was let in:
    /// see the head of this file.
    ///
    /// # Errors
    /// When no socket can be had, or the server does not answer or is not trusted.
    pub async fn connect(address: SocketAddr, server_name: &str, tls: &ClientTls) -> io::Result<Self> {
        let crypto = QuicClientConfig::try_from(Arc::clone(&tls.quic)).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        // The coordinator opens no streams: it answers on those of the host.
        config.transport_config(Arc::new(transport(0)));
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let endpoint = Endpoint::client(any)?;
        let connecting = endpoint.connect_with(config, address, server_name).map_err(io::Error::other)?;
        Ok(Self { connection: connecting.await? })
    }

    /// Opens a pipe. The coordinator sees it with its first byte.
    ///
    /// # Errors
    /// When the connection is closed; the text says why.
    pub async fn open(&self, lane: Lane) -> io::Result<Box<dyn Pipe>> {
        let (send, recv) = self.connection.open_bi().await?;
        // Fails only on a stream that is closed, and then the first write says so.
        drop(send.set_priority(priority(lane)));
        Ok(Box::new(QuicIo { send, recv, connection: self.connection.clone() }))
    }
}

/// What is sent first when several lanes have something to send.
const fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Control => 2,
        Lane::Renew => 1,
        Lane::Answer => 0,
    }
}

fn transport(streams_of_peer: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(Some(KEEP_ALIVE))
        // 30 s fits into the 62 bits of milliseconds that QUIC has for it.
        .max_idle_timeout(quinn::IdleTimeout::try_from(IDLE_MAX).ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_of_peer))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .datagram_receive_buffer_size(None)
        .crypto_buffer_size(HANDSHAKE_BUFFER_BYTES);
    config
}
