//! What the tests against a real engine stand on: a host of their own on an engine that somebody started for
//! them.
//!
//! `make test` starts a private dockerd in a network namespace of its own, runs this test in that namespace,
//! and says so by two variables. Without them each test says loudly that it proves nothing, and passes. Tests
//! take turns: an agent owns its namespace's translation table. Whatever a test leaves is removed, also when
//! it fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions, RemoveContainerOptions};
use launchpad_agent::enforce::shape::TenantShape;
use launchpad_agent::execute::address::DEFAULT_POOL;
use launchpad_agent::execute::docker::{DockerHost, HostConfig};
use launchpad_agent::execute::facts::CgroupDriver;
use launchpad_agent::execute::{Eyes as _, Hands as _, cgroup};
use launchpad_agent::observe::{Container, LABEL_HOST, Observed};
use launchpad_agent::plan::action::{Action, StopCause};
use launchpad_pki::sealing::{SealContext, SealingKey};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::{Epoch, Generation, Revision};
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::seccomp;
use launchpad_protocol::spec::{
    EgressPolicy, FileKind, HostSpec, HttpProbe, Ingress, InstanceSpec, Isolation, Lease, Power, ProbeSet,
    ProcessSpec, Resources, RestartPolicy, SealedFile, Seccomp, Tmpfs, Volume,
};
use launchpad_protocol::time::Clock;
use tokio::sync::Mutex;

use crate::gatekeeper::Gatekeeper;

/// The engine's socket.
const DOCKER: &str = "LAUNCHPAD_TEST_DOCKER";
/// The echo image, by digest, in a registry that the engine reaches.
const IMAGE: &str = "LAUNCHPAD_TEST_IMAGE";

/// How long a condition may take to come true on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) const CONFIG_DIR: &str = "/etc/launchpad/config";
pub(crate) const SECRETS_DIR: &str = "/run/launchpad/secrets";
pub(crate) const PORT: u16 = 8080;

/// One agent's tests on a namespace at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// A host of a test's own.
pub(crate) struct Ground {
    pub(crate) docker: PathBuf,
    pub(crate) image: ImageRef,
    pub(crate) id: HostId,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) key: Arc<SealingKey>,
    pub(crate) entropy: Entropy,
    pub(crate) gate: Gatekeeper,
}

/// Runs a test on a ground of its own, and clears it away whatever came of it.
pub(crate) async fn on_ground<T, F>(test: T)
where
    T: FnOnce(Arc<Ground>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (docker, image) = match (std::env::var_os(DOCKER), std::env::var(IMAGE).ok()) {
        (Some(docker), Some(image)) => (docker, image),
        (None, None) => return skipped(),
        (docker, _) => {
            let (set, unset) = if docker.is_some() { (DOCKER, IMAGE) } else { (IMAGE, DOCKER) };
            panic!("{set} is set and {unset} is not: a test that was to run cannot; `make test` sets both");
        }
    };
    let _turn = TURN.lock().await;
    let entropy = Entropy::system();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ground = Arc::new(Ground {
        docker: docker.into(),
        image: image.parse().expect("an image by digest"),
        id: entropy.id(Clock::machine().wall()),
        gate: Gatekeeper::start(dir.path()).await,
        dir,
        key: Arc::new(SealingKey::generate().expect("entropy")),
        entropy,
    });
    let ended = tokio::spawn(test(Arc::clone(&ground))).await;
    ground.clear().await;
    if let Some(ground) = Arc::into_inner(ground) {
        ground.gate.end().await;
    }
    if let Err(failure) = ended {
        std::panic::resume_unwind(failure.into_panic());
    }
}

/// Past the test harness, which swallows the words of a test that passes.
fn skipped() {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED on a real engine, {DOCKER} and {IMAGE} are not set: {test}");
}

/// A part of a test that this host has nothing for; told past the test harness as well.
pub(crate) fn not_here(what: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED on this host, {reason}: {what}");
}

impl Ground {
    /// An agent's hands and eyes; called again, those of the same agent after a restart.
    pub(crate) async fn host(&self) -> DockerHost {
        self.host_behind(self.docker.clone()).await
    }

    /// The same, with the engine behind another socket.
    pub(crate) async fn host_behind(&self, docker: PathBuf) -> DockerHost {
        DockerHost::connect(HostConfig {
            docker,
            data_dir: self.dir.path().join("data"),
            run_dir: self.dir.path().join("run"),
            host: self.id,
            subnet_pool: DEFAULT_POOL,
            sealing_key: Arc::clone(&self.key),
        })
        .await
        .expect("a host")
    }

