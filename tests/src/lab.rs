//! One laboratory: a directory, a fabric, a registry, a coordinator and any number of hosts.
//!
//! Called by scenarios ([`Lab::enter`]) and by the demo ([`Lab::on_machine`]). Everything of it lies in one
//! directory; a lock file beside it tells whether its owner lives.
//!
//! ```text
//!  lock ─► sweep stale ones ─► images ─► fabric ─► registry ─► coordinator ─► hosts ─► agents
//!  close or drop: agents ─► coordinator ─► containers ─► engines ─► namespaces ─► directory
//! ```
//!
//! Processes are started by the calling thread and die with it: keep a laboratory on the thread that made it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::agent::Agent;
use crate::api::Api;
use crate::coordinator::{self, Coordinator};
use crate::engine::{Engine, Network, Users};
use crate::gate::{Gate, Outside};
use crate::host::Host;
use crate::images::{self, Image};
use crate::lock::{self, Lock};
use crate::netns::{self, FABRIC_ADDRESS, HostNet};
use crate::registry::Registry;
use crate::stand_in::World;
use crate::sweep;

/// What a test's directory and lock are called, before the run id.
const PREFIX: &str = "launchpad-lab-";
/// Of 16 million, one that is taken is rare; three in a row mean something else.
const RUN_IDS_TRIED: usize = 3;
/// The registry's port on the fabric: the one that Docker's documents use.
const REGISTRY_PORT: u16 = 5000;
/// The API's port on the fabric.
const HTTP_PORT: u16 = 7700;

/// A running laboratory. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    run_id: String,
    dir: PathBuf,
    images: BTreeMap<String, Image>,
    /// In a namespace of its own, the fabric's address is there from the start; else the first host's link bears it.
    own_fabric: bool,
    hosts: Vec<Host>,
    coordinator: Option<Coordinator>,
    registry: Option<Registry>,
    lock: Lock,
}

/// A laboratory's name and directory, held by this process before anything of it exists.
#[derive(Debug)]
pub struct Run {
    id: String,
    dir: PathBuf,
    lock: Lock,
}

impl Run {
    /// A run that no other laboratory has. Removes what killed ones left behind first.
    ///
    /// # Errors
    /// When something of a dead one resists, or the folder of temporary files cannot be written.
    pub fn fresh() -> Result<Self> {
        let folder = std::env::temp_dir();
        sweep_stale(&folder)?;
        for _ in 0..RUN_IDS_TRIED {
            let id = random_run_id()?;
            if let Some(lock) = Lock::fresh(&folder.join(format!("{PREFIX}{id}.lock")))? {
                let dir = folder.join(format!("{PREFIX}{id}"));
                return Ok(Self { id, dir, lock });
            }
        }
        bail!("{RUN_IDS_TRIED} run ids in a row are taken: remove what is dead of {}/{PREFIX}*", folder.display())
    }

    /// What will be left of it if this process is interrupted.
    pub fn remains(&self) -> Remains {
        Remains { id: self.id.clone(), dir: self.dir.clone() }
    }
}

/// Held by the one process that may do a thing at a time.
#[derive(Debug)]
pub struct Sole(Lock);

