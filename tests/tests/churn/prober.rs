//! Somebody inside a bot who tries, ten times a second, what the bot may not reach, and now and then what it may.
//!
//! A thread enters the bot's network namespace: what it sends leaves as the bot's own. It notes every connection that
//! stands, with its moment; the stand-ins keep a record of their own.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use launchpad_tests::netns::inside;
use launchpad_tests::wait::Stopwatch;

/// Between two tries. A try that nobody answers takes it whole.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Something to try.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// Whether the bot's policy allows it.
    pub(crate) allowed: bool,
}

/// What a prober found.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Tries of what is denied.
    pub(crate) tries: usize,
    /// Denied targets that were reached, and how many seconds after the start.
    pub(crate) denied: Vec<String>,
    /// How often what is allowed was reached.
    pub(crate) allowed: usize,
}

/// A prober at work.
pub(crate) struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Told>>,
}

impl Prober {
    /// Begins, in the network namespace of that process.
    pub(crate) fn inside(pid: u64, targets: Vec<Target>) -> Result<Self> {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).context("open the bot's network")?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || inside(namespace, || probe(&targets, &told)))?;
        Ok(Self { stop, thread })
    }

    /// Ends it; what it found.
    pub(crate) fn end(self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the prober panicked"))?
    }
}

fn probe(targets: &[Target], stop: &AtomicBool) -> Result<Told> {
    let mut told = Told::default();
    let clock = Stopwatch::start();
    for target in targets.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Stopwatch::start();
        let address = SocketAddr::new(target.address.parse::<IpAddr>()?, target.port);
        let reached = TcpStream::connect_timeout(&address, TRY_EVERY).is_ok();
        match (target.allowed, reached) {
            (true, reached) => told.allowed += usize::from(reached),
            (false, reached) => {
                told.tries += 1;
                told.denied.extend(reached.then(|| format!("{address} after {:?}", clock.elapsed())));
            }
        }
        // A pace, not a wait: nothing is being waited for.
        thread::sleep(TRY_EVERY.saturating_sub(begun.elapsed()));
    }
    Ok(told)
}
