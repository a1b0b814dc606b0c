//! An installation with its CA, and an agent's link with the test in the reconciler's place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use launchpad_agent::execute::{ExecuteError, Eyes};
use launchpad_agent::identity::{Enrolled, Identity, IdentityFiles};
use launchpad_agent::link::ports::{Floor, Judged, LinkStatus, ReconcilePorts, ports};
use launchpad_agent::link::{Introduction, Link, Pace, Reach};
use launchpad_agent::observe::Observed;
use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::{HOST_LIFE, IssuingCa, RootCa};
use launchpad_pki::enroll::Nonce;
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::tls::Credentials;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::{Answer, LogLine, OutputStream, Question};
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::{HostId, IncarnationId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capacity, EventBatch, HostReport};
use launchpad_protocol::spec::{HttpProbe, SpecOffer};
use launchpad_protocol::time::{Clock, Moment};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The name in the fleet listener's certificate.
pub(crate) const SERVER: &str = "fleet.launchpad.internal";

/// Far above what anything here takes, far below a human's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long before this test the installation was made: longer than a certificate that is to have expired was issued.
const INSTALLED: Duration = Duration::from_secs(40 * 24 * 3600);

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("launchpad.internal").unwrap()
}

/// Polls until `so` holds.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let poll = async {
        while !so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(DEADLINE, poll).await.is_ok(), "never so: {what}");
}

/// An installation, by the machine's clock.
pub(crate) struct World {
    pub(crate) ca: IssuingCa,
    pub(crate) bundle: TrustBundle,
    pub(crate) server: Arc<Credentials>,
    pub(crate) clock: Clock,
    pub(crate) host: HostId,
    pub(crate) incarnation: IncarnationId,
    pub(crate) nonce: Nonce,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let clock = Clock::machine();
        let made = clock.wall() - INSTALLED;
        let ca = RootCa::create(&domain(), made).unwrap().sign_issuing(&domain(), made).unwrap();
        let server = ca.issue_server(&[SERVER.to_owned()], clock.wall()).unwrap();
        let bundle = ca.bundle().unwrap();
        Arc::new(Self {
            server: Credentials::new(server.chain_der, &server.key).unwrap(),
            host: Entropy::system().id(made),
            incarnation: Entropy::system().id(made),
            nonce: Nonce::random().unwrap(),
            clock,
            bundle,
            ca,
        })
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.wall()
    }

    /// The identity of a host that was enrolled or renewed that long ago.
    pub(crate) fn identity(&self, age: Duration, fleet: &[SocketAddr], enroll: SocketAddr) -> Identity {
        let key = HostKey::generate().unwrap();
        let issued = self.ca.issue_host(&key.csr_der().unwrap(), self.host, self.now() - age, HOST_LIFE).unwrap();
        Identity {
            host: self.host,
            name: "web-1".to_owned(),
            trust_domain: domain(),
            key: Arc::new(key),
            chain: issued.chain_der,
            bundle: self.bundle.clone(),
            fleet_endpoints: fleet.iter().map(|address| address.to_string().parse().unwrap()).collect(),
            server_name: SERVER.to_owned(),
            enroll_endpoint: enroll.to_string().parse().unwrap(),
        }
    }
}

/// An agent's link, and the ends of its ports.
pub(crate) struct Agent {
    pub(crate) ports: ReconcilePorts,
    pub(crate) enrolled: Arc<Enrolled>,
    pub(crate) data: tempfile::TempDir,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

/// As fast as a test wants it.
pub(crate) fn quick() -> Pace {
    Pace {
        first_answer: Duration::from_millis(300),
        retry_first: Duration::from_millis(20),
        retry_cap: Duration::from_millis(100),
        apart_again: Duration::from_millis(400),
        quic_again: Duration::from_secs(450),
        steady_after: Duration::ZERO,
    }
}

impl Agent {
    pub(crate) fn start(identity: &Identity, floor: Floor, pace: Pace) -> Self {
        let (agent, link) = Self::prepare(identity, floor, pace);
        let task = tokio::spawn(link.run(agent.stop.clone()));
        Self { task: Some(task), ..agent }
    }

