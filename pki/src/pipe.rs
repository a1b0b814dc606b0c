//! The seam between the fleet's messages and whatever carries them: bytes both ways, and who is at the other
//! end.
//!
//! QUIC, TLS/TCP and the simulator each make these; the coordinator's fleet server and the agent's link take
//! them without knowing which. Nothing here opens a socket.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::serial::Serial;

/// Bytes in both directions, in order: what one HTTP/2 session runs over.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Pipe for T {}

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A stream of a QUIC connection.
    Quic,
    /// A TLS connection over TCP.
    Tcp,
    /// The simulator's memory.
    Sim,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Sim => "sim",
        })
    }
}

/// Who is at the other end, as their certificate says. A request handler finds it in the request's
/// extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The host.
    pub host: HostId,
    /// What carries the bytes.
    pub transport: Transport,
    /// The serial of the certificate with which the connection was opened.
    pub serial: Serial,
    /// When that certificate expires. A connection that is open then stays open.
    pub not_after: Moment,
    /// The peer's address when the connection was opened, for people.
    pub remote: String,
}

/// An accepted pipe and who is at its other end, in the form that tonic's server takes.
pub struct PeerPipe {
    pipe: Box<dyn Pipe>,
    peer: PeerInfo,
}

impl PeerPipe {
    /// Joins the two.
    #[must_use]
    pub fn new(pipe: Box<dyn Pipe>, peer: PeerInfo) -> Self {
        Self { pipe, peer }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &PeerInfo {
        &self.peer
    }
}

impl fmt::Debug for PeerPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerPipe").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for PeerPipe {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for PeerPipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// What a pipe is for. Each has its own, so that a burst of log lines never delays a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The session: specs down, reports up, questions down.
    Control,
    /// Answers to questions: logs and query rows.
    Answer,
    /// Renewal of the host's certificate.
    Renew,
}

/// Opens a pipe to the coordinator. The simulator's is made by hand, the real ones by
/// [`crate::dial::Dialer`].
pub type Dial = Arc<dyn Fn(Lane) -> BoxFuture<'static, io::Result<Box<dyn Pipe>>> + Send + Sync>;
