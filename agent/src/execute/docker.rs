//! The real host: Docker Engine, the gate, volumes and a tmpfs, behind [`Hands`] and [`Eyes`].
//!
//! `main.rs` makes one [`DockerHost`] and hands it to `run`. This file only says who carries out which
//! action; each part is a neighbour:
//!
//! ```text
//! Action ─┬─ PullImage ─────────────────────── image
//!         ├─ EnsureNetwork, RemoveNetwork ──── network ── address, bridge, gate
//!         ├─ ShapeTenant ───────────────────── tenant ─── cgroup, systemd
//!         ├─ PrepareVolume, RemoveVolume ───── volume
//!         ├─ WriteFiles, RemoveFiles ───────── files
//!         ├─ CreateContainer, Start, Update ── create ─── container, resolv
//!         └─ StopContainer, RemoveContainer ── stop
//!
//! observe ◄── sight ◄── inspect, kernel, network, volume, files, image
//! changed ◄── events        answer ◄── logs        probe ◄── probe
//! ```
//!
//! The engine need not be there when this is made: everything that needs it says so until it is.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use launchpad_pki::sealing::SealingKey;
use launchpad_protocol::frame::{Answer, Question};
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{HttpProbe, InstanceSpec};
use launchpad_protocol::time::Moment;
use tokio::sync::{Mutex, mpsc};

use super::address::Subnet;
use super::engine::Engine;
use super::events::{Board, Watch};
use super::facts::EngineFacts;
use super::files::FileStore;
use super::gate::{GateClient, GateWatch};
use super::kernel::Kernel;
use super::network::Networks;
use super::places::Places;
use super::probe::Asker;
use super::sight::Sight;
use super::volume::{Owner, Volumes};
use super::{ExecuteError, Eyes, Hands, create, image, inspect, logs, resolv, stop, tenant};
use crate::disk::Disk;
use crate::gate::policy::{Change, InstanceGate};
use crate::observe::Observed;
use crate::plan::action::Action;

/// What a host is made from.
#[derive(Debug)]
pub struct HostConfig {
    /// Docker's socket.
    pub docker: PathBuf,
    /// What outlives a boot.
    pub data_dir: PathBuf,
    /// What does not.
    pub run_dir: PathBuf,
    /// Which host this is: the value of the label that makes things ours.
    pub host: HostId,
    /// Where tenants' subnets come from.
    pub subnet_pool: Subnet,
    /// What opens sealed files.
    pub sealing_key: Arc<SealingKey>,
}

/// The real host.
#[derive(Debug)]
pub struct DockerHost {
    pub(super) engine: Arc<Engine>,
    pub(super) id: HostId,
    pub(super) places: Places,
    pub(super) networks: Networks,
    pub(super) volumes: Volumes,
    pub(super) files: FileStore,
    pub(super) board: Arc<Board>,
    pub(super) kernel: Kernel,
    pub(super) gate: GateClient,
    asker: Asker,
    facts: Mutex<Option<EngineFacts>>,
    sight: Mutex<Sight>,
    _watch: Watch,
    _gate_watch: GateWatch,
}

impl DockerHost {
    /// Makes the directories and the tmpfs, clears up what a former life left half done, and begins to listen to Docker.
    /// Docker itself may be away.
    ///
    /// # Errors
    /// When a directory or the tmpfs cannot be made: the reason names it and the mend.
    pub async fn connect(config: HostConfig) -> Result<Self, Reason> {
        let places = Places::under(&config.data_dir, &config.run_dir);
        let disk = Disk::open(places.data_dir()).map_err(|error| Reason::new("data-dir", error.to_string()))?;
        let volumes = Volumes::open(&places, &config.docker).await?;
        let files = FileStore::new(places.clone(), config.host, config.sealing_key);
        files.open()?;
        let engine = Arc::new(Engine::behind(&config.docker));
        let board = Arc::new(Board::default());
        let gate = GateClient::at(&config.run_dir);
        Ok(Self {
            networks: Networks::new(Arc::clone(&engine), config.host, disk, config.subnet_pool, gate.clone()),
            _watch: Watch::start(Arc::clone(&engine), config.host, Arc::clone(&board)),
            _gate_watch: GateWatch::start(gate.clone(), Arc::clone(&board)),
            gate,
            engine,
            id: config.host,
            kernel: Kernel::beneath(&config.data_dir),
            places,
            volumes,
            files,
            board,
            asker: Asker::default(),
            facts: Mutex::new(None),
            sight: Mutex::new(Sight::default()),
        })
    }

