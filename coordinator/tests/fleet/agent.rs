//! A fake agent: speaks the fleet's language over real sockets, obeys nothing by itself. Each test says what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use launchpad_pki::CertificateDer;
use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::dial::{Dialer, Route, channel, enroll_dial};
use launchpad_pki::host_key::HostKey;
use launchpad_pki::pipe::{Dial, Lane};
use launchpad_pki::sealing::SealingKey;
use launchpad_pki::tls::{ClientTls, Credentials, enroll_client_config};
use launchpad_pki::token::JoinToken;
use launchpad_protocol::capability;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::{AgentFrame, Answer, CoordinatorFrame, Hello};
use launchpad_protocol::generation::{Accepted, Generation};
use launchpad_protocol::id::{AskId, HostId, IncarnationId, JournalId};
use launchpad_protocol::report::{Capacity, EventBatch, HostReport};
use launchpad_protocol::spec::{HostSpec, SpecOffer};
use launchpad_protocol::time::{Clock, Moment};
use launchpad_protocol::wire::v1::enrollment_client::EnrollmentClient;
use launchpad_protocol::wire::{AnswerPart, decode_spec, enrollment_client, fleet_client, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::within;

/// Frames that a fake agent may have said and the coordinator not yet read.
const SAID_MAX: usize = 16;

/// A machine that asks to become a host.
pub struct Machine {
    pub key: HostKey,
    pub sealing: SealingKey,
    pub name: String,
    pub clock: Clock,
}

/// A host: an identity, and how to reach the coordinator with it.
pub struct Agent {
    pub host: HostId,
    pub key: HostKey,
    pub chain: Vec<CertificateDer<'static>>,
    dialer: Dialer,
}

/// One open session.
pub struct Session {
    said: mpsc::Sender<v1::AgentFrame>,
    heard: Streaming<v1::CoordinatorFrame>,
    pub dial: Dial,
    seq: u64,
}

/// A client of the enrolment listener, which trusts the root with that hash.
pub async fn enrolment(endpoint: &str, root: Digest, clock: &Clock) -> EnrollmentClient<Channel> {
    try_enrolment(endpoint, root, clock).await.unwrap()
}

async fn try_enrolment(
    endpoint: &str,
    root: Digest,
    clock: &Clock,
) -> Result<EnrollmentClient<Channel>, tonic::transport::Error> {
    let config = enroll_client_config(BTreeSet::from([root]), clock).unwrap();
    let dial = enroll_dial(endpoint.to_owned(), config);
    within(channel(dial, Lane::Control)).await.map(enrollment_client)
}

impl Machine {
    pub fn new(name: &str, clock: &Clock) -> Self {
        Self {
            key: HostKey::generate().unwrap(),
            sealing: SealingKey::generate().unwrap(),
            name: name.to_owned(),
            clock: clock.clone(),
        }
    }

    pub fn request(&self, token: &JoinToken) -> v1::EnrollRequest {
        v1::EnrollRequest {
            token_id: token.id.to_string(),
            secret: token.secret.expose().to_vec(),
            csr_der: self.key.csr_der().unwrap(),
            sealing_public_key: self.sealing.public().as_bytes().to_vec(),
            host_name: self.name.clone(),
            agent_version: "0.1.0-test".to_owned(),
            wall_us: self.clock.wall().micros(),
        }
    }

    pub async fn ask(&self, endpoint: &str, token: &JoinToken) -> Result<v1::EnrollReply, Status> {
        let mut client = enrolment(endpoint, token.root, &self.clock).await;
        within(client.enroll(self.request(token))).await.map(tonic::Response::into_inner)
    }

    /// The same, where even the connection may fail.
    pub async fn try_ask(&self, endpoint: &str, token: &JoinToken) -> Result<v1::EnrollReply, Status> {
        let client = try_enrolment(endpoint, token.root, &self.clock).await;
        let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
        within(client.enroll(self.request(token))).await.map(tonic::Response::into_inner)
    }

    pub async fn enroll(self, endpoint: &str, token: &JoinToken) -> Agent {
        let reply = self.ask(endpoint, token).await.unwrap();
        Agent::new(self.key, &reply, &self.clock)
    }
}

impl Agent {
    pub fn new(key: HostKey, reply: &v1::EnrollReply, clock: &Clock) -> Self {
        let chain: Vec<_> = reply.chain_der.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let credentials = Credentials::new(chain.clone(), &key).unwrap();
        let bundle = TrustBundle::from_pem(&reply.trust_bundle_pem).unwrap();
        let tls = ClientTls::new(&credentials, &bundle, clock).unwrap();
        let dialer = Dialer::new(reply.fleet_endpoints.clone(), reply.server_name.clone(), tls);
        Self { host: reply.host_id.parse().unwrap(), key, chain, dialer }
    }

    /// Opens a session and says hello. What comes back is for the test to read.
    pub async fn connect(&self, route: Route, hello: Hello) -> Result<Session, Status> {
        let dial = within(self.dialer.open(route)).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let lane = within(channel(Arc::clone(&dial), Lane::Control)).await;
        let mut client = fleet_client(lane.map_err(|error| Status::unavailable(error.to_string()))?);
        let (said, saying) = mpsc::channel(SAID_MAX);
        said.send(AgentFrame::Hello(hello).into()).await.unwrap();
        let heard = within(client.control(ReceiverStream::new(saying))).await?.into_inner();
        Ok(Session { said, heard, dial, seq: 0 })
    }
}

impl Agent {
    /// Whether the fleet port does not let the host in. In TLS 1.3 that may show as late as at the first answer.
    pub async fn is_shut_out(&self, route: Route) -> bool {
        match self.connect(route, hello(None, None)).await {
            Ok(mut session) => session.hear().await.is_none(),
            Err(_) => true,
        }
    }
}

impl Session {
    pub async fn say(&self, frame: AgentFrame) {
        self.said.send(frame.into()).await.unwrap();
    }

    /// A frame without a frame in it.
    pub async fn say_nothing(&self) {
        self.said.send(v1::AgentFrame { frame: None }).await.unwrap();
    }

    /// The next frame; none: the session is over.
    pub async fn hear(&mut self) -> Option<CoordinatorFrame> {
        let message = within(self.heard.next()).await?.ok()?;
        Some(CoordinatorFrame::try_from(message).unwrap())
    }

    pub async fn welcome(&mut self) -> launchpad_protocol::frame::Welcome {
        match self.hear().await {
            Some(CoordinatorFrame::Welcome(welcome)) => welcome,
            other => panic!("expected a welcome, heard {other:?}"),
        }
    }

    /// The next spec, past whatever else is said.
    pub async fn spec(&mut self) -> (SpecOffer, HostSpec) {
        loop {
            match self.hear().await {
                Some(CoordinatorFrame::Spec(offer)) => {
                    let spec = decode_spec(&offer).unwrap();
                    return (offer, spec);
                }
                Some(_) => {}
                None => panic!("the session is over before a spec came"),
            }
        }
    }

    pub async fn accept(&self, offer: &SpecOffer) {
        let held = Some(offer.accepted());
        self.say(AgentFrame::Verdict { generation: offer.generation, held, refusal: None }).await;
    }

    pub async fn report(&mut self, report: HostReport) {
        self.seq += 1;
        self.say(AgentFrame::Report { seq: self.seq, report: Box::new(report) }).await;
    }

    /// Reports and waits until that is stored.
    pub async fn stored(&mut self, report: HostReport) {
        self.report(report).await;
        loop {
            match self.hear().await {
                Some(CoordinatorFrame::ReportStored { seq, .. }) if seq == self.seq => return,
                Some(_) => {}
                None => panic!("the session is over before the report was stored"),
            }
        }
    }

    /// Why the session ends.
    pub async fn farewell(&mut self) -> launchpad_protocol::reason::Reason {
        loop {
            match self.hear().await {
                Some(CoordinatorFrame::Farewell(reason)) => return reason,
                Some(_) => {}
                None => panic!("the session ended without a farewell"),
            }
        }
    }

    /// Whether the session ends, with or without a word.
    pub async fn ends(&mut self) {
        while self.hear().await.is_some() {}
    }

    /// Answers a question on a lane of its own; the sender takes the pieces.
    pub async fn answer(&self, id: AskId) -> (mpsc::Sender<v1::AnswerFrame>, AnswerCall) {
        let lane = within(channel(Arc::clone(&self.dial), Lane::Answer)).await.unwrap();
        let mut client = fleet_client(lane);
        let (pieces, answering) = mpsc::channel(SAID_MAX);
        pieces.send(AnswerPart::Begins(id).into()).await.unwrap();
        let call = tokio::spawn(async move { client.answer(ReceiverStream::new(answering)).await.map(|_| ()) });
        (pieces, call)
    }

    pub async fn client(&self) -> v1::fleet_client::FleetClient<Channel> {
        fleet_client(within(channel(Arc::clone(&self.dial), Lane::Renew)).await.unwrap())
    }
}

/// A call of `Answer`, until the coordinator has had enough.
pub type AnswerCall = tokio::task::JoinHandle<Result<(), Status>>;

pub fn piece(answer: Answer) -> v1::AnswerFrame {
    AnswerPart::Piece(answer).into()
}

/// A hello with that floor.
pub fn hello(accepted: Option<Accepted>, incarnation: Option<IncarnationId>) -> Hello {
    Hello {
        protocol: (1, 1),
        features: Feature::all(),
        agent_version: "0.1.0-test".to_owned(),
        boot_id: "boot".to_owned(),
        incarnation,
        accepted,
        wall: Clock::machine().wall(),
    }
}

/// The report of a host on which nothing is.
pub fn report(accepted: Option<Accepted>, journal: JournalId) -> HostReport {
    HostReport {
        boot_id: "boot".to_owned(),
        agent_version: "0.1.0-test".to_owned(),
        wall: Clock::machine().wall(),
        accepted,
        applied: accepted.map_or(Generation(0), |accepted| accepted.generation),
        capacity: Capacity { cpu_millis: 8_000, memory_bytes: 16 << 30, storage_bytes: 500_000_000_000 },
        capabilities: capability::complete(),
        instances: BTreeMap::new(),
        orphans: Vec::new(),
        buried: BTreeSet::new(),
        outcomes: BTreeMap::new(),
        troubles: Vec::new(),
        events: EventBatch { journal, dropped: 0, events: Vec::new() },
        denials: BTreeMap::new(),
        gate: None,
    }
}

/// A moment for a report.
pub fn now() -> Moment {
    Clock::machine().wall()
}
