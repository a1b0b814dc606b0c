//! A coordinator without doors: a store in a directory, a clock that a test moves, hosts that exist only as rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::keyring::{KeyringPlace, LocalKeyring};
use launchpad_pki::sealing::{SealContext, SealingKey};
use launchpad_protocol::capability;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::{Accepted, Epoch, Fence, Generation, Revision};
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::report::{Capacity, EventBatch, HostReport, InstanceReport, Phase};
use launchpad_protocol::spec::{HostSpec, InstanceSpec, SpecOffer};
use launchpad_protocol::time::{Clock, Moment};
use launchpad_protocol::wire::decode_spec;
use tempfile::TempDir;

use super::deployments::DeploymentView;
use super::idempotency::Once;
use super::{App, AppError, Joining, StaffViews};
use crate::catalogue;
use crate::command::{Catalogue, CreateDeployment, DeploymentDraft, DeploymentRef, Secret};
use crate::dns::ByHand;
use crate::dns::fake::Names;
use crate::domain::actor::{Actor, Role, Scope};
use crate::domain::deployment::{Event, step};
use crate::domain::host::HostState;
use crate::domain::lease::Patience;
use crate::domain::plan_table::PlanTable;
use crate::domain::pool_table::PoolTable;
use crate::fleet::Fleet;
use crate::signals::Signals;
use crate::store::accounts::{self, Account, User};
use crate::store::deployments::{self, Deployment};
use crate::store::revisions::StoredFile;
use crate::store::{Commit, Intent, Store, StoreError, StoreUrl, Tx, hosts, meta, reports, revisions, specs};

pub(crate) const START: Moment = Moment::from_micros(1_800_000_000_000_000);
pub(crate) const GIB: u64 = 1 << 30;

pub(crate) struct Lab {
    pub(crate) app: App,
    pub(crate) account: AccountId,
    /// What stands in the domain name system.
    pub(crate) names: Names,
    dir: TempDir,
}

/// A host that is a row and a key.
pub(crate) struct LabHost {
    pub(crate) id: HostId,
    key: SealingKey,
}

