//! The fleet's side of a coordinator, real in everything but the rest of the process: real sockets, real store.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use launchpad_coordinator::domain::actor::Scope;
use launchpad_coordinator::domain::deployment::State;
use launchpad_coordinator::domain::host::HostState;
use launchpad_coordinator::domain::lease::Policy;
use launchpad_coordinator::fleet::Fleet;
use launchpad_coordinator::fleet::server::{FleetConfig, FleetError, FleetParts, FleetServer, Lives};
use launchpad_coordinator::signals::Signals;
use launchpad_coordinator::store::accounts::{self, Account};
use launchpad_coordinator::store::deployments::{self, Deployment};
use launchpad_coordinator::store::join_tokens::{self, JoinTokenRow};
use launchpad_coordinator::store::{
    Commit, Intent, Store, StoreError, StoreUrl, Tx, certificates, hosts, meta, specs,
};
use launchpad_pki::ca_files::CaFiles;
use launchpad_pki::envelope::KeyProvider;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::keyring::{KeyringPlace, LocalKeyring};
use launchpad_pki::token::{JoinToken, TOKEN_LIFE};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::{Epoch, Generation, Revision};
use launchpad_protocol::id::{DeploymentId, HostId, IncarnationId, TypedId};
use launchpad_protocol::report::Capacity;
use launchpad_protocol::spec::{HostSpec, SpecOffer};
use launchpad_protocol::time::{Clock, Moment};
use launchpad_protocol::wire::encode_spec;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Machine};
use super::{PATIENCE, within};

pub const SERVER_NAME: &str = "coordinator.launchpad.internal";

/// Below those that Linux gives out (net.ipv4.ip_local_port_range), above those that are known.
const PORTS: Range<u16> = 20_000..32_000;

/// What outlives the process: the data directory and its CA.
#[derive(Clone)]
pub struct Home {
    dir: Arc<TempDir>,
    url: StoreUrl,
    pub clock: Clock,
}

/// A running process, as far as the fleet sees it.
pub struct Coordinator {
    pub home: Home,
    pub store: Store,
    pub fleet: Fleet,
    pub signals: Signals,
    pub entropy: Entropy,
    pub fleet_addr: SocketAddr,
    pub enroll_addr: SocketAddr,
    pub root: Digest,
    stop: CancellationToken,
    served: JoinHandle<Result<(), FleetError>>,
}

impl Home {
    pub async fn new(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = StoreUrl::Sqlite(dir.path().join("coordinator.db"));
        Self::with(dir, url, clock).await
    }

    /// One whose store is at that URL.
    pub async fn at(url: StoreUrl, clock: Clock) -> Self {
        Self::with(tempfile::tempdir().unwrap(), url, clock).await
    }

    async fn with(dir: TempDir, url: StoreUrl, clock: Clock) -> Self {
        let home = Self { dir: Arc::new(dir), url, clock };
        let domain = TrustDomain::new("launchpad.internal").unwrap();
        home.ca_files().create(&domain, home.clock.wall()).unwrap();
        let store = Store::open(&home.url, Intent::Create, home.clock.wall()).await.unwrap();
        let incarnation = Entropy::system().id(home.clock.wall());
        let stamp = async |tx: &mut Tx| meta::stamp(tx, incarnation).await;
        store.write::<_, StoreError>(Commit::Initialise, stamp).await.unwrap();
        store.close().await;
        home
    }

    pub fn database(&self) -> std::path::PathBuf {
        self.dir.path().join("coordinator.db")
    }

    /// The keyring.
    pub fn keys(&self) -> Arc<dyn KeyProvider> {
        Arc::new(LocalKeyring::load_or_create(&KeyringPlace::beside(self.dir.path().join("keyring"))).unwrap())
    }

    pub fn ca_files(&self) -> CaFiles {
        CaFiles::at(self.dir.path().join("pki"))
    }

    /// Starts the process, on the given ports or on any.
    pub async fn start(self, at: Option<(SocketAddr, SocketAddr)>) -> Coordinator {
        let (fleet_addr, enroll_addr) = at.unwrap_or_else(|| (door(), door()));
        let store = Store::open(&self.url, Intent::Use, self.clock.wall()).await.unwrap();
        let ca = self.ca_files().load().unwrap();
        let (entropy, signals) = (Entropy::system(), Signals::default());
        let fleet = Fleet::new(self.clock.clone(), entropy.clone());
        let root = ca.root_digest();
        let config = FleetConfig {
            fleet: fleet_addr,
            enroll: enroll_addr,
            server_names: vec![SERVER_NAME.to_owned()],
            advertise: None,
            lives: Lives::default(),
        };
        let parts = FleetParts {
            store: store.clone(),
            signals: signals.clone(),
            fleet: fleet.clone(),
            ca,
            keys: self.keys(),
            clock: self.clock.clone(),
            entropy: entropy.clone(),
        };
        let stop = CancellationToken::new();
        let server = FleetServer::bind(config, parts, stop.clone()).await.unwrap();
        let (fleet_addr, enroll_addr) = (server.fleet_addr(), server.enroll_addr());
        let served = tokio::spawn(server.run());
        Coordinator { home: self, store, fleet, signals, entropy, fleet_addr, enroll_addr, root, stop, served }
    }
}

impl Coordinator {
    pub async fn start() -> Self {
        Home::new(Clock::machine()).await.start(None).await
    }

    /// One whose clock stands still until the test moves it.
    pub async fn with_manual_clock() -> Self {
        Home::new(Clock::manual(Clock::machine().wall())).await.start(None).await
    }