    /// What the engine is. Asked once; asked again after it was away, because it may have been upgraded.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn facts(&self) -> Result<EngineFacts, ExecuteError> {
        let mut held = self.facts.lock().await;
        if let Some(facts) = held.as_ref() {
            return Ok(facts.clone());
        }
        let facts = EngineFacts::read(&self.engine).await?;
        *held = Some(facts.clone());
        Ok(facts)
    }

    async fn prepare_volume(&self, spec: &InstanceSpec) -> Result<(), ExecuteError> {
        let Some(volume) = &spec.volume else { return Ok(()) };
        let owner = self.volume_owner(spec).await?;
        let prepared = self.volumes.prepare(spec.deployment, volume.bytes, owner).await;
        prepared.map_err(ExecuteError::Passing)
    }

    async fn snapshot_volume(&self, spec: &InstanceSpec, name: &str, at: Moment) -> Result<(), ExecuteError> {
        let owner = self.volume_owner(spec).await?;
        self.volumes.snapshot(spec.deployment, name, at, owner).await.map_err(ExecuteError::Passing)
    }

    async fn restore_volume(&self, spec: &InstanceSpec, name: &str) -> Result<(), ExecuteError> {
        let owner = self.volume_owner(spec).await?;
        self.volumes.restore(spec.deployment, name, owner).await.map_err(ExecuteError::Passing)
    }

    async fn volume_owner(&self, spec: &InstanceSpec) -> Result<Owner, ExecuteError> {
        let (offset_uid, offset_gid) = self.facts().await?.remapped.unwrap_or((0, 0));
        Ok(Owner { uid: spec.process.uid, gid: spec.process.gid, offset_uid, offset_gid })
    }

    async fn write_files(&self, spec: &InstanceSpec) -> Result<(), ExecuteError> {
        let (uid, gid) = self.facts().await?.owner(spec.process.uid, spec.process.gid);
        self.files.write(spec, uid, gid)
    }

    /// An instance without files has no container any more: its address goes back, unless Docker still has
    /// one.
    async fn remove_files(&self, deployment: DeploymentId) -> Result<(), ExecuteError> {
        self.files.remove(deployment).map_err(ExecuteError::Passing)?;
        resolv::remove(&self.places, deployment).map_err(ExecuteError::Passing)?;
        if inspect::list(&self.engine, self.id, Some(deployment)).await?.is_empty() {
            self.networks.release(deployment).await?;
        }
        Ok(())
    }

    /// Told is not enough: a gate that cannot do it says so, and then nothing behind it starts.
    async fn open_gate(&self, spec: &InstanceSpec) -> Result<(), ExecuteError> {
        let instance = InstanceGate {
            account: spec.account,
            address: self.networks.address(spec.account, spec.deployment).await?,
            egress: spec.egress.clone(),
            ingress: spec.ingress.clone(),
        };
        let told = self.gate.change(Change::PutInstance { deployment: spec.deployment, instance }).await?;
        let fault = told.and_then(|sight| sight.egress_fault.or(sight.ingress_fault));
        fault.map_or(Ok(()), |fault| Err(ExecuteError::Passing(fault)))
    }

    async fn carry_out(&self, action: &Action) -> Result<(), ExecuteError> {
        match action {
            Action::PullImage { image } => image::pull(&self.engine, image).await,
            Action::EnsureNetwork { account } => self.networks.ensure(*account).await,
            Action::ShapeTenant { account, shape } => {
                let driver = self.facts().await?.cgroup_driver;
                tenant::shape(&self.kernel, *account, driver, shape).await
            }
            Action::PrepareVolume { spec } => self.prepare_volume(spec).await,
            Action::WriteFiles { spec } => self.write_files(spec).await,
            Action::CreateContainer { spec } => create::make(self, spec).await,
            Action::StartContainer { deployment, container } => {
                create::start(self, *deployment, container.as_deref()).await
            }
            Action::UpdateResources { container, resources } => create::update(self, container, resources).await,
            Action::StopContainer { container, grace, .. } => stop::stop(self, container, *grace).await,
            Action::RemoveContainer { container } => stop::remove(self, container).await,
            Action::OpenGate { spec } => self.open_gate(spec).await,
            Action::CloseGate { deployment } => {
                self.gate.change(Change::DropInstance { deployment: *deployment }).await.map(drop)
            }
            Action::SnapshotVolume { spec, name, at, .. } => self.snapshot_volume(spec, name, *at).await,
            Action::RestoreVolume { spec, name, .. } => self.restore_volume(spec, name).await,
            Action::DropSnapshot { deployment, name, .. } => {
                self.volumes.drop_snapshot(*deployment, name).await.map_err(ExecuteError::Passing)
            }
            Action::RemoveFiles { deployment } => self.remove_files(*deployment).await,
            Action::RemoveVolume { deployment } => {
                self.volumes.remove(*deployment).await.map_err(ExecuteError::Passing)
            }
            Action::RemoveNetwork { account } => {
                self.networks.remove(*account).await?;
                tenant::remove(&self.kernel, *account, self.facts().await?.cgroup_driver).await
            }
            // Written down by the reconciler: they change nothing outside the agent.
            Action::BeginOperation { .. } | Action::FinishOperation { .. } | Action::Bury { .. } => Ok(()),
        }
    }

    /// What an action makes stale, whether it succeeded or not: a failed one may have done half.
    fn mark(&self, action: &Action) {
        self.board.mark(|stale| match action {
            Action::CreateContainer { .. } | Action::StartContainer { container: None, .. } => stale.list = true,
            Action::StartContainer { container: Some(id), .. }
            | Action::UpdateResources { container: id, .. }
            | Action::StopContainer { container: id, .. }
            | Action::RemoveContainer { container: id } => {
                stale.ids.insert(id.clone());
            }
            Action::EnsureNetwork { .. }
            | Action::RemoveNetwork { .. }
            | Action::ShapeTenant { .. }
            | Action::PrepareVolume { .. }
            | Action::RemoveVolume { .. }
            | Action::WriteFiles { .. }
            | Action::OpenGate { .. }
            | Action::CloseGate { .. }
            | Action::SnapshotVolume { .. }
            | Action::RestoreVolume { .. }
            | Action::DropSnapshot { .. }
            | Action::RemoveFiles { .. } => stale.rest = true,
            Action::PullImage { .. }
            | Action::BeginOperation { .. }
            | Action::FinishOperation { .. }
            | Action::Bury { .. } => {}
        });
    }
}