impl Lab {
    /// A coordinator after `init`, with one account.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = StoreUrl::Sqlite(dir.path().join("coordinator.db"));
        let store = Store::open(&url, Intent::Create, START).await.unwrap();
        let stamp = async |tx: &mut Tx| meta::stamp(tx, Entropy::system().id(START)).await;
        store.write(Commit::Initialise, stamp).await.unwrap();
        LocalKeyring::create(&keyring(&dir)).unwrap();
        store.close().await;
        let names = Names::default();
        let app = open(&dir, Clock::manual(START), &names).await;
        let account = app.entropy.id(START);
        let lab = Self { app, account, names, dir };
        lab.add_account(account).await;
        lab
    }

    /// The same coordinator after a SIGKILL: another process on the same files, with no signal left over.
    pub(crate) async fn killed(self) -> Self {
        let app = open(&self.dir, self.app.clock.clone(), &self.names).await;
        Self { app, ..self }
    }

    pub(crate) async fn add_account(&self, id: AccountId) {
        let account = Account { id, name: "an account".to_owned(), created_at: START };
        self.write(async |tx| accounts::create(tx, &account).await).await;
    }

    /// Somebody of that role, in the lab's account unless of the staff.
    pub(crate) async fn actor(&self, role: Role) -> Actor {
        let user = self.app.entropy.id(START);
        let row = User { id: user, email: format!("{user}@x.example"), staff: None, created_at: START };
        self.write(async |tx| accounts::create_user(tx, &row).await).await;
        Actor { user, role, account: (!role.is_staff()).then_some(self.account) }
    }

    /// An active host in pool `shared` with that much memory, and plenty of everything else.
    pub(crate) async fn host(&self, memory_bytes: u64) -> LabHost {
        let key = SealingKey::generate().unwrap();
        let id = self.app.entropy.id(self.app.clock.wall());
        let now = self.app.clock.wall();
        let mut row = hosts::newcomer(id, "web-1".to_owned(), "shared".to_owned(), &key.public(), now);
        row.state = HostState::Active;
        row.features = Feature::all();
        row.capabilities = capability::complete();
        row.capacity = Capacity { cpu_millis: 64_000, memory_bytes, storage_bytes: 1 << 50 };
        row.last_seen_at = Some(now);
        self.write(async |tx| hosts::create(tx, &row).await).await;
        LabHost { id, key }
    }

    /// A wish for the tiny bot on the Starter plan, with a secret.
    pub(crate) fn wish(&self, name: &str, plan: &str) -> CreateDeployment {
        let draft = DeploymentDraft {
            account: None,
            name: name.to_owned(),
            profile: "echo".to_owned(),
            plan: plan.to_owned(),
            image: format!("registry.example/echo@{}", Digest::of(b"echo")),
            pool: None,
            config: Some("label = mine".to_owned()),
            secrets: BTreeMap::from([("key".to_owned(), Secret::new("geheim".to_owned()))]),
            egress: Vec::new(),
            policy: None,
        };
        let catalogue = Catalogue { profiles: &self.app.profiles, plans: &self.app.plans };
        CreateDeployment::new(draft, catalogue).unwrap()
    }

    pub(crate) async fn try_create(&self, name: &str, plan: &str) -> Result<DeploymentView, AppError> {
        let member = self.actor(Role::Member).await;
        // Wishes of one moment are in no order.
        self.advance(Duration::from_micros(1));
        self.app.create_deployment(&member, self.wish(name, plan), &Once::unclaimed()).await
    }

    pub(crate) async fn create(&self, name: &str) -> DeploymentId {
        self.try_create(name, "starter").await.unwrap().id
    }

    pub(crate) async fn row(&self, id: DeploymentId) -> Deployment {
        self.read(async |tx| deployments::get(tx, Scope::Every, id).await).await.unwrap()
    }

    /// What its host is made to report of a deployment.
    pub(crate) async fn happen(&self, id: DeploymentId, event: Event) {
        let mut row = self.row(id).await;
        let transition = step(row.state, event).unwrap();
        let line = self.app.entropy.id(START);
        let advance = async |tx: &mut Tx| deployments::advance(tx, &mut row, &transition, line, START).await;
        assert!(self.write(advance).await, "it was no news");
    }

    pub(crate) async fn offer(&self, host: &LabHost) -> Option<SpecOffer> {
        self.read(async |tx| specs::latest(tx, host.id).await).await
    }

    pub(crate) async fn spec(&self, host: &LabHost) -> HostSpec {
        decode_spec(&self.offer(host).await.unwrap()).unwrap()
    }

    pub(crate) async fn generation(&self, host: &LabHost) -> Option<u64> {
        self.offer(host).await.map(|offer| offer.generation.0)
    }

    /// The host reports that it holds a spec, and one instance.
    pub(crate) async fn report(
        &self,
        host: &LabHost,
        held: Option<Accepted>,
        instance: Option<(DeploymentId, InstanceReport)>,
    ) {
        let report = HostReport { accepted: held, instances: instance.into_iter().collect(), ..self.nothing() };
        self.keep_report(host, &report).await;
        if let Some(held) = held {
            self.write(async |tx| specs::raise_floor(tx, host.id, held, START).await).await;
        }
    }

    /// A report is stored as it is; nothing follows from it.
    pub(crate) async fn keep_report(&self, host: &LabHost, report: &HostReport) {
        self.write(async |tx| reports::keep(tx, host.id, Fence(1), report, START).await).await;
    }

    /// The report of a host with nothing to tell.
    pub(crate) fn nothing(&self) -> HostReport {
        HostReport {
            boot_id: "boot".to_owned(),
            agent_version: "1".to_owned(),
            wall: START,
            accepted: None,
            applied: Generation(0),
            capacity: Capacity::default(),
            capabilities: BTreeMap::new(),
            instances: BTreeMap::new(),
            orphans: Vec::new(),
            buried: [].into(),
            outcomes: BTreeMap::new(),
            troubles: Vec::new(),
            events: EventBatch { journal: self.app.entropy.id(START), dropped: 0, events: Vec::new() },
            denials: BTreeMap::new(),
            gate: None,
        }
    }

    /// Every file that the store has on disk.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.to_string_lossy().contains("coordinator.db")).collect()
    }

    /// Damages what is stored of a deployment's files, as a bad restore would: they belong to another revision now.
    pub(crate) async fn spoil_files(&self, id: DeploymentId) {
        let spoil = async |tx: &mut Tx| {
            let files = revisions::files(tx, id, Revision(1)).await?;
            revisions::destroy_files(tx, id).await?;
            let mut revision = revisions::get(tx, id, Revision(1)).await?;
            revision.blueprint.revision = Revision(2);
            let files: Vec<_> = files.into_values().map(|file| StoredFile { version: 77, ..file }).collect();
            revisions::create(tx, &revision, &files).await?;
            let mut row = deployments::get(tx, Scope::Every, id).await?.ok_or(StoreError::Missing { what: "it" })?;
            row.revision = Revision(2);
            deployments::update(tx, &mut row).await
        };
        self.write(spoil).await;
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.app.clock.advance(span);
    }

    pub(crate) async fn write<T>(&self, body: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> T {
        self.app.store.write(Commit::StoreReport, body).await.unwrap()
    }

    pub(crate) async fn read<T>(&self, body: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> T {
        self.app.store.read(body).await.unwrap()
    }

    /// The coordinator with other pools.
    pub(crate) fn with_pools(mut self, pools: PoolTable) -> Self {
        self.app.pools = Arc::new(pools);
        self
    }

    /// The coordinator with another domain for public names, as after a restart with another option.
    pub(crate) fn with_ingress_domain(mut self, domain: Option<&str>) -> Self {
        self.app.ingress_domain = domain.map(|domain| Arc::new(domain.parse().unwrap()));
        self
    }

    /// The coordinator with other profiles and plans, as after an upgrade.
    pub(crate) fn with_catalogue(mut self, profiles: BTreeMap<String, Profile>, plans: PlanTable) -> Self {
        self.app.profiles = Arc::new(profiles);
        self.app.plans = Arc::new(plans);
        self
    }
}

impl LabHost {
    /// The contents of an instance's files, as this host opens them.
    pub(crate) fn opened(&self, spec: &InstanceSpec) -> BTreeMap<String, String> {
        let open = |file: &launchpad_protocol::spec::SealedFile| {
            let context = SealContext {
                host: self.id,
                deployment: spec.deployment,
                file: file.name.clone(),
                version: file.version.0,
            };
            let content = self.key.open(&context, &file.ciphertext).unwrap();
            (file.name.clone(), String::from_utf8(content.to_vec()).unwrap())
        };
        spec.files.iter().map(open).collect()
    }
}

pub(crate) fn named(id: DeploymentId) -> DeploymentRef {
    id.to_string().parse().unwrap()
}

/// What a host says of an instance at that revision and epoch.
pub(crate) fn instance(phase: Phase, revision: u64, epoch: u64) -> InstanceReport {
    InstanceReport {
        phase,
        reason: None,
        revision: Revision(revision),
        epoch: Epoch(epoch),
        container: None,
        restarts: 0,
        ready_at: None,
        enforcement: BTreeMap::new(),
        volume: None,
        oom_kills: 0,
    }
}

fn keyring(dir: &TempDir) -> KeyringPlace {
    KeyringPlace::beside(dir.path().join("keyring"))
}

async fn open(dir: &TempDir, clock: Clock, names: &Names) -> App {
    let entropy = Entropy::system();
    let url = StoreUrl::Sqlite(dir.path().join("coordinator.db"));
    App {
        store: Store::open(&url, Intent::Use, START).await.unwrap(),
        fleet: Fleet::new(clock.clone(), entropy.clone()),
        clock,
        entropy,
        profiles: Arc::new(catalogue::profiles(None).unwrap()),
        plans: Arc::new(PlanTable::default()),
        pools: Arc::new(PoolTable::default()),
        keys: Arc::new(LocalKeyring::load(&keyring(dir)).unwrap()),
        signals: Signals::default(),
        joining: Joining { root: Digest::of(b"root"), endpoint: "127.0.0.1:1".to_owned() },
        ingress_domain: Some(Arc::new("bots.example.com".parse().unwrap())),
        dns: Arc::new(names.clone()),
        dns_provider: Arc::new(ByHand),
        staff_views: StaffViews::default(),
        patience: Patience::default(),
    }
}