    pub(crate) fn engine(&self) -> Docker {
        let socket = self.docker.to_string_lossy();
        Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).expect("an engine")
    }

    /// A bot of a tenant of its own, told that by its config.
    pub(crate) fn bot(&self, config: &str) -> InstanceSpec {
        let now = Clock::machine().wall();
        self.bot_of(self.entropy.id(now), config)
    }

    /// Another bot of that tenant.
    pub(crate) fn bot_of(&self, account: AccountId, config: &str) -> InstanceSpec {
        let deployment: DeploymentId = self.entropy.id(Clock::machine().wall());
        InstanceSpec {
            deployment,
            account,
            name: "echo".to_owned(),
            revision: Revision(1),
            epoch: Epoch(1),
            lease: Lease::Keep,
            power: Power::On,
            profile: "echo".to_owned(),
            image: self.image.clone(),
            process: ProcessSpec {
                uid: 1000,
                gid: 1000,
                command: vec![],
                environment: BTreeMap::from([
                    ("PORT".to_owned(), PORT.to_string()),
                    ("ECHO_CONFIG".to_owned(), format!("{CONFIG_DIR}/echo.conf")),
                    ("ECHO_SECRETS".to_owned(), SECRETS_DIR.to_owned()),
                ]),
            },
            resources: Resources { cpu_millis: 500, memory_bytes: 64 << 20, pids: 40 },
            isolation: isolation(),
            // Real room on the disk of whoever runs the tests.
            volume: Some(Volume { path: "/state".to_owned(), bytes: 64 << 20 }),
            egress: EgressPolicy::default(),
            ingress: Ingress { port: PORT, hostnames: BTreeSet::new() },
            files: vec![
                self.seal(deployment, CONFIG_DIR, "echo.conf", config.as_bytes()),
                self.seal(deployment, SECRETS_DIR, "token", b"a secret"),
            ],
            secret_environment: BTreeMap::new(),
            probes: ProbeSet {
                startup: probe("/startupz"),
                readiness: probe("/readyz"),
                liveness: probe("/healthz"),
            },
            restart: RestartPolicy {
                terminal: BTreeSet::from([78]),
                transient: vec![],
                backoff_initial: Duration::from_secs(1),
                backoff_cap: Duration::from_secs(60),
                forgiven_after: Duration::from_secs(600),
            },
            stop_grace: Duration::from_secs(5),
            requires: BTreeSet::new(),
            recreate_hash: Digest::of(b"first"),
            operations: vec![],
        }
    }

    pub(crate) fn seal(&self, deployment: DeploymentId, dir: &str, name: &str, content: &[u8]) -> SealedFile {
        let context = SealContext { host: self.id, deployment, file: name.to_owned(), version: 1 };
        SealedFile {
            name: name.to_owned(),
            dir: dir.to_owned(),
            kind: FileKind::Config,
            version: Revision(1),
            ciphertext: self.key.public().seal(&context, content).expect("a seal"),
        }
    }

    /// The process of a bot that runs.
    pub(crate) async fn process_of(&self, host: &DockerHost, spec: &InstanceSpec) -> i64 {
        let containers = host.observe(&BTreeSet::new()).await.expect("an observation").containers;
        let container = containers.into_values().find(|container| container.deployment == spec.deployment);
        let id = container.expect("the bot's container").id;
        let found = self.engine().inspect_container(&id, None).await.expect("a container");
        found.state.and_then(|state| state.pid).expect("a process")
    }

    /// The subnets of this host's networks, as the engine has them.
    pub(crate) async fn networks(&self) -> Vec<String> {
        let label = format!("{LABEL_HOST}={}", self.id);
        let options = ListNetworksOptions { filters: Some(HashMap::from([("label".to_owned(), vec![label])])) };
        let listed = self.engine().list_networks(Some(options)).await.expect("a list");
        let ranges = listed.into_iter().filter_map(|network| network.ipam?.config?.into_iter().next()?.subnet);
        let mut subnets: Vec<String> = ranges.collect();
        subnets.sort();
        subnets
    }

    /// Removes all that the test has left, by the engine's own means.
    async fn clear(&self) {
        // First what needs no engine. A volume's loop device goes with its last mount.
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = |line: &str| Some(PathBuf::from(line.split(' ').nth(4)?));
        for point in table.lines().filter_map(below).filter(|point| point.starts_with(self.dir.path())) {
            let _ = nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH);
        }
        let engine = self.engine();
        let ours = || Some(HashMap::from([("label".to_owned(), vec![format!("{LABEL_HOST}={}", self.id)])]));
        let options = ListContainersOptions { all: true, filters: ours(), ..ListContainersOptions::default() };
        for container in engine.list_containers(Some(options)).await.expect("a list") {
            let options = RemoveContainerOptions { v: true, force: true, link: false };
            engine.remove_container(&container.id.unwrap_or_default(), Some(options)).await.expect("removed");
        }
        for network in engine.list_networks(Some(ListNetworksOptions { filters: ours() })).await.expect("a list") {
            engine.remove_network(&network.id.unwrap_or_default()).await.expect("removed");
        }
    }
}

