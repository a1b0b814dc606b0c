//! A coordinator as small as an agent can bear: it admits whoever shows a certificate, remembers nothing, and writes
//! down what it hears.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::StreamExt as _;
use launchpad_pki::admission::Admission as Registry;
use launchpad_pki::ca::{HOST_LIFE, IssuedCertificate};
use launchpad_pki::enroll::{Nonce, RenewRequest};
use launchpad_pki::enroll_listener::EnrollListener;
use launchpad_pki::listener::FleetListener;
use launchpad_pki::pipe::{PeerInfo, Transport};
use launchpad_pki::quic::ResetKey;
use launchpad_pki::renewal::verify_renewal;
use launchpad_pki::tls::{FleetTls, enroll_server_config};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::frame::{AgentFrame, Hello, Leases};
use launchpad_protocol::generation::Fence;
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::session::{Admission, CoordinatorEffect, CoordinatorInput, CoordinatorSession};
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::wire::v1::enrollment_server::Enrollment;
use launchpad_protocol::wire::v1::fleet_server::Fleet;
use launchpad_protocol::wire::{self, AnswerPart, v1};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::world::{DEADLINE, World, any_port, domain};

/// A running coordinator, on a thread of its own: dropping it is its crash, with all that it has open.
pub(crate) struct Coordinator {
    pub(crate) fleet: SocketAddr,
    pub(crate) enroll: SocketAddr,
    pub(crate) heard: Arc<Heard>,
    crash: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.crash.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What a coordinator heard, and what it is to say.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) hellos: Mutex<Vec<(Hello, PeerInfo)>>,
    pub(crate) frames: Mutex<Vec<AgentFrame>>,
    pub(crate) answers: Mutex<Vec<AnswerPart>>,
    pub(crate) answers_over: AtomicU64,
    pub(crate) renewals: AtomicU64,
    /// What the agent said that it trusts and shows.
    pub(crate) trusts: Mutex<Vec<v1::TrustRequest>>,
    /// Whether the next question is answered with an order to renew.
    pub(crate) orders_renewal: AtomicBool,
    /// Sessions that the agent's side has ended.
    pub(crate) sessions_over: AtomicU64,
    /// The keys for which somebody asked to join.
    pub(crate) asked_for: Mutex<Vec<Digest>>,
    pub(crate) published: Mutex<Option<SpecOffer>>,
    /// Answers are left unread.
    pub(crate) deaf_to_answers: AtomicBool,
    /// The next call on QUIC is never answered.
    pub(crate) mute_on_quic: AtomicBool,
    /// Whoever greets is sent away for this.
    pub(crate) dismisses: Mutex<Option<Reason>>,
    /// Whoever wants to join is refused for this.
    pub(crate) refuses: Mutex<Option<Reason>>,
    /// Enrolments whose answer is lost on the way.
    pub(crate) answers_to_lose: AtomicU64,
    session: Mutex<Option<mpsc::Sender<CoordinatorInput>>>,
    fences: AtomicU64,
}

#[derive(Clone)]
struct Service {
    world: Arc<World>,
    heard: Arc<Heard>,
}

impl Coordinator {
    pub(crate) async fn start(world: &Arc<World>) -> Self {
        Self::start_at(world, any_port()).await
    }

    /// Starts where another may just have crashed.
    pub(crate) async fn start_at(world: &Arc<World>, fleet: SocketAddr) -> Self {
        let heard = Arc::new(Heard::default());
        let service = Service { world: Arc::clone(world), heard: Arc::clone(&heard) };
        let (started, addresses) = oneshot::channel();
        let crash = CancellationToken::new();
        let crashed = crash.clone();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                started.send(serve(service, fleet).await).unwrap();
                crashed.cancelled().await;
            });
        });
        let (fleet, enroll) = addresses.await.expect("the coordinator does not start");
        Self { fleet, enroll, heard, crash, thread: Some(thread) }
    }

    /// Tells the newest session something.
    pub(crate) async fn tell(&self, input: CoordinatorInput) {
        let session = self.heard.session.lock().unwrap().clone();
        session.expect("no session stands").send(input).await.unwrap();
    }

    /// Publishes a spec, also to sessions to come.
    pub(crate) async fn publish(&self, offer: SpecOffer) {
        *self.heard.published.lock().unwrap() = Some(offer.clone());
        self.tell(CoordinatorInput::Publish(offer)).await;
    }
}

