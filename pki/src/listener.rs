//! The fleet listener: UDP and TCP on one port, accepted hosts out.
//!
//! ```text
//! UDP ── quic::serve ──┐                        ┌──► FleetListener, a stream of PeerPipe ──► tonic
//!                      ├── Door: who is it?     │
//! TCP ── tcp::serve ───┘   denied? then pipes ──┘    FleetControl: reload, close
//! ```
//!
//! The coordinator's `fleet` takes the stream. What comes out has shown a certificate that was in force, not
//! revoked and of this installation; nothing else comes out.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::Stream;
use quinn::{Endpoint, VarInt};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admission::{Admission, Close, Live};
use crate::identity::{HostIdentity, TrustDomain};
use crate::pipe::{PeerInfo, PeerPipe, Transport};
use crate::quic::{self, ResetKey};
use crate::tcp;
use crate::tls::FleetTls;

/// The most handshakes at a time on each transport: whoever holds up one with half-open connections does not
/// hold up the other. At about two milliseconds of one core each, a fleet that comes back all at once is let in
/// at the rate of the cores, and the rest wait or try again.
pub const HANDSHAKES_MAX: usize = 256;

/// How long a handshake may take: three round trips of the slowest line, and retransmissions.
pub const HANDSHAKE_BUDGET: Duration = Duration::from_secs(10);

/// Accepted pipes that wait for the server to take them.
const PIPES_WAITING_MAX: usize = 64;

/// How often to look for a port that is free on both UDP and TCP, when any will do.
const ANY_PORT_TRIES: usize = 32;

/// A stream of accepted pipes. Dropping it stops accepting.
pub struct FleetListener {
    pipes: mpsc::Receiver<io::Result<PeerPipe>>,
    control: FleetControl,
    _tasks: JoinSet<()>,
}

/// Steers a listener that was given away. Clones steer the same one.
#[derive(Debug, Clone)]
pub struct FleetControl {
    endpoint: Endpoint,
    tcp: Arc<ArcSwap<ServerConfig>>,
    address: SocketAddr,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({protocol}): choose another address, or stop what uses it")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// `UDP` or `TCP`.
    pub protocol: &'static str,
    /// The operating system's answer.
    pub source: io::Error,
}

/// What both transports need to let a host in.
pub(crate) struct Door {
    pub(crate) pipes: mpsc::Sender<io::Result<PeerPipe>>,
    admission: Arc<Admission>,
    trust_domain: TrustDomain,
}

impl FleetListener {
    /// Listens on `address`, UDP and TCP. Port 0 takes one that is free on both.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(
        address: SocketAddr,
        tls: &FleetTls,
        reset: &ResetKey,
        admission: Arc<Admission>,
    ) -> Result<Self, ListenError> {
        let (listener, socket, address) = bind_both(address).await?;
        let endpoint = quic::endpoint(socket, tls, reset);
        let endpoint = endpoint.map_err(|source| ListenError { address, protocol: "UDP", source })?;
        let (pipes, accepted) = mpsc::channel(PIPES_WAITING_MAX);
        let door = Arc::new(Door { pipes, admission, trust_domain: tls.trust_domain.clone() });
        let tcp = Arc::new(ArcSwap::from(Arc::clone(&tls.tcp)));
        let mut tasks = JoinSet::new();
        tasks.spawn(quic::serve(endpoint.clone(), Arc::clone(&door)));
        tasks.spawn(tcp::serve(listener, Arc::clone(&tcp), door));
        Ok(Self { pipes: accepted, control: FleetControl { endpoint, tcp, address }, _tasks: tasks })
    }

    /// A handle that steers this listener after it was given away.
    #[must_use]
    pub fn control(&self) -> FleetControl {
        self.control.clone()
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.control.address
    }
}

impl FleetControl {
    /// Takes other roots and another list of revoked certificates, for hosts that connect from now on. A new
    /// server certificate needs no reload.
    ///
    /// # Errors
    /// When the configuration does not do for QUIC: then nothing changes.
    pub fn reload(&self, tls: &FleetTls) -> io::Result<()> {
        let quic = quic::server_config(tls)?;
        self.endpoint.set_server_config(Some(quic));
        self.tcp.store(Arc::clone(&tls.tcp));
        Ok(())
    }

    /// Where the listener listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Tells all hosts on QUIC that the coordinator stops, so that they try elsewhere at once, and waits
    /// until the word is out.
    pub async fn close(&self) {
        self.endpoint.close(VarInt::from_u32(quic::CLOSE_DONE), b"the coordinator stops");
        self.endpoint.wait_idle().await;
    }
}

impl Stream for FleetListener {
    type Item = io::Result<PeerPipe>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pipes.poll_recv(cx)
    }
}

impl Door {
    /// Who has shown this chain, which has been verified.
    pub(crate) fn recognise(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        transport: Transport,
        remote: SocketAddr,
    ) -> io::Result<PeerInfo> {
        let denied = |text: String| io::Error::new(io::ErrorKind::PermissionDenied, text);
        let leaf = chain.and_then(<[_]>::first).ok_or_else(|| denied("no certificate was shown".to_owned()))?;
        let identity = HostIdentity::of_domain(leaf, &self.trust_domain).map_err(|e| denied(e.to_string()))?;
        Ok(PeerInfo {
            host: identity.host,
            transport,
            serial: identity.serial,
            not_after: identity.not_after,
            remote: remote.to_string(),
        })
    }

    /// Registers the connection, or refuses a host that is denied.
    pub(crate) fn admit(&self, peer: &PeerInfo, close: Close) -> io::Result<Live> {
        self.admission.admit(peer, close).map_err(|denied| {
            tracing::info!(host = %peer.host, remote = peer.remote, %denied, "a host was turned away");
            io::Error::new(io::ErrorKind::PermissionDenied, denied.to_string())
        })
    }
}

/// TCP first: its ports are the scarcer ones.
async fn bind_both(wanted: SocketAddr) -> Result<(TcpListener, UdpSocket, SocketAddr), ListenError> {
    let mut tries = if wanted.port() == 0 { ANY_PORT_TRIES } else { 1 };
    loop {
        let refused = |protocol| move |source| ListenError { address: wanted, protocol, source };
        let listener = TcpListener::bind(wanted).await.map_err(refused("TCP"))?;
        let address = listener.local_addr().map_err(refused("TCP"))?;
        tries -= 1;
        match UdpSocket::bind(address) {
            Ok(socket) => return Ok((listener, socket, address)),
            Err(_) if tries > 0 => {}
            Err(source) => return Err(ListenError { address, protocol: "UDP", source }),
        }
    }
}