#[async_trait]
impl Hands for DockerHost {
    async fn execute(&self, action: &Action) -> Result<(), ExecuteError> {
        let done = self.carry_out(action).await;
        if matches!(done, Err(ExecuteError::EngineAway(_))) {
            *self.facts.lock().await = None;
        }
        // What was believed when the plan was made is not so: an image or a volume may be gone. A registry
        // that is away says nothing of the kind.
        if done.is_err() && !matches!(action, Action::PullImage { .. }) {
            self.board.mark(|stale| stale.all = true);
        }
        self.mark(action);
        done
    }
}

#[async_trait]
impl Eyes for DockerHost {
    async fn observe(&self, images: &BTreeSet<ImageRef>) -> Result<Observed, ExecuteError> {
        self.sight.lock().await.observe(self, images).await
    }

    async fn changed(&self) {
        self.board.rung().await;
    }

    async fn answer(&self, question: &Question, pieces: mpsc::Sender<Answer>) {
        match question {
            Question::Logs { deployment, tail, follow } => {
                logs::answer(self, *deployment, *tail, *follow, &pieces).await;
            }
        }
    }

    async fn probe(&self, address: Ipv4Addr, port: u16, probe: &HttpProbe) -> Result<(), String> {
        self.asker.get(address, port, probe).await
    }
}