/// The control groups that bear a tenant's name, whoever makes groups on this machine.
pub(crate) fn groups_of(account: AccountId) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = [CgroupDriver::Cgroupfs, CgroupDriver::Systemd].map(|driver| cgroup::below_root(account, driver));
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let roots = hierarchies.chain([root.to_owned()]);
    let groups = roots.flat_map(|root| below.clone().into_iter().flatten().map(move |below| root.join(below)));
    groups.filter(|group| group.exists()).collect()
}

fn isolation() -> Isolation {
    Isolation {
        read_only_root: true,
        no_new_privileges: true,
        capabilities: BTreeSet::new(),
        seccomp: Seccomp::Profile(seccomp::compile(&BTreeSet::new()).expect("it adds nothing")),
        apparmor: None,
        tmpfs: vec![Tmpfs { path: "/tmp".to_owned(), bytes: 16 << 20, mode: 0o1777, exec: false }],
        open_files: 1024,
        shm_bytes: 1 << 20,
        log_bytes: 4_000_000,
    }
}

pub(crate) fn probe(path: &str) -> HttpProbe {
    HttpProbe {
        path: path.to_owned(),
        period: Duration::from_millis(50),
        timeout: Duration::from_secs(2),
        failures: 3,
        body_contains: Some("\"ok\":true".to_owned()),
    }
}

/// Every action that leads to a running bot, each carried out twice: once must be enough, twice must be no
/// more.
pub(crate) async fn deploy(host: &DockerHost, spec: &InstanceSpec) {
    for action in steps(spec) {
        for time in ["once", "twice"] {
            host.execute(&action).await.unwrap_or_else(|error| panic!("{action} {time}: {error}"));
        }
    }
}

/// What leads to a running bot.
pub(crate) fn steps(spec: &InstanceSpec) -> Vec<Action> {
    let boxed = || Box::new(spec.clone());
    vec![
        Action::PullImage { image: spec.image.clone() },
        Action::EnsureNetwork { account: spec.account },
        Action::ShapeTenant { account: spec.account, shape: TenantShape::of(&desired(spec), spec.account) },
        Action::PrepareVolume { spec: boxed() },
        Action::WriteFiles { spec: boxed() },
        Action::OpenGate { spec: boxed() },
        Action::CreateContainer { spec: boxed() },
        Action::StartContainer { deployment: spec.deployment, container: None },
    ]
}

/// What a host should be that has this bot alone.
pub(crate) fn desired(spec: &InstanceSpec) -> HostSpec {
    HostSpec {
        host: spec.deployment.uuid().into(),
        incarnation: spec.deployment.uuid().into(),
        generation: Generation(1),
        instances: BTreeMap::from([(spec.deployment, spec.clone())]),
        tombstones: BTreeMap::new(),
        upgrade: None,
    }
}

/// What stops a container, by hand.
pub(crate) fn stop(container: &Container) -> Action {
    Action::StopContainer {
        container: container.id.clone(),
        grace: Duration::from_secs(5),
        why: StopCause::LocalStop,
    }
}

/// Observes until the only container is as it should be.
pub(crate) async fn until(host: &DockerHost, what: &str, is_so: impl Fn(&Container) -> bool) -> Container {
    let mut last = None;
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let observed: Observed = host.observe(&BTreeSet::new()).await.expect("an observation");
            last = observed.containers.into_values().next();
            if let Some(container) = last.clone().filter(|container| is_so(container)) {
                return container;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), host.changed()).await;
        }
    });
    let ended = waited.await;
    ended.unwrap_or_else(|_| panic!("waited in vain until {what}: {last:#?}"))
}

/// Asks until a GET answers well.
pub(crate) async fn answers(host: &DockerHost, address: Ipv4Addr, probe: &HttpProbe) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while host.probe(address, PORT, probe).await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    if waited.await.is_err() {
        panic!("{} never answered: {:?}", probe.path, host.probe(address, PORT, probe).await);
    }
}

/// A POST to the bot, as its neighbours might send it.
pub(crate) async fn post(address: Ipv4Addr, path: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect((address, PORT)).await.expect("a connection");
    let request = format!("POST {path} HTTP/1.1\r\nhost: bot\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    // A bot that is told to crash answers or does not.
    let _ = stream.read_to_string(&mut answer).await;
}

/// Everything up to the start, which may find that the bot has ended already.
pub(crate) async fn deploy_up_to_start(host: &DockerHost, spec: &InstanceSpec) {
    for action in steps(spec) {
        host.execute(&action).await.unwrap_or_else(|error| panic!("{action}: {error}"));
    }
}
