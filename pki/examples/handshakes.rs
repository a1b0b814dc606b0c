//! Prints one number: full mutual-TLS QUIC handshakes per second that one core of a coordinator lets in.
//!
//! ```text
//! cargo run --release -p launchpad-pki --example handshakes [COUNT]
//! ```
//!
//! The listener runs alone on a thread, whose processor time is what is divided by: hosts on other threads,
//! and waiting, do not count. Each handshake is complete (no resumption), is admitted, and answers a byte.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use futures::StreamExt as _;
use launchpad_pki::admission::Admission;
use launchpad_pki::ca::{HOST_LIFE, IssuingCa, RootCa};
use launchpad_pki::dial::{Dialer, Route};
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::TrustDomain;
use launchpad_pki::listener::FleetListener;
use launchpad_pki::pipe::Lane;
use launchpad_pki::quic::ResetKey;
use launchpad_pki::tls::{ClientTls, Credentials, FleetTls};
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many handshakes are measured when nothing is said.
const COUNT: u32 = 1_000;

const SERVER: &str = "fleet.launchpad.internal";

fn main() -> Outcome<()> {
    let count = std::env::args().nth(1).map_or(Ok(COUNT), |text| text.parse())?;
    let (clock, domain) = (Clock::machine(), TrustDomain::new("launchpad.internal")?);
    let ca = RootCa::create(&domain, clock.wall())?.sign_issuing(&domain, clock.wall())?;
    let (ready, address) = std::sync::mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let dialer_tls = host(&ca, &clock)?;
    let stopped = Arc::clone(&stop);
    let server = thread::spawn(move || serve(&ca, &clock, &ready, &stopped));
    let dialer = Dialer::new(vec![address.recv()?.to_string()], SERVER.to_owned(), dialer_tls);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for _ in 0..count {
            let dial = dialer.open(Route::Quic).await?;
            let mut pipe = dial(Lane::Control).await?;
            pipe.write_all(b"?").await?;
            pipe.read_exact(&mut [0; 1]).await?;
        }
        Outcome::Ok(())
    })?;
    stop.store(true, Ordering::SeqCst);
    let busy = server.join().map_err(|_| "the listener's thread panicked")??;
    println!("{:.0}", f64::from(count) / busy.as_secs_f64());
    Ok(())
}

fn host(ca: &IssuingCa, clock: &Clock) -> Outcome<ClientTls> {
    let key = HostKey::generate()?;
    let issued = ca.issue_host(&key.csr_der()?, HostId::from(Uuid::from_u128(1)), clock.wall(), HOST_LIFE)?;
    Ok(ClientTls::new(&Credentials::new(issued.chain_der, &key)?, &ca.bundle()?, clock)?)
}

/// Echoes a byte per connection until told to stop; returns the processor time of this thread since it was
/// ready.
fn serve(
    ca: &IssuingCa,
    clock: &Clock,
    ready: &std::sync::mpsc::Sender<SocketAddr>,
    stop: &AtomicBool,
) -> Outcome<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = ca.issue_server(&[SERVER.to_owned()], clock.wall())?;
        let credentials = Credentials::new(server.chain_der, &server.key)?;
        let crls = [ca.crl(&[], clock.wall())?];
        let tls = FleetTls::new(&credentials, &ca.bundle()?, &crls, ca.trust_domain(), clock)?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut listener = FleetListener::bind(any, &tls, &ResetKey::of(ca), Admission::new([], [])).await?;
        let before = processor_time()?;
        ready.send(listener.local_addr())?;
        while !stop.load(Ordering::SeqCst) {
            // The pause is only for the last look at `stop`.
            let Ok(Some(pipe)) = tokio::time::timeout(Duration::from_millis(20), listener.next()).await else {
                continue;
            };
            let mut pipe = pipe?;
            let mut byte = [0; 1];
            pipe.read_exact(&mut byte).await?;
            pipe.write_all(&byte).await?;
        }
        Ok(processor_time()?.saturating_sub(before))
    })
}

/// The first number of a thread's `schedstat` is its time on a processor, in nanoseconds
/// (proc_pid_schedstat(5)).
fn processor_time() -> Outcome<Duration> {
    let line = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = line.split_whitespace().next().ok_or("an empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