async fn serve(service: Service, fleet: SocketAddr) -> (SocketAddr, SocketAddr) {
    let world = Arc::clone(&service.world);
    let crl = world.ca.crl(&[], world.now()).unwrap();
    let tls = FleetTls::new(&world.server, &world.bundle, &[crl], &domain(), &world.clock).unwrap();
    let (reset, registry) = (ResetKey::of(&world.ca), Registry::new([], []));
    let bound = async {
        loop {
            match FleetListener::bind(fleet, &tls, &reset, Arc::clone(&registry)).await {
                Ok(listener) => return listener,
                // The crashed one's sockets are being closed.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let listener = timeout(DEADLINE, bound).await.expect("the address stays taken");
    let desk = enroll_server_config(&world.server, &world.clock).unwrap();
    let desk = EnrollListener::bind(any_port(), desk).await.unwrap();
    let addresses = (listener.local_addr(), desk.local_addr());
    let (fleet_service, enroll_service) = (wire::fleet_server(service.clone()), wire::enrollment_server(service));
    tokio::spawn(Server::builder().serve_with_incoming(fleet_service, listener));
    tokio::spawn(Server::builder().serve_with_incoming(enroll_service, desk));
    addresses
}

impl Heard {
    pub(crate) fn hello_count(&self) -> usize {
        self.hellos.lock().unwrap().len()
    }

    pub(crate) fn last_transport(&self) -> Option<Transport> {
        self.hellos.lock().unwrap().last().map(|(_, peer)| peer.transport)
    }

    pub(crate) fn saw(&self, frame: impl Fn(&AgentFrame) -> bool) -> bool {
        self.frames.lock().unwrap().iter().any(frame)
    }

    fn admission(&self, world: &World) -> Admission {
        let published = self.published.lock().unwrap().clone();
        Admission {
            incarnation: world.incarnation,
            fence: Fence(self.fences.fetch_add(1, Ordering::SeqCst) + 1),
            wall: world.now(),
            latest: published.as_ref().map(SpecOffer::accepted),
            published,
        }
    }
}

impl Service {
    async fn session(
        self,
        peer: PeerInfo,
        mut frames: Streaming<v1::AgentFrame>,
        out: mpsc::Sender<Result<v1::CoordinatorFrame, Status>>,
    ) {
        let mut machine = CoordinatorSession::default();
        let (orders, mut ordered) = mpsc::channel(8);
        loop {
            let input = tokio::select! {
                frame = frames.message() => match frame {
                    Ok(Some(frame)) => {
                        let frame = AgentFrame::try_from(frame).unwrap();
                        self.heard.frames.lock().unwrap().push(frame.clone());
                        CoordinatorInput::Frame(Box::new(frame))
                    }
                    Ok(None) | Err(_) => {
                        self.heard.sessions_over.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                },
                Some(order) = ordered.recv() => order,
            };
            let mut inputs = vec![input];
            while let Some(input) = inputs.pop() {
                for effect in machine.handle(input) {
                    match effect {
                        CoordinatorEffect::Send(frame) => drop(out.send(Ok(frame.into())).await),
                        CoordinatorEffect::Admit(hello) => {
                            self.heard.hellos.lock().unwrap().push((*hello, peer.clone()));
                            let dismissal = self.heard.dismisses.lock().unwrap().clone();
                            inputs.push(match dismissal {
                                Some(reason) => CoordinatorInput::Dismiss(reason),
                                None => CoordinatorInput::Admitted(Box::new(self.heard.admission(&self.world))),
                            });
                            let before = self.heard.session.lock().unwrap().replace(orders.clone());
                            if let Some(before) = before {
                                dismiss(&before).await;
                            }
                        }
                        CoordinatorEffect::Store { seq, .. } => {
                            inputs.push(CoordinatorInput::Stored { seq, leases: Leases::Granted });
                        }
                        CoordinatorEffect::Judged { .. } | CoordinatorEffect::FloorAbove { .. } => {}
                        CoordinatorEffect::Close(_) => return,
                    }
                }
            }
        }
    }

    fn issue(&self, host: HostId, csr_der: &[u8]) -> IssuedCertificate {
        self.world.ca.issue_host(csr_der, host, self.world.now(), HOST_LIFE).unwrap()
    }

    fn renewed(&self, host: HostId, csr_der: &[u8]) -> v1::RenewReply {
        let issued = self.issue(host, csr_der);
        v1::RenewReply {
            chain_der: issued.chain_der.iter().map(|der| der.to_vec()).collect(),
            trust_bundle_pem: self.world.bundle.to_pem(),
            fleet_endpoints: Vec::new(),
        }
    }
}

/// Ends the session that a newer one replaces, before the newer one is welcomed: the order that is hardest to bear.
async fn dismiss(replaced: &mpsc::Sender<CoordinatorInput>) {
    let reason = Reason::new("session-replaced", "a newer session of this host has taken its place");
    if replaced.send(CoordinatorInput::Dismiss(reason)).await.is_ok() {
        replaced.closed().await;
        // The farewell is on its way; time for it to arrive first.
        sleep(Duration::from_millis(100)).await;
    }
}

fn peer<T>(request: &Request<T>) -> PeerInfo {
    request.extensions().get::<PeerInfo>().expect("every pipe carries who it is").clone()
}

#[tonic::async_trait]
impl Fleet for Service {
    type ControlStream = ReceiverStream<Result<v1::CoordinatorFrame, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<v1::AgentFrame>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let peer = peer(&request);
        if peer.transport == Transport::Quic && self.heard.mute_on_quic.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let (out, frames) = mpsc::channel(8);
        tokio::spawn(self.clone().session(peer, request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    async fn answer(&self, request: Request<Streaming<v1::AnswerFrame>>) -> Result<Response<v1::AnswerAck>, Status> {
        let mut parts = request.into_inner();
        if self.heard.deaf_to_answers.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        while let Some(Ok(part)) = parts.next().await {
            self.heard.answers.lock().unwrap().push(part.try_into().unwrap());
        }
        self.heard.answers_over.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(v1::AnswerAck {}))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let host = peer(&request).host;
        let reply = self.renewed(host, &request.into_inner().csr_der);
        self.heard.renewals.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(reply))
    }

    async fn trust(&self, request: Request<v1::TrustRequest>) -> Result<Response<v1::TrustReply>, Status> {
        let told = request.into_inner();
        let knows = told.bundle_digest == self.world.bundle.digest().as_bytes();
        self.heard.trusts.lock().unwrap().push(told);
        Ok(Response::new(v1::TrustReply {
            trust_bundle_pem: if knows { String::new() } else { self.world.bundle.to_pem() },
            // One order is one renewal.
            renew: knows && self.heard.orders_renewal.swap(false, Ordering::SeqCst),
            ask_again_ms: 1,
        }))
    }
}

#[tonic::async_trait]
impl Enrollment for Service {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        let request = request.into_inner();
        let issued = self.issue(self.world.host, &request.csr_der);
        self.heard.asked_for.lock().unwrap().push(issued.public_key);
        if let Some(reason) = self.heard.refuses.lock().unwrap().clone() {
            return Err(wire::refusal(Code::PermissionDenied, &reason));
        }
        let lose = |left: u64| left.checked_sub(1);
        if self.heard.answers_to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(Status::unavailable("the connection broke"));
        }
        Ok(Response::new(v1::EnrollReply {
            host_id: self.world.host.to_string(),
            chain_der: issued.chain_der.iter().map(|der| der.to_vec()).collect(),
            trust_bundle_pem: self.world.bundle.to_pem(),
            fleet_endpoints: vec!["127.0.0.1:1".to_owned()],
            server_name: crate::world::SERVER.to_owned(),
            trust_domain: domain().to_string(),
        }))
    }

    async fn challenge(&self, _: Request<v1::ChallengeRequest>) -> Result<Response<v1::ChallengeReply>, Status> {
        Ok(Response::new(v1::ChallengeReply { nonce: self.world.nonce.as_bytes().to_vec() }))
    }

    async fn renew_expired(
        &self,
        request: Request<v1::RenewExpiredRequest>,
    ) -> Result<Response<v1::RenewReply>, Status> {
        let message = request.into_inner();
        let request = RenewRequest {
            certificate_der: message.certificate_der.into(),
            csr_der: message.csr_der.to_vec(),
            nonce: Nonce::from_bytes(&message.nonce).unwrap(),
            signature: message.signature.to_vec(),
        };
        let issuers = [self.world.ca.certificate().clone()];
        let trust = (&self.world.bundle, &issuers[..], &domain());
        let known = verify_renewal(&request, &self.world.nonce, trust, |_| false, self.world.now());
        let known = known.map_err(|error| {
            wire::refusal(Code::PermissionDenied, &Reason::new("renewal-refused", error.to_string()))
        })?;
        self.heard.renewals.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(self.renewed(known.host, &request.csr_der)))
    }
}
