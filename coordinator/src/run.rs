//! One coordinator from start to end: opens what it needs, binds every address, runs until told to stop.
//!
//! ```text
//!  lock ─► catalogue ─► store ─► keyring, CA ─► bind HTTP, fleet, enrolment ─► listening
//!                                                                                 │
//!                 api ┐                                                           ▼
//!        fleet server ┼── until `stop`, or until one of them breaks: then the others stop as well ─► store closed
//!                jobs ┘
//! ```
//! Nothing is served until everything is open: a coordinator that starts is one that can work. A crash at any moment
//! loses nothing, because whatever was promised is in the store; the orderly end only saves hosts a reconnection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::Stream;
use launchpad_pki::ca::IssuingCa;
use launchpad_pki::ca_files::{CaFiles, CaFilesError};
use launchpad_pki::envelope::KeyProvider;
use launchpad_pki::pipe::PeerPipe;
use launchpad_protocol::reason::Reason;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Joining, StaffViews};
use crate::catalogue::{self, CatalogueError};
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::dns::{ByHand, Resolver};
use crate::fleet::Fleet;
use crate::fleet::pipes;
use crate::fleet::server::{FleetConfig, FleetError, FleetParts, FleetServer, Lives};
use crate::key_source::{KeySource, KeySourceError};
use crate::outside::{Addresses, Outside};
use crate::signals::Signals;
use crate::store::{Intent, OpenError, Store, StoreUrl, StoreUrlError};
use crate::supervise::supervise;
use crate::{api, jobs};

/// Why a coordinator does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Profiles or plans.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The database URL.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeySourceError),
    /// The certificate authority.
    #[error("the certificate authority")]
    Ca(#[from] CaFilesError),
    /// The HTTP API's address.
    #[error("cannot listen on {address} for the HTTP API: {source}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The fleet's doors.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl CoordinatorError {
    /// The same as a reason, with its mend.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let sentence = crate::sentence(self);
        match self {
            Self::DataDir(error) => error.reason(),
            Self::Catalogue(error) => error.reason(),
            Self::Url(_) => Reason::new("malformed-database-url", sentence),
            Self::Open(_) => Reason::new("store-unusable", sentence),
            Self::Keys(error) => error.reason(),
            Self::Ca(_) => Reason::new("ca-unusable", sentence).mend("bring the ca directory back from its backup"),
            Self::Http { .. } => Reason::new("address-unusable", sentence)
                .mend("choose another --http, or stop what uses it (`ss -ltnp` shows it)"),
            Self::Fleet(_) => Reason::new("fleet-unusable", sentence),
        }
    }
}

/// Runs a coordinator until `stop`.
///
/// # Errors
/// [`CoordinatorError`] when it cannot start, or when one of its doors breaks.
pub async fn run(config: Config, outside: Outside, stop: CancellationToken) -> Result<(), CoordinatorError> {
    let dir = DataDir::new(&config.data_dir);
    let _lock = dir.lock()?;
    // The parts stop together, and stopping them does not cancel whoever started us.
    let stop = stop.child_token();
    let profiles = Arc::new(catalogue::profiles(config.profiles.as_deref())?);
    let plans = Arc::new(catalogue::plans(config.plans.as_deref())?);
    let pools = Arc::new(catalogue::pools(config.pools.as_deref())?);
    let url = StoreUrl::parse(config.database_url.as_deref(), &dir.database())?;
    let store = Store::open(&url, Intent::Use, outside.clock.wall()).await?;
    let keys = KeySource::of(&config.settings.keys, &dir).open().await?;
    let ca = CaFiles::at(dir.ca()).load()?;
    let root = ca.root_digest();
    let (fleet, signals) = (Fleet::new(outside.clock.clone(), outside.entropy.clone()), Signals::default());
    let doors = Doors::bind(&config, &outside, (&store, &fleet, &signals), (ca, &keys), &stop).await?;
    let app = App {
        store: store.clone(),
        clock: outside.clock,
        entropy: outside.entropy,
        profiles,
        plans,
        pools,
        keys,
        fleet,
        patience: config.patience,
        signals,
        joining: Joining {
            root,
            endpoint: reachable(config.settings.advertise_enroll.as_deref(), doors.addresses.enroll),
        },
        ingress_domain: config.ingress_domain.map(Arc::new),
        dns: Arc::new(Resolver::of(&config.resolvers)),
        dns_provider: Arc::new(ByHand),
        staff_views: StaffViews::default(),
    };
    outside.listening.send_replace(Some(doors.addresses));
    let at_work = supervise(doors.addresses, app.signals.compiled.listen(), stop.clone());
    let (ended, ()) = tokio::join!(doors.serve(app, stop), at_work);
    store.close().await;
    tracing::info!("stopped");
    ended
}