    /// Stops the process in good order, and starts it again where it was.
    pub async fn restart(self) -> Self {
        let at = (self.fleet_addr, self.enroll_addr);
        self.stop().await.start(Some(at)).await
    }

    /// Stops the process in good order.
    pub async fn stop(self) -> Home {
        self.stop.cancel();
        within(self.served).await.unwrap().unwrap();
        self.store.close().await;
        self.home
    }

    pub fn enroll_endpoint(&self) -> String {
        self.enroll_addr.to_string()
    }

    pub fn now(&self) -> Moment {
        self.home.clock.wall()
    }

    pub fn id<I: TypedId>(&self) -> I {
        self.entropy.id(self.now())
    }

    /// A join token, as an operator would make it.
    pub async fn token(&self) -> JoinToken {
        let token = JoinToken::new(self.id(), self.root).unwrap();
        let row = JoinTokenRow {
            id: token.id,
            secret_hash: token.secret_hash(),
            name: None,
            pool: "shared".to_owned(),
            created_by: self.id(),
            created_at: self.now(),
            expires_at: self.now() + TOKEN_LIFE,
            used: None,
        };
        self.write(Commit::CreateJoinToken, async |tx| join_tokens::create(tx, &row).await).await;
        token
    }

    /// A host that has joined under that name.
    pub async fn host(&self, name: &str) -> Agent {
        let token = self.token().await;
        Machine::new(name, &self.home.clock).enroll(&self.enroll_endpoint(), &token).await
    }

    /// A deployment on that host, whose image is being fetched.
    pub async fn deployment(&self, host: HostId, name: &str) -> Deployment {
        let account = Account { id: self.id(), name: name.to_owned(), created_at: self.now() };
        let deployment = Deployment {
            id: self.id(),
            account: account.id,
            name: name.to_owned(),
            profile: "echo".to_owned(),
            plan: "starter".to_owned(),
            image: format!("registry.test/echo@{}", Digest::of(b"echo")).parse().unwrap(),
            pool: "shared".to_owned(),
            policy: Policy::Keep,
            state: State::Provisioning,
            reason: None,
            revision: Revision(1),
            epoch: Epoch(1),
            host: Some(host),
            size: Capacity { cpu_millis: 500, memory_bytes: 1 << 30, storage_bytes: 10_000_000_000 },
            created_at: self.now(),
            changed_at: self.now(),
            deleted_at: None,
            version: 1,
        };
        let create = async |tx: &mut Tx| {
            accounts::create(tx, &account).await?;
            deployments::create(tx, &deployment).await
        };
        assert!(self.write(Commit::CreateDeployment, create).await);
        deployment
    }

    /// What the store knows of a deployment now.
    pub async fn seen(&self, id: DeploymentId) -> Deployment {
        self.read(async |tx| deployments::get(tx, Scope::Every, id).await).await.unwrap()
    }

    /// Publishes an empty spec of that generation, as the compiler would, and signals it.
    pub async fn publish(&self, host: HostId, generation: u64) -> SpecOffer {
        let incarnation = self.read(meta::incarnation).await;
        let offer = offer(host, incarnation, generation);
        let publish = async |tx: &mut Tx| {
            let read = specs::latest(tx, host).await?.map(|latest| latest.generation);
            specs::publish(tx, host, read, &offer, self.now()).await
        };
        assert!(self.write(Commit::Publish, publish).await);
        self.signals.publisher.notify();
        offer
    }

    /// Revokes a host, as an operator would.
    pub async fn revoke(&self, host: HostId) {
        let revoke = async |tx: &mut Tx| {
            hosts::set_state(tx, host, HostState::Retired).await?;
            certificates::revoke_all(tx, host, self.now()).await
        };
        assert!(self.write(Commit::RevokeHost, revoke).await > 0);
    }

    /// Lets publishing go on above what that host is known to hold, as an operator would.
    pub async fn confirm(&self, host: HostId, life: IncarnationId) {
        let confirm = async |tx: &mut Tx| {
            specs::confirm_floor(tx, host, life).await?;
            meta::thaw(tx).await
        };
        self.write(Commit::ConfirmRecovery, confirm).await;
    }

    /// Takes a host out of the store, as a copy from before it joined would be without it.
    pub async fn forget(&self, host: HostId) {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}", self.home.database().display());
        let pool = sqlx::AnyPool::connect(&url).await.unwrap();
        for table in ["certificates WHERE host_id", "join_tokens WHERE host_id", "hosts WHERE id"] {
            let statement = format!("DELETE FROM {table} = '{host}'");
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        }
        pool.close().await;
    }

    /// Writes to the store as some other part of the coordinator would.
    pub async fn write<T>(&self, commit: Commit, body: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> T {
        self.store.write(commit, body).await.unwrap()
    }

    pub async fn read<T>(&self, body: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> T {
        self.store.read(body).await.unwrap()
    }
}

/// Polls until it holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A port that the kernel gives to nobody by itself, as it would the port of a coordinator that is about to come back.
fn door() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let after = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
        let port = PORTS.start + u16::try_from(after % u32::from(PORTS.end - PORTS.start)).unwrap();
        let door = SocketAddr::from(([127, 0, 0, 1], port));
        if std::net::TcpListener::bind(door).is_ok() && std::net::UdpSocket::bind(door).is_ok() {
            return door;
        }
    }
}

/// An empty spec.
pub fn offer(host: HostId, incarnation: IncarnationId, generation: u64) -> SpecOffer {
    let spec = HostSpec {
        host,
        incarnation,
        generation: Generation(generation),
        instances: BTreeMap::new(),
        tombstones: BTreeMap::new(),
        upgrade: None,
    };
    encode_spec(&spec)
}