impl Sole {
    /// The lock beside `path`.
    ///
    /// # Errors
    /// When another process holds it: the error names that.
    pub fn of(path: &Path) -> Result<Self> {
        let path = path.with_extension("lock");
        let Some(lock) = Lock::take(&path)? else {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            bail!("process {pid} does the same already: wait for it, or interrupt it, then run this again");
        };
        Ok(Self(lock))
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// What an interrupted laboratory left, for the thread that hears of the interrupt.
#[derive(Debug)]
pub struct Remains {
    id: String,
    dir: PathBuf,
}

impl Remains {
    /// Removes all of it, and its lock.
    ///
    /// # Errors
    /// When something resists.
    pub fn sweep(&self) -> Result<()> {
        sweep::sweep(&self.dir, &self.id)?;
        // Still locked, by this process, until it ends: nobody can come in between.
        let _ = fs::remove_file(self.dir.with_extension("lock"));
        Ok(())
    }
}

impl Lab {
    /// A laboratory for a test: moves the calling thread into a fabric of its own. Call it before any runtime or
    /// thread is started, so that they are inside too. Removes what killed tests left behind first, and builds the
    /// images of `bots` if their inputs changed.
    ///
    /// # Errors
    /// Without root, or when a program is missing: `packaging/setup.sh` installs them.
    pub fn enter(bots: &[&str]) -> Result<Self> {
        Self::enter_as(Run::fresh()?, bots)
    }

    /// As [`Lab::enter`], under a name that its caller already knows.
    ///
    /// # Errors
    /// As [`Lab::enter`].
    pub fn enter_as(run: Run, bots: &[&str]) -> Result<Self> {
        let mut lab = Self::make(run, bots)?;
        netns::enter_fabric()?;
        lab.own_fabric = true;
        lab.start_registry()?;
        Ok(lab)
    }

    /// The demo's laboratory, in `dir`, with the machine's own network as its fabric. `None`: one runs already.
    ///
    /// # Errors
    /// As [`Lab::enter`].
    pub fn on_machine(dir: &Path, run_id: &str, bots: &[&str]) -> Result<Option<Self>> {
        let Some(lock) = Lock::take(&dir.with_extension("lock"))? else { return Ok(None) };
        // A demo that was killed left its remains under the same names.
        sweep::sweep(dir, run_id)?;
        Self::make(Run { id: run_id.to_owned(), dir: dir.to_owned(), lock }, bots).map(Some)
    }

    fn make(Run { id: run_id, dir, lock }: Run, bots: &[&str]) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let mut lab = Self {
            run_id,
            dir,
            images: BTreeMap::new(),
            own_fabric: false,
            hosts: Vec::new(),
            coordinator: None,
            registry: None,
            lock,
        };
        for bot in bots {
            let image = images::ensure_built(bot, &lab.dir.join("images"))?;
            lab.images.insert((*bot).to_owned(), image);
        }
        Ok(lab)
    }

    /// The directory that holds all of it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The reference by which hosts pull the image of `bot`.
    ///
    /// # Errors
    /// When the laboratory was not told to have that image.
    pub fn image(&self, bot: &str) -> Result<String> {
        let image = self.images.get(bot).with_context(|| format!("this laboratory has no image of {bot}"))?;
        Ok(image.reference(&registry_address()))
    }

    /// Starts a coordinator on SQLite.
    ///
    /// # Errors
    /// When it refuses: the error repeats its words.
    pub fn start_coordinator(&mut self) -> Result<&mut Coordinator> {
        let place = coordinator::Place::new(&self.dir, &http_address());
        self.start_coordinator_at(place)
    }

    /// Starts a coordinator at `place`.
    ///
    /// # Errors
    /// When it refuses: the error repeats its words.
    pub fn start_coordinator_at(&mut self, place: coordinator::Place) -> Result<&mut Coordinator> {
        Ok(self.coordinator.insert(Coordinator::start(place)?))
    }

    /// The coordinator.
    ///
    /// # Errors
    /// Before [`Lab::start_coordinator`].
    pub fn coordinator(&mut self) -> Result<&mut Coordinator> {
        self.coordinator.as_mut().context("no coordinator was started")
    }

    /// The public API as the first operator.
    ///
    /// # Errors
    /// Before [`Lab::start_coordinator`].
    pub fn api(&self) -> Result<Api> {
        Ok(self.coordinator.as_ref().context("no coordinator was started")?.api())
    }

    /// Adds a host with an engine, without an agent. Hosts count from 0 here and from 1 in their names.
    ///
    /// # Errors
    /// When the namespace or the engine cannot be made.
    pub fn add_host(&mut self) -> Result<&mut Host> {
        self.add_host_with(Users::OfHost)
    }

    /// As [`Lab::add_host`], with an engine that has such users.
    ///
    /// # Errors
    /// As [`Lab::add_host`].
    pub fn add_host_with(&mut self, users: Users) -> Result<&mut Host> {
        let index = u8::try_from(self.hosts.len() + 1).context("more hosts than addresses")?;
        let first_on_machine = !self.own_fabric && self.hosts.is_empty();
        let net = HostNet::create(&self.run_id, index, first_on_machine)?;
        if first_on_machine {
            self.start_registry()?;
        }
        let dir = self.dir.join(format!("h{index}"));
        let engine = Engine::start(&dir, Network::Host(&net.path()), users)?;
        self.hosts.push(Host {
            name: format!("h{index}"),
            agent: None,
            gate: None,
            caddy: None,
            outside: nobody_to_ask(),
            engine,
            net,
            dir,
        });
        self.host(usize::from(index) - 1)
    }

    /// Host number `index`, from 0.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn host(&mut self, index: usize) -> Result<&mut Host> {
        self.hosts.get_mut(index).with_context(|| format!("there is no host {index}"))
    }