/// Runs the same coordinator over pipes that somebody else opens, until `stop`: sessions, publishing and all jobs are those
/// of [`run`], and only its doors are missing. Whoever holds the `app` is its API.
///
/// # Errors
/// [`CoordinatorError`] when the pipes break.
pub async fn run_over(
    peers: impl Stream<Item = io::Result<PeerPipe>>,
    app: &App,
    ca: IssuingCa,
    stop: CancellationToken,
) -> Result<(), CoordinatorError> {
    let parts = FleetParts {
        store: app.store.clone(),
        signals: app.signals.clone(),
        fleet: app.fleet.clone(),
        ca,
        keys: Arc::clone(&app.keys),
        clock: app.clock.clone(),
        entropy: app.entropy.clone(),
    };
    let fleet = async {
        let ended = pipes::serve(parts, peers, stop.clone()).await;
        stop.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(fleet, jobs::run(app, stop.clone()));
    Ok(ended?)
}

/// Every address, bound, and nothing served yet.
struct Doors {
    http: TcpListener,
    fleet: FleetServer,
    addresses: Addresses,
}

impl Doors {
    async fn bind(
        config: &Config,
        outside: &Outside,
        (store, fleet, signals): (&Store, &Fleet, &Signals),
        (ca, keys): (IssuingCa, &Arc<dyn KeyProvider>),
        stop: &CancellationToken,
    ) -> Result<Self, CoordinatorError> {
        let unusable = |source| CoordinatorError::Http { address: config.http, source };
        let http = TcpListener::bind(config.http).await.map_err(unusable)?;
        let doors = FleetConfig {
            fleet: config.fleet,
            enroll: config.enroll,
            server_names: config.settings.server_names.clone(),
            advertise: config.settings.advertise_fleet.clone(),
            lives: Lives::rehearsed(),
        };
        let parts = FleetParts {
            store: store.clone(),
            signals: signals.clone(),
            fleet: fleet.clone(),
            ca,
            keys: Arc::clone(keys),
            clock: outside.clock.clone(),
            entropy: outside.entropy.clone(),
        };
        let fleet = FleetServer::bind(doors, parts, stop.clone()).await?;
        let addresses = Addresses {
            http: http.local_addr().map_err(unusable)?,
            fleet: fleet.fleet_addr(),
            enroll: fleet.enroll_addr(),
        };
        tracing::info!(http = %addresses.http, fleet = %addresses.fleet, enroll = %addresses.enroll, "listening");
        Ok(Self { http, fleet, addresses })
    }

    async fn serve(self, app: App, stop: CancellationToken) -> Result<(), CoordinatorError> {
        let fleet = async {
            let ended = self.fleet.run().await;
            // The others have no reason to go on without it; after an orderly stop this changes nothing.
            stop.cancel();
            ended
        };
        let api = api::serve(self.http, app.clone(), stop.clone());
        let (ended, (), ()) = tokio::join!(fleet, api, jobs::run(&app, stop.clone()));
        Ok(ended?)
    }
}

/// Where others reach an address: as the operator advertises it, else where it is bound. A wildcard is nobody's address,
/// so that the machine's name stands in for it.
fn reachable(advertised: Option<&str>, bound: SocketAddr) -> String {
    match (advertised, bound.ip().is_unspecified()) {
        (Some(advertised), _) => advertised.to_owned(),
        (None, false) => bound.to_string(),
        (None, true) => format!("{}:{}", machine_name(), bound.port()),
    }
}

fn machine_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_an_address_that_they_can_reach() {
        let bound = "198.18.0.1:7702".parse().unwrap();
        assert_eq!(reachable(None, bound), "198.18.0.1:7702");
        assert_eq!(reachable(Some("fleet.example:1"), bound), "fleet.example:1");
        let wildcard = reachable(None, "0.0.0.0:7702".parse().unwrap());
        assert!(!wildcard.starts_with("0.0.0.0") && wildcard.ends_with(":7702"), "{wildcard}");
    }
}
