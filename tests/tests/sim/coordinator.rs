//! The coordinator: its files outlive it, and all of it is the real one but for its doors and its name server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use launchpad_coordinator::app::{App, Joining, StaffViews};
use launchpad_coordinator::catalogue;
use launchpad_coordinator::dns::{ByHand, DnsLookup};
use launchpad_coordinator::domain::actor::{Actor, Role};
use launchpad_coordinator::domain::host::HostState;
use launchpad_coordinator::domain::lease::Patience;
use launchpad_coordinator::fleet::Fleet;
use launchpad_coordinator::signals::Signals;
use launchpad_coordinator::store::accounts::{self, Account, User};
use launchpad_coordinator::store::{Commit, Intent, Store, StoreError, StoreUrl, Tx, hosts, meta};
use launchpad_pki::ca_files::CaFiles;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::keyring::{KeyringPlace, LocalKeyring};
use launchpad_pki::pipe::{PeerInfo, PeerPipe, Transport};
use launchpad_pki::sealing::SealingKey;
use launchpad_pki::serial::Serial;
use launchpad_protocol::capability;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use tokio_util::sync::CancellationToken;

use crate::chronicle::Chronicle;
use crate::machine::{CAPACITY, Machine};
use crate::net;
use crate::store_view::inline;

/// Tenants: two, so that one's network goes while the other's stays.
const ACCOUNTS: usize = 2;

/// What outlives its processes. Clones are the same coordinator.
#[derive(Clone)]
pub(crate) struct Coordinator(Arc<Parts>);

struct Parts {
    dir: PathBuf,
    clock: Clock,
    entropy: Entropy,
    chronicle: Chronicle,
    /// Which host is behind which name.
    machines: BTreeMap<String, HostId>,
    owners: Vec<Actor>,
    /// The process, while there is one.
    running: Mutex<Option<App>>,
}

impl Coordinator {
    /// One that was just installed in that directory, with those hosts enrolled.
    pub(crate) fn install(dir: &Path, clock: Clock, seed: u64, machines: &[Machine], chronicle: &Chronicle) -> Self {
        let (now, entropy) = (clock.wall(), Entropy::seeded(seed));
        let domain = TrustDomain::new("launchpad.internal").expect("a domain");
        CaFiles::at(dir.join("ca")).create(&domain, now).expect("a certificate authority");
        LocalKeyring::create(&keyring(dir)).expect("a keyring");
        let store = inline(Store::open_inline(&database(dir), Intent::Create, now)).expect("a new store");
        let owners: Vec<_> = (0..ACCOUNTS)
            .map(|_| Actor { user: entropy.id(now), role: Role::Owner, account: Some(entropy.id(now)) })
            .collect();
        let first = async |tx: &mut Tx| {
            meta::stamp(tx, entropy.id(now)).await?;
            for owner in &owners {
                let account = owner.account.ok_or(StoreError::Missing { what: "account" })?;
                let account = Account { id: account, name: account.to_string(), created_at: now };
                accounts::create(tx, &account).await?;
                let email = format!("{}@example.org", owner.user);
                accounts::create_user(tx, &User { id: owner.user, email, staff: None, created_at: now }).await?;
            }
            for machine in machines {
                let key = SealingKey::generate().expect("a key");
                let mut row = hosts::newcomer(machine.id(), machine.name(), "shared".to_owned(), &key.public(), now);
                row.state = HostState::Active;
                (row.features, row.capabilities) = (Feature::all(), capability::complete());
                (row.capacity, row.last_seen_at) = (CAPACITY, Some(now));
                hosts::create(tx, &row).await?;
            }
            Ok::<_, StoreError>(())
        };
        inline(store.write(Commit::Initialise, first)).expect("the first rows");
        inline(store.close());
        let machines = machines.iter().map(|machine| (machine.name(), machine.id())).collect();
        let (dir, chronicle, running) = (dir.to_owned(), chronicle.clone(), Mutex::new(None));
        Self(Arc::new(Parts { dir, clock, entropy, chronicle, machines, owners, running }))
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.dir.join(DATABASE)
    }

    pub(crate) fn owners(&self) -> &[Actor] {
        &self.0.owners
    }

    /// The process, for whoever wants something of it; none: it is down.
    pub(crate) fn running(&self) -> Option<App> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process is gone.
    pub(crate) fn gone(&self) {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// One process, until it is killed.
    pub(crate) async fn live(self) {
        self.0.chronicle.note(format_args!("coordinator: begins"));
        let Parts { dir, clock, machines, .. } = &*self.0;
        let ca = CaFiles::at(dir.join("ca")).load().expect("the certificate authority");
        let app = self.app().await;
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(app.clone());
        let pipes = net::listen().await.expect("the only listener of this machine");
        let (serial, not_after) =
            (Serial::random().expect("chance"), clock.wall() + std::time::Duration::from_secs(86_400));
        let peers = pipes.map(|accepted| {
            let (pipe, name) = accepted?;
            let host = machines.get(&name).copied().ok_or_else(|| std::io::Error::other("a stranger"))?;
            let peer = PeerInfo { host, transport: Transport::Sim, serial, not_after, remote: name };
            Ok(PeerPipe::new(pipe, peer))
        });
        let ended = launchpad_coordinator::run_over(peers, &app, ca, CancellationToken::new()).await;
        ended.expect("a coordinator runs until it is killed");
    }

    async fn app(&self) -> App {
        let Parts { dir, clock, entropy, .. } = &*self.0;
        let store = Store::open_inline(&database(dir), Intent::Use, clock.wall()).await;
        App {
            store: store.expect("the store opens whatever has happened"),
            clock: clock.clone(),
            entropy: entropy.clone(),
            profiles: Arc::new(catalogue::profiles(None).expect("the built-in profiles")),
            plans: Arc::new(catalogue::plans(None).expect("the built-in plans")),
            pools: Arc::new(catalogue::pools(None).expect("the built-in pools")),
            keys: Arc::new(LocalKeyring::load(&keyring(dir)).expect("the keyring")),
            fleet: Fleet::new(clock.clone(), entropy.clone()),
            patience: Patience::default(),
            signals: Signals::default(),
            joining: Joining { root: Digest::of(b"root"), endpoint: "coordinator:1".to_owned() },
            ingress_domain: None,
            dns: Arc::new(NoNames),
            dns_provider: Arc::new(ByHand),
            staff_views: StaffViews::default(),
        }
    }
}

const DATABASE: &str = "coordinator.db";

fn database(dir: &Path) -> StoreUrl {
    StoreUrl::Sqlite(dir.join(DATABASE))
}

fn keyring(dir: &Path) -> KeyringPlace {
    KeyringPlace::beside(dir.join("keyring"))
}

/// Nobody claims a domain.
#[derive(Debug)]
struct NoNames;

impl DnsLookup for NoNames {
    fn texts<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<String>, Reason>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
