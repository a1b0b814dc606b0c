//! Binds and runs the two doors of the fleet: the fleet port and the enrolment listener.
//!
//! [`crate::run`] calls [`FleetServer::bind`], which fails with one clear line when an address is taken, and then
//! [`FleetServer::run`], which ends when it is told to stop: sessions say farewell, then the doors close.
//!
//! ```text
//!  bind ── certificates, listeners ──► run ─┬─ fleet service       over the fleet listener's pipes
//!                                           ├─ enrolment service   over the enrolment listener's
//!                                           ├─ publish             the newest specs to live sessions
//!                                           └─ certificates        our own renewed, revoked hosts cut off
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use launchpad_pki::ca::{CaError, HOST_LIFE, IssuingCa};
use launchpad_pki::enroll_listener::EnrollListener;
use launchpad_pki::envelope::KeyProvider;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::listener::{FleetListener, ListenError};
use launchpad_pki::pipe::PeerPipe;
use launchpad_pki::quic::{IDLE_MAX, KEEP_ALIVE, ResetKey};
use launchpad_pki::tls::TlsError;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::rehearsal;
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::{enrollment_server, fleet_server};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use super::certificates::Certificates;
use super::challenge::Challenges;
use super::enroll::EnrollService;
use super::service::FleetService;
use super::trust::{Trust, TrustError};
use super::{Fleet, publish};
use crate::signals::Signals;
use crate::store::{Store, StoreError};

/// How long sessions may take to say farewell when the coordinator stops. Agents reconnect by themselves: waiting
/// longer for a host that does not read would only delay the restart.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);

/// How long one call on the enrolment listener may take: a signature and a commit, many times over.
const ENROLL_BUDGET: Duration = Duration::from_secs(10);

/// Calls in progress on one connection to the enrolment listener, where an agent makes two at most, in turn.
const ENROLL_CALLS_MAX: usize = 4;

/// Where the doors are, and under which names.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The fleet port, UDP and TCP.
    pub fleet: SocketAddr,
    /// The enrolment listener.
    pub enroll: SocketAddr,
    /// Names in the server certificate; agents verify the first. Never empty.
    pub server_names: Vec<String>,
    /// `HOST:PORT` of the fleet port as hosts reach it, if that is not where it listens.
    pub advertise: Option<String>,
    /// How long things last.
    pub lives: Lives,
}

/// How long a host's certificate lives, and how often a host asks about it. A rehearsal is faster.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// How long a host's certificate is in force.
    pub host: Duration,
    /// How often a host asks whether it trusts and shows what it should: the bound on how late a connected host hears of
    /// another CA, and a thousand hosts ask three times a second.
    pub trust_asked: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self { host: HOST_LIFE, trust_asked: Duration::from_mins(5) }
    }
}

/// What the fleet's doors lead to.
#[derive(Debug)]
pub struct FleetParts {
    /// The store.
    pub store: Store,
    /// Who wakes whom.
    pub signals: Signals,
    /// The handle that the rest of the coordinator holds.
    pub fleet: Fleet,
    /// The CA of the data directory: the first that signs for hosts and for the doors.
    pub ca: IssuingCa,
    /// What opens the keys of later ones.
    pub keys: Arc<dyn KeyProvider>,
    /// Wall time.
    pub clock: Clock,
    /// New ids.
    pub entropy: Entropy,
}

