//! The simulated network, and the disks and processes on it. No other file names turmoil, whose parts are about to become
//! crates of their own.
//!
//! Lanes are plain bytes over its TCP: QUIC and TLS have clocks and chance of their own. A lost segment is never sent
//! again there, so that a partition breaks what was under way, and the other end learns of it by silence.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{Stream, StreamExt as _, unfold};
use launchpad_agent::disk::{Files, FreshFile};
use launchpad_pki::pipe::{Dial, Pipe};
use turmoil::fs::shim::std::fs as shim;
use turmoil::net::{TcpListener, TcpStream};

/// One step of simulated time: smaller ones cost more and show nothing else.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How long a segment is on its way, at most.
const LATENCY_MAX: Duration = Duration::from_millis(80);

/// Segments that may wait on their way to one socket: more than any hold lets pile up.
const SEGMENTS_MAX: usize = 1 << 16;

/// The coordinator's name, and the only port.
pub(crate) const COORDINATOR: &str = "coordinator";
const PORT: u16 = 7_701;

/// Bytes of a disk that are written whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// How often a disk keeps what nobody asked it to keep: a power cut takes most of it, and sometimes not all.
const KEPT_UNASKED: f64 = 0.1;

/// Every process, and what is between them.
pub(crate) struct Net(turmoil::Sim<'static>);

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let mut builder = turmoil::Builder::new();
        builder.rng_seed(seed).tick_duration(TICK).max_message_latency(LATENCY_MAX).tcp_capacity(SEGMENTS_MAX);
        builder.enable_random_order().fs().block_size(SECTOR_BYTES).sync_probability(KEPT_UNASKED);
        Self(builder.build())
    }

    /// A machine that runs a process whenever it is up. It never ends by itself.
    pub(crate) fn machine<Life: Future<Output = ()> + 'static>(
        &mut self,
        name: &str,
        life: impl Fn() -> Life + 'static,
    ) {
        self.0.host(name, move || {
            let life = life();
            async {
                life.await;
                Err("a process that should run for ever has ended".into())
            }
        });
    }

    /// Lets a tick pass everywhere.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.0.step().map(drop).map_err(|error| error.to_string())
    }

    /// The power goes: the process ends where it stands, and its disk loses what was not asked to stay.
    pub(crate) fn cut_power(&mut self, name: &str) {
        self.0.crash(name);
    }

    /// The process ends where it stands, if it runs, and another one begins.
    pub(crate) fn begin_again(&mut self, name: &str) {
        self.0.bounce(name);
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub(crate) fn partition(&self, from: &str, to: &str) {
        self.0.partition_oneway(from, to);
    }

    /// It does again.
    pub(crate) fn repair(&self, from: &str, to: &str) {
        self.0.repair_oneway(from, to);
    }

    /// What is sent between the two waits on its way.
    pub(crate) fn hold(&self, one: &str, other: &str) {
        self.0.hold(one, other);
    }

    /// All of it arrives.
    pub(crate) fn release(&self, one: &str, other: &str) {
        self.0.release(one, other);
    }
}

/// Opens pipes to the coordinator, each a connection of its own.
pub(crate) fn dial() -> Dial {
    Arc::new(|_lane| {
        Box::pin(async {
            let stream = TcpStream::connect((COORDINATOR, PORT)).await?;
            Ok(Box::new(stream) as Box<dyn Pipe>)
        })
    })
}

/// The coordinator's door: pipes, and the name of the machine at the other end of each.
pub(crate) async fn listen() -> io::Result<impl Stream<Item = io::Result<(Box<dyn Pipe>, String)>>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let accepted = unfold(listener, |listener| async {
        let accepted = listener.accept().await;
        Some((accepted, listener))
    });
    Ok(accepted.map(|accepted| {
        let (stream, from) = accepted?;
        let name = turmoil::reverse_lookup(from.ip()).unwrap_or_default();
        Ok((Box::new(stream) as Box<dyn Pipe>, name))
    }))
}

/// The disk of the machine on which this is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulatedFiles;

impl Files for SimulatedFiles {
    fn create_directory(&self, path: &Path, _mode: u32) -> io::Result<()> {
        shim::create_dir_all(path)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FreshFile>> {
        let file = shim::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        Ok(Box::new(SimulatedFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        shim::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        shim::sync_dir(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        shim::read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        shim::remove_file(path)
    }

    fn exists(&self, path: &Path) -> bool {
        shim::exists(path)
    }
}

struct SimulatedFile(shim::File);

impl Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl FreshFile for SimulatedFile {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
