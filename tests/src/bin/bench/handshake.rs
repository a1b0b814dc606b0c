//! Full mutual-TLS QUIC handshakes per second: client and listener share one thread, so this is per core and counts
//! both ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use launchpad_pki::admission::Admission;
use launchpad_pki::ca::{HOST_LIFE, RootCa};
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::listener::FleetListener;
use launchpad_pki::pipe::Lane;
use launchpad_pki::quic::{QuicLink, ResetKey};
use launchpad_pki::tls::{ClientTls, Credentials, FleetTls};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::time::Clock;
use launchpad_tests::wait::Stopwatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::figure::Figure;

/// Some thousands of handshakes.
const WATCH: Duration = Duration::from_secs(5);
/// The name in the listener's certificate.
const SERVER: &str = "coordinator.launchpad.internal";

/// Measures.
pub(crate) fn per_second() -> Result<Figure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let per_second = runtime.block_on(measure())?;
    Ok(Figure::alone("mTLS QUIC handshakes, both ends on one core", "per second", per_second, None))
}

async fn measure() -> Result<f64> {
    let clock = Clock::machine();
    let now = clock.wall();
    let domain = TrustDomain::new("launchpad.internal")?;
    let ca = RootCa::create(&domain, now)?.sign_issuing(&domain, now)?;
    let bundle = ca.bundle()?;
    let server = ca.issue_server(&[SERVER.to_owned()], now)?;
    let server = Credentials::new(server.chain_der, &server.key)?;
    let fleet = FleetTls::new(&server, &bundle, &[ca.crl(&[], now)?], &domain, &clock)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut listener =
        FleetListener::bind(address, &fleet, &ResetKey::of(&ca), Admission::new([], [])).await.context("listen")?;
    let address = listener.local_addr();
    tokio::spawn(async move {
        while let Some(Ok(mut pipe)) = listener.next().await {
            tokio::spawn(async move {
                let mut byte = [0];
                if pipe.read_exact(&mut byte).await.is_ok() {
                    // A client that has left has its answer no more to take.
                    let _ = pipe.write_all(&byte).await;
                    let _ = pipe.flush().await;
                }
            });
        }
    });

    let key = HostKey::generate()?;
    let host = Entropy::system().id(now);
    let issued = ca.issue_host(&key.csr_der()?, host, now, HOST_LIFE)?;
    let tls = ClientTls::new(&Credentials::new(issued.chain_der, &key)?, &bundle, &clock)?;
    let tls = Arc::new(tls);
    let (stopwatch, mut count) = (Stopwatch::start(), 0_u32);
    while stopwatch.elapsed() < WATCH {
        let link = QuicLink::connect(address, SERVER, &tls).await.context("shake hands")?;
        // The client is let in only once it has shown its certificate, which this byte waits for.
        let mut pipe = link.open(Lane::Control).await?;
        pipe.write_all(b"x").await?;
        pipe.flush().await?;
        pipe.read_exact(&mut [0]).await.context("the listener's answer")?;
        count += 1;
    }
    Ok(f64::from(count) / stopwatch.elapsed().as_secs_f64())
}