/// Why the doors cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// An address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No certificate for our own doors.
    #[error("cannot issue the coordinator's own certificate")]
    Certificate(#[from] CaError),
    /// The certificates cannot be used.
    #[error("cannot set up TLS for the fleet")]
    Tls(#[from] TlsError),
    /// Who signs is not known.
    #[error(transparent)]
    Trust(TrustError),
    /// What is revoked is not known: no door opens without.
    #[error("cannot read from the store who signs and which hosts are revoked")]
    Store(#[from] StoreError),
    /// A door does not take a new list of revoked certificates.
    #[error("the fleet listener does not take the new list of revoked certificates")]
    Reload(#[source] io::Error),
    /// A door broke while it was open.
    #[error("the {door} stopped serving")]
    Serve {
        /// Which.
        door: &'static str,
        /// What tonic says.
        source: tonic::transport::Error,
    },
}

/// What every part of the fleet's server shares.
pub(super) struct Ground {
    pub(super) store: Store,
    pub(super) signals: Signals,
    pub(super) fleet: Fleet,
    pub(super) keys: Arc<dyn KeyProvider>,
    pub(super) trust_domain: TrustDomain,
    /// Who signs, and whose hosts are let in, at this moment.
    pub(super) trusted: watch::Sender<Arc<Trust>>,
    pub(super) lives: Lives,
    pub(super) challenges: Challenges,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    /// Where hosts find the fleet port.
    pub(super) address: FleetAddress,
    /// Cancelled when the coordinator stops.
    pub(super) stop: CancellationToken,
    /// The tasks of the live sessions.
    pub(super) sessions: TaskTracker,
}

/// Where hosts find the fleet port, and the name that they verify there.
#[derive(Debug, Clone)]
pub(super) struct FleetAddress {
    pub(super) bound: SocketAddr,
    pub(super) advertised: Option<String>,
    pub(super) server_name: String,
}

/// Both doors, bound and not yet serving.
pub struct FleetServer {
    ground: Arc<Ground>,
    fleet: FleetListener,
    enroll: EnrollListener,
    certificates: Certificates,
}

impl FleetServer {
    /// Issues the doors' certificate, reads what is revoked, and binds both addresses.
    ///
    /// # Errors
    /// When an address is taken, the CA has expired or the store cannot be read.
    pub async fn bind(config: FleetConfig, parts: FleetParts, stop: CancellationToken) -> Result<Self, FleetError> {
        let FleetParts { store, signals, fleet, ca, keys, clock, entropy } = parts;
        let server_name = config.server_names.first().cloned().unwrap_or_default();
        // Of the first CA for ever: every replica has its key, whoever signs.
        let (reset, challenges, trust_domain) = (ResetKey::of(&ca), Challenges::new(&ca), ca.trust_domain().clone());
        let (certificates, trust) =
            Certificates::issue(ca, config.server_names, (&store, &keys), (&clock, &entropy)).await?;
        let tls = certificates.fleet_tls(&trust, &clock)?;
        let fleet_door = FleetListener::bind(config.fleet, &tls, &reset, certificates.admission()).await?;
        let enroll_door = EnrollListener::bind(config.enroll, certificates.enroll_tls(&clock)?).await?;
        let address = FleetAddress { bound: fleet_door.local_addr(), advertised: config.advertise, server_name };
        let ground = Ground {
            challenges,
            trust_domain,
            trusted: watch::Sender::new(Arc::new(trust)),
            lives: config.lives,
            keys,
            sessions: TaskTracker::new(),
            store,
            signals,
            fleet,
            clock,
            entropy,
            address,
            stop,
        };
        Ok(Self { ground: Arc::new(ground), fleet: fleet_door, enroll: enroll_door, certificates })
    }

    /// Where the fleet port is.
    #[must_use]
    pub fn fleet_addr(&self) -> SocketAddr {
        self.fleet.local_addr()
    }

    /// Where the enrolment listener is.
    #[must_use]
    pub fn enroll_addr(&self) -> SocketAddr {
        self.enroll.local_addr()
    }

    /// Serves until the coordinator stops.
    ///
    /// # Errors
    /// When a door breaks while it is open.
    pub async fn run(self) -> Result<(), FleetError> {
        let Self { ground, fleet, enroll, certificates } = self;
        let control = fleet.control();
        let doors = async {
            let served = tokio::try_join!(serve_fleet(&ground, fleet), serve_enrolment(&ground, enroll));
            // Where one door has broken, the rest of the coordinator stops too.
            ground.stop.cancel();
            served
        };
        let patience = async {
            ground.stop.cancelled().await;
            tokio::time::sleep(FAREWELL_PATIENCE).await;
        };
        let doors = async {
            tokio::select! {
                served = doors => served.map(|((), ())| ()),
                () = patience => Ok(()),
            }
        };
        let (served, (), ()) = tokio::join!(
            doors,
            publish::run(Arc::clone(&ground)),
            certificates.tend(Arc::clone(&ground), control.clone()),
        );
        ground.sessions.close();
        if tokio::time::timeout(FAREWELL_PATIENCE, ground.sessions.wait()).await.is_err() {
            tracing::info!(left = ground.sessions.len(), "some hosts did not take the farewell in time");
        }
        control.close().await;
        served
    }
}

impl FleetAddress {
    /// `HOST:PORT` of the fleet port, as a host is to dial it. `reached` is the address of ours on which the host has
    /// reached the enrolment listener: where the fleet port listens on all addresses, that one does. None is known:
    /// none is named, and the host keeps what it has.
    pub(super) fn endpoints(&self, reached: Option<IpAddr>) -> Vec<String> {
        if let Some(advertised) = &self.advertised {
            return vec![advertised.clone()];
        }
        let bound = Some(self.bound.ip()).filter(|ip| !ip.is_unspecified());
        let at = |ip: IpAddr| SocketAddr::new(ip.to_canonical(), self.bound.port()).to_string();
        bound.or(reached).map(at).into_iter().collect()
    }
}

impl Ground {
    /// Who signs, and whose hosts are let in, at this moment.
    pub(super) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trusted.borrow())
    }
}

impl Lives {
    /// Those of a release, unless this process is part of a rehearsal.
    #[must_use]
    pub fn rehearsed() -> Self {
        let usual = Self::default();
        Self {
            host: rehearsal::millis(rehearsal::HOST_LIFE_MS).unwrap_or(usual.host),
            trust_asked: rehearsal::millis(rehearsal::TRUST_ASKED_MS).unwrap_or(usual.trust_asked),
        }
    }
}

/// The fleet port, until the coordinator stops.
pub(super) async fn serve_fleet(
    ground: &Arc<Ground>,
    pipes: impl Stream<Item = io::Result<PeerPipe>>,
) -> Result<(), FleetError> {
    let service = fleet_server(FleetService { ground: Arc::clone(ground) });
    let served =
        server().add_service(service).serve_with_incoming_shutdown(pipes, ground.stop.clone().cancelled_owned());
    served.await.map_err(|source| FleetError::Serve { door: "fleet port", source })
}

/// The enrolment listener, until the coordinator stops.
async fn serve_enrolment(ground: &Arc<Ground>, pipes: EnrollListener) -> Result<(), FleetError> {
    let service = enrollment_server(EnrollService { ground: Arc::clone(ground) });
    let served = server()
        .timeout(ENROLL_BUDGET)
        .concurrency_limit_per_connection(ENROLL_CALLS_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(pipes, ground.stop.clone().cancelled_owned());
    served.await.map_err(|source| FleetError::Serve { door: "enrolment listener", source })
}

/// HTTP/2 as both doors speak it: a peer that has gone silent is noticed as QUIC would notice it.
fn server() -> Server {
    Server::builder().http2_keepalive_interval(Some(KEEP_ALIVE)).http2_keepalive_timeout(Some(IDLE_MAX - KEEP_ALIVE))
}
