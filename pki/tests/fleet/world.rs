//! An installation in one process: a CA, a fleet listener that echoes, and hosts that dial it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use launchpad_pki::CertificateRevocationListDer;
use launchpad_pki::admission::Admission;
use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::{HOST_LIFE, IssuedCertificate, IssuingCa, RootCa};
use launchpad_pki::dial::{Dialer, Route};
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::listener::{FleetControl, FleetListener};
use launchpad_pki::pipe::{Lane, PeerInfo, Pipe};
use launchpad_pki::quic::ResetKey;
use launchpad_pki::serial::Serial;
use launchpad_pki::tls::{ClientTls, Credentials, FleetTls};
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::{Clock, Moment};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// The name in the listener's certificate.
pub(crate) const SERVER: &str = "fleet.launchpad.internal";

/// Far above what anything here takes, far below a human's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(8);

pub(crate) const ROUTES: [Route; 2] = [Route::Quic, Route::Tcp];

/// Where the world's clocks start: in 2027.
pub(crate) const START: Moment = Moment::from_micros(1_800_000_000_000_000);

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("launchpad.internal").unwrap()
}

pub(crate) fn host_id(number: u128) -> HostId {
    HostId::from(Uuid::from_u128(number))
}

/// Waits for what must come.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it takes too long")
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

/// A CA and the clock by which its coordinator lives.
pub(crate) struct World {
    pub(crate) ca: IssuingCa,
    pub(crate) bundle: TrustBundle,
    pub(crate) server: Arc<Credentials>,
    pub(crate) clock: Clock,
}

/// A running fleet listener that echoes, and what it saw.
pub(crate) struct Fleet {
    pub(crate) address: SocketAddr,
    pub(crate) control: FleetControl,
    pub(crate) admission: Arc<Admission>,
    pub(crate) peers: mpsc::UnboundedReceiver<PeerInfo>,
    task: JoinHandle<()>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A host with its certificate.
pub(crate) struct Host {
    pub(crate) key: HostKey,
    pub(crate) issued: IssuedCertificate,
    pub(crate) credentials: Arc<Credentials>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(RootCa::create(&domain(), START).unwrap().sign_issuing(&domain(), START).unwrap())
    }

    pub(crate) fn of(ca: IssuingCa) -> Self {
        let server = ca.issue_server(&[SERVER.to_owned()], START).unwrap();
        Self {
            bundle: ca.bundle().unwrap(),
            server: Credentials::new(server.chain_der, &server.key).unwrap(),
            clock: Clock::manual(START),
            ca,
        }
    }

    pub(crate) fn host(&self, number: u128) -> Host {
        let key = HostKey::generate().unwrap();
        let issued = self.ca.issue_host(&key.csr_der().unwrap(), host_id(number), START, HOST_LIFE).unwrap();
        let credentials = Credentials::new(issued.chain_der.clone(), &key).unwrap();
        Host { key, issued, credentials }
    }

    pub(crate) fn crl(&self, revoked: &[Serial]) -> CertificateRevocationListDer<'static> {
        let revoked: Vec<_> = revoked.iter().map(|serial| (*serial, START)).collect();
        self.ca.crl(&revoked, START).unwrap()
    }

    pub(crate) fn tls(&self, revoked: &[Serial]) -> FleetTls {
        FleetTls::new(&self.server, &self.bundle, &[self.crl(revoked)], &domain(), &self.clock).unwrap()
    }

    pub(crate) async fn serve(&self) -> Fleet {
        self.serve_at(any_port()).await
    }

    pub(crate) async fn serve_at(&self, address: SocketAddr) -> Fleet {
        let admission = Admission::new([], []);
        let reset = ResetKey::of(&self.ca);
        let mut listener =
            FleetListener::bind(address, &self.tls(&[]), &reset, Arc::clone(&admission)).await.unwrap();
        let (seen, peers) = mpsc::unbounded_channel();
        let (address, control) = (listener.local_addr(), listener.control());
        let task = tokio::spawn(async move {
            while let Some(pipe) = listener.next().await {
                let pipe = pipe.unwrap();
                drop(seen.send(pipe.peer().clone()));
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(pipe);
                    drop(tokio::io::copy(&mut read, &mut write).await);
                });
            }
        });
        Fleet { address, control, admission, peers, task }
    }

    pub(crate) fn dialer(&self, host: &Host, address: SocketAddr) -> Dialer {
        dialer(&host.credentials, &self.bundle, address)
    }
}

/// A dialer of a host whose own clock stands at [`START`].
pub(crate) fn dialer(credentials: &Arc<Credentials>, bundle: &TrustBundle, address: SocketAddr) -> Dialer {
    let tls = ClientTls::new(credentials, bundle, &Clock::manual(START)).unwrap();
    Dialer::new(vec![address.to_string()], SERVER.to_owned(), tls)
}

/// Whether the coordinator answers on a pipe of this route: a byte there and back.
pub(crate) async fn answer(dialer: &Dialer, route: Route) -> io::Result<Box<dyn Pipe>> {
    within(async {
        let dial = dialer.open(route).await.map_err(io::Error::other)?;
        let mut pipe = dial(Lane::Control).await?;
        echo(&mut pipe).await?;
        Ok(pipe)
    })
    .await
}

/// A few bytes there and back.
pub(crate) async fn echo(pipe: &mut Box<dyn Pipe>) -> io::Result<()> {
    let mut back = [0; 5];
    pipe.write_all(b"hello").await?;
    pipe.flush().await?;
    pipe.read_exact(&mut back).await?;
    assert_eq!(&back, b"hello");
    Ok(())
}

/// The error with everything that it stands on.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
