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

use std::net::SocketAddr;
use std::sync::Arc;

use launchpad_pki::ca::IssuingCa;
use launchpad_pki::ca_files::{CaFiles, CaFilesError};
use launchpad_pki::envelope::KeyProvider;
use launchpad_pki::files::FileError;
use launchpad_pki::keyring::LocalKeyring;
use launchpad_protocol::reason::Reason;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::catalogue::{self, CatalogueError};
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::fleet::Fleet;
use crate::fleet::server::{FleetConfig, FleetError, FleetParts, FleetServer};
use crate::outside::{Addresses, Outside};
use crate::signals::Signals;
use crate::store::{Intent, OpenError, Store, StoreUrl, StoreUrlError};
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
    /// The keyring.
    #[error("the keyring")]
    Keyring(#[source] FileError),
    /// The certificate authority.
    #[error("the certificate authority")]
    Ca(#[from] CaFilesError),
    /// The HTTP API's address.
    #[error("cannot listen on {address} for the HTTP API: {source}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
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
            Self::Keyring(_) => Reason::new("keyring-unusable", sentence)
                .mend("bring the keyring file back from its backup: without it no stored secret can be read"),
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
    let (app, ca) = open(&config, &dir, &outside).await?;
    let store = app.store.clone();
    let ended = serve(&config, &outside, app, ca, stop).await;
    store.close().await;
    ended
}

async fn open(config: &Config, dir: &DataDir, outside: &Outside) -> Result<(App, IssuingCa), CoordinatorError> {
    let profiles = catalogue::profiles(config.profiles.as_deref())?;
    let plans = catalogue::plans(config.plans.as_deref())?;
    let url = StoreUrl::parse(config.database_url.as_deref(), &dir.database())?;
    let store = Store::open(&url, Intent::Use, outside.clock.wall()).await?;
    let keys: Arc<dyn KeyProvider> =
        Arc::new(LocalKeyring::load(&dir.keyring()).map_err(CoordinatorError::Keyring)?);
    let ca = CaFiles::at(dir.ca()).load()?;
    let fleet = Fleet::new(outside.clock.clone(), outside.entropy.clone());
    let app = App {
        store,
        clock: outside.clock.clone(),
        entropy: outside.entropy.clone(),
        profiles: Arc::new(profiles),
        plans: Arc::new(plans),
        keys,
        fleet,
        signals: Signals::default(),
    };
    Ok((app, ca))
}

async fn serve(
    config: &Config,
    outside: &Outside,
    app: App,
    ca: IssuingCa,
    stop: CancellationToken,
) -> Result<(), CoordinatorError> {
    let bound = TcpListener::bind(config.http).await;
    let http = bound.map_err(|source| CoordinatorError::Http { address: config.http, source })?;
    let doors = FleetConfig {
        fleet: config.fleet,
        enroll: config.enroll,
        server_names: config.settings.server_names.clone(),
        advertise: config.settings.advertise_fleet.clone(),
    };
    let parts = FleetParts {
        store: app.store.clone(),
        signals: app.signals.clone(),
        fleet: app.fleet.clone(),
        ca,
        clock: app.clock.clone(),
        entropy: app.entropy.clone(),
    };
    let fleet = FleetServer::bind(doors, parts, stop.clone()).await?;
    let addresses = Addresses {
        http: http.local_addr().map_err(|source| CoordinatorError::Http { address: config.http, source })?,
        fleet: fleet.fleet_addr(),
        enroll: fleet.enroll_addr(),
    };
    tracing::info!(http = %addresses.http, fleet = %addresses.fleet, enroll = %addresses.enroll, "listening");
    outside.listening.send_replace(Some(addresses));
    let fleet = async {
        let ended = fleet.run().await;
        // The others have no reason to go on without it; after an orderly stop this changes nothing.
        stop.cancel();
        ended
    };
    let (ended, (), ()) = tokio::join!(fleet, api::serve(http, app.clone(), stop.clone()), jobs::run(&app, stop.clone()));
    tracing::info!("stopped");
    Ok(ended?)
}