    /// Enrols host number `index`, runs its gate and its agent, and waits until the coordinator sees it.
    ///
    /// # Errors
    /// When enrolment is refused, or the host is not connected in time.
    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        let coordinator = self.coordinator.as_ref().context("no coordinator was started")?;
        let host = self.hosts.get_mut(index).with_context(|| format!("there is no host {index}"))?;
        let place = host.place();
        let agent = Agent::start(place.clone(), coordinator)?;
        if host.gate.is_none() {
            host.gate = Some(Gate::start(&place, &host.outside)?);
        }
        host.agent.insert(agent).wait_connected(coordinator)
    }

    /// An empty world of stand-ins in the laboratory's fabric. Its owner drops it before the laboratory, or keeps it: it
    /// needs nothing of the hosts.
    ///
    /// # Errors
    /// On the machine's own network, where its addresses are real ones.
    pub fn world(&self) -> Result<World> {
        ensure!(
            self.own_fabric,
            "stand-ins need a fabric of their own: this laboratory lives in the machine's network"
        );
        World::start()
    }

    /// A coordinator and `hosts` hosts with connected agents: what most scenarios start from.
    ///
    /// # Errors
    /// As each step.
    pub fn with_hosts(hosts: usize) -> Result<Self> {
        let mut lab = Self::enter(&["echo"])?;
        lab.start_coordinator()?;
        for index in 0..hosts {
            lab.add_host()?;
            lab.start_agent(index)?;
        }
        Ok(lab)
    }

    /// Removes everything and says what resisted.
    ///
    /// # Errors
    /// When something could not be removed.
    pub fn close(mut self) -> Result<()> {
        self.tear_down()
    }

    fn start_registry(&mut self) -> Result<()> {
        self.registry = Some(Registry::start(&self.dir.join("registry"), &registry_address())?);
        Ok(())
    }

    fn tear_down(&mut self) -> Result<()> {
        // Agents first: one that lives would start again what is being removed.
        for host in &mut self.hosts {
            host.agent = None;
            host.gate = None;
            host.caddy = None;
        }
        self.coordinator = None;
        let stopped: Vec<Result<()>> = self.hosts.iter_mut().map(|host| host.engine.stop()).collect();
        self.hosts.clear();
        self.registry = None;
        sweep::sweep(&self.dir, &self.run_id)?;
        self.lock.remove();
        stopped.into_iter().collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            eprintln!("laboratory {}: {error:#}", self.dir.display());
        }
    }
}

/// A resolver that nobody listens at: a bot's look-ups fail at once, instead of timing out one by one.
fn nobody_to_ask() -> Outside {
    Outside { resolver: format!("{FABRIC_ADDRESS}:53"), arguments: Vec::new() }
}

/// Where images are served.
pub fn registry_address() -> String {
    format!("{FABRIC_ADDRESS}:{REGISTRY_PORT}")
}

/// Where a coordinator on the fabric serves its API.
pub fn http_address() -> String {
    format!("{FABRIC_ADDRESS}:{HTTP_PORT}")
}

/// Removes the remains of tests that were killed.
///
/// # Errors
/// When something resists.
pub fn sweep_stale(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("look into {}", folder.display()))?;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(run_id) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(".lock")) else { continue };
        if let Some(lock) = Lock::stale(&folder.join(&name))? {
            sweep::sweep(&folder.join(format!("{PREFIX}{run_id}")), run_id)?;
            lock.remove();
        }
    }
    Ok(())
}

/// The demo in `dir`, seen from another process.
///
/// # Errors
/// When its lock cannot be read.
pub fn owner(dir: &Path) -> Result<Option<i32>> {
    lock::owner(&dir.with_extension("lock"))
}

/// Six hex digits: short, because a link's name has room for 15 characters.
fn random_run_id() -> Result<String> {
    let mut bytes = [0_u8; 3];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