    /// Like [`Agent::start`], with a process of its own for the link: when the link ends, nothing of it goes on.
    pub(crate) fn start_apart(identity: &Identity, floor: Floor, pace: Pace) -> (Self, std::thread::JoinHandle<()>) {
        let (agent, link) = Self::prepare(identity, floor, pace);
        let stop = agent.stop.clone();
        let process = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(link.run(stop));
        });
        (agent, process)
    }

    fn prepare(identity: &Identity, floor: Floor, pace: Pace) -> (Self, Link) {
        let data = tempfile::tempdir().unwrap();
        let files = IdentityFiles::open(data.path()).unwrap();
        files.store(identity).unwrap();
        let enrolled = Enrolled::load(data.path()).unwrap();
        let clock = Clock::machine();
        let (link, ports) = ports(floor, clock.wall());
        let features = Feature::all();
        let introduction = Introduction { agent_version: "0.1.0".to_owned(), boot_id: "boot-1".to_owned(), features };
        let link = Link {
            reach: Reach::Fleet(Arc::clone(&enrolled)),
            introduction,
            eyes: Arc::new(Talker),
            ports: link,
            clock,
            entropy: Entropy::system(),
            pace,
        };
        (Self { ports, enrolled, data, stop: CancellationToken::new(), task: None }, link)
    }

    pub(crate) async fn connected(&self) {
        let so = || matches!(*self.ports.status.borrow(), LinkStatus::Connected { .. });
        until("the link is connected", so).await;
    }

    /// Waits until the link has said why it is not connected, and the reason fits.
    pub(crate) async fn disconnected(&self, code: &str) -> Reason {
        let mut status = self.ports.status.clone();
        let so =
            |status: &LinkStatus| matches!(status, LinkStatus::Disconnected { reason, .. } if reason.code == code);
        let found =
            timeout(DEADLINE, status.wait_for(so)).await.map(|status| status.expect("the link lives").clone());
        let Ok(LinkStatus::Disconnected { reason, .. }) = found else {
            panic!("never `{code}`, but {:?}", *self.ports.status.borrow())
        };
        reason
    }

    /// Takes the next offer as a ledger would.
    pub(crate) async fn accept(&mut self) -> SpecOffer {
        let offered = timeout(DEADLINE, self.ports.offers.recv()).await.expect("no offer came").unwrap();
        let accepted = Some(offered.offer.accepted());
        self.ports.floor.send_modify(|floor| floor.accepted = accepted);
        offered.reply.send(Judged { held: accepted, refusal: None }).unwrap();
        offered.offer
    }

    /// Ends the link as a signal would, and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Some(task) = self.task {
            timeout(DEADLINE, task).await.expect("the link does not end").unwrap();
        }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.data.path()
    }
}

pub(crate) fn offer(generation: u64) -> SpecOffer {
    let bytes = format!("spec {generation}").into_bytes();
    SpecOffer { generation: Generation(generation), digest: Digest::of(&bytes), bytes }
}

pub(crate) fn report(applied: u64, events: EventBatch) -> Arc<HostReport> {
    Arc::new(HostReport {
        boot_id: "boot-1".to_owned(),
        agent_version: "0.1.0".to_owned(),
        wall: Moment::from_micros(0),
        accepted: None,
        applied: Generation(applied),
        capacity: Capacity::default(),
        capabilities: BTreeMap::new(),
        instances: BTreeMap::new(),
        orphans: Vec::new(),
        buried: BTreeSet::new(),
        outcomes: BTreeMap::new(),
        troubles: Vec::new(),
        events,
        denials: BTreeMap::new(),
        gate: None,
    })
}

pub(crate) fn no_events() -> EventBatch {
    EventBatch { journal: Entropy::seeded(1).id(Moment::from_micros(0)), dropped: 0, events: Vec::new() }
}

/// Answers questions with as many lines as are asked for, and follows without an end.
struct Talker;

/// Bytes of a line: a hundred of them fill every buffer on the way.
const LINE_BYTES: usize = 16 * 1024;

#[async_trait]
impl Eyes for Talker {
    async fn observe(&self, _: &BTreeSet<ImageRef>) -> Result<Observed, ExecuteError> {
        Err(ExecuteError::EngineAway(Reason::new("none", "there is no engine here")))
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    async fn answer(&self, question: &Question, pieces: mpsc::Sender<Answer>) {
        let Question::Logs { tail, follow, .. } = question;
        let line = LogLine {
            at: Moment::from_micros(0),
            stream: OutputStream::Stdout,
            text: "x".repeat(if *follow { LINE_BYTES } else { 8 }),
        };
        let mut sent = 0;
        while sent < *tail || *follow {
            if pieces.send(Answer::Line(line.clone())).await.is_err() {
                return;
            }
            sent += 1;
        }
        drop(pieces.send(Answer::End(None)).await);
    }

    async fn probe(&self, _: Ipv4Addr, _: u16, _: &HttpProbe) -> Result<(), String> {
        Err("there is nobody to probe".to_owned())
    }
}
