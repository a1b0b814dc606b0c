//! An instance's state on disk: room that is promised and kept, bounded by the kernel, copied while the bot
//! is stopped.
//!
//! `docker.rs` and `sight.rs` call [`Volumes`]; `doctor.rs` asks [`Volumes::foresee`]. What a volume is made
//! of is a [`backend::Backend`]'s affair, chosen once per host. In the order in which one is met:
//!
//! ```text
//! life, snapshot                                          prepare, remove; snapshot, restore
//! choice ─► backend ─┬─ image   ext4 in a file          ┐ look, and decide: lists of steps
//!                    └─ quota   folders of an XFS       ┘
//!              mounts, loops, ext4                        what the kernel shows
//!              holders, reach, space                      may it be done: in use? in sight? is there room?
//!                    step ─► door ─► program              doing it
//!                            └─► content, tree            copies, and whether they are whole
//! sweep                                                   what a former life left half done
//! ```
//!
//! **A crash** at any step leaves a volume whole, or in `.making`, or in the trash: volumes and snapshots
//! appear by one rename and disappear by one, and [`Volumes::open`] unmounts and deletes the rest. **A bot**
//! owns what is inside, and may have put anything there: nothing follows its links, and only copies and
//! deletion look inside at all. Nothing is remembered: whether a volume is mounted, and how large it is, is
//! read from the kernel each time. Nothing is unmounted while somebody uses it.

pub mod backend;
pub mod choice;
pub mod content;
pub mod door;
pub mod ext4;
pub mod failure;
pub mod holders;
pub mod image;
pub mod life;
pub mod loops;
pub mod mounts;
pub mod program;
pub mod quota;
pub mod reach;
pub mod snapshot;
pub mod space;
pub mod step;
pub mod sweep;
pub mod tree;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use tokio::sync::Mutex;

use self::backend::{Backend, Kind, Mounted, World, cannot};
use self::choice::Able;
use self::door::{Door, Machine};
use self::image::Images;
use self::quota::Folders;
use self::space::Space;
use self::tree::Shift;
use self::work::deployments;
use super::places::{Home, Places};
use crate::disk::Disk;
use crate::observe::VolumeSight;

/// Whose a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user, as the container counts.
    pub uid: u32,
    /// The group, as the container counts.
    pub gid: u32,
    /// The user on the host that is user 0 of containers; 0 where the engine remaps nothing.
    pub offset_uid: u32,
    /// The group on the host that is group 0 of containers.
    pub offset_gid: u32,
}

impl Owner {
    /// User and group, as the host counts.
    #[must_use]
    pub const fn on_host(self) -> (u32, u32) {
        (self.offset_uid.saturating_add(self.uid), self.offset_gid.saturating_add(self.gid))
    }

    /// From ids of containers to those of this host.
    fn shift(self) -> Shift {
        Shift { uid: self.offset_uid.into(), gid: self.offset_gid.into() }
    }
}

/// All volumes of a host. Cloned, it is the same.
#[derive(Debug, Clone)]
pub struct Volumes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    places: Places,
    engine: PathBuf,
    door: Arc<dyn Door>,
    backend: StdMutex<Result<Arc<dyn Backend>, Reason>>,
    /// Held while a backend is chosen.
    choosing: Mutex<()>,
    space: Space,
    turns: Mutex<BTreeMap<DeploymentId, Arc<Mutex<()>>>>,
}

impl Volumes {
    /// Clears up after a former life, and chooses or finds again what this host holds volumes with. A host
    /// that can hold none is opened too: [`Volumes::prepare`] then refuses, with the cause. `engine` is
    /// Docker's socket.
    ///
    /// # Errors
    /// When a directory cannot be made, or a program of a former life does not end.
    pub async fn open(places: &Places, engine: &Path) -> Result<Self, Reason> {
        Self::open_behind(places, engine, |places| Arc::new(Machine::new(places.at_work()))).await
    }

    /// The same behind another door.
    ///
    /// # Errors
    /// As [`Volumes::open`].
    pub async fn open_behind(
        places: &Places,
        engine: &Path,
        door: impl FnOnce(&Places) -> Arc<dyn Door>,
    ) -> Result<Self, Reason> {
        let data_dir = places.data_dir();
        Disk::open(data_dir).map_err(|error| Reason::new("data-dir", error.to_string()))?;
        // As the kernel's tables name it.
        let canonical = fs::canonicalize(data_dir).map_err(cannot("look at", data_dir))?;
        let places = places.clone().with_data_dir(canonical);
        let door = door(&places);
        sweep::make_room(&places, &*door).await?;
        door.quiet().await?;
        sweep::tidy(&places, &*door).await?;
        let backend = Self::choose(&places, &*door).await;
        if let Err(reason) = &backend {
            tracing::warn!(%reason, "this host holds no volumes");
        }
        let space = Space::of(places.volumes());
        let inner = Inner {
            places,
            engine: engine.to_owned(),
            door,
            backend: StdMutex::new(backend),
            choosing: Mutex::default(),
            space,
            turns: Mutex::default(),
        };
        let volumes = Self { inner: Arc::new(inner) };
        // What an agent that died left there may be large; nothing waits for it.
        let trash = volumes.clone();
        drop(tokio::spawn(async move {
            trash.empty_trash().await.unwrap_or_else(|reason| tracing::warn!(%reason, "the trash is not empty"));
        }));
        Ok(volumes)
    }

    /// What a host would hold volumes with whose agent has not run yet. Nothing is changed, and nothing tried
    /// out.
    ///
    /// # Errors
    /// Why it would hold none, and what would mend that.
    pub async fn foresee(places: &Places) -> Result<&'static str, Reason> {
        let (volumes, door) = (places.volumes(), Machine::new(places.at_work()));
        let there = volumes.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let able =
            Able::from([(Kind::XfsQuota, quota::probe(there, &door).await), (Kind::Ext4Image, image::probe())]);
        let on_disk = if volumes.exists() { choice::on_disk(places)? } else { BTreeSet::new() };
        choice::choose(&on_disk, &able).map(Kind::name)
    }

    /// Chooses again where nothing could be chosen: what was in the way may be gone.
    async fn choose_again(&self) -> Result<Arc<dyn Backend>, Reason> {
        let _alone = self.inner.choosing.lock().await;
        if let Ok(backend) = self.backend() {
            return Ok(backend);
        }
        let backend = Self::choose(&self.inner.places, &*self.inner.door).await;
        self.inner.backend.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&backend);
        backend
    }

    async fn choose(places: &Places, door: &dyn Door) -> Result<Arc<dyn Backend>, Reason> {
        let on_disk = choice::on_disk(places)?;
        let mut able = Able::from([(Kind::XfsQuota, quota::probe(&places.volumes(), door).await)]);
        let mut images = image::probe();
        // Where there are images, they have been proved; and a disk that is full must not hide them.
        if images.is_ok() && !on_disk.contains(&Kind::Ext4Image) {
            images = sweep::try_image(places, door).await;
        }
        able.insert(Kind::Ext4Image, images);
        let kind = choice::choose(&on_disk, &able)?;
        let disk = Disk::open(&places.volumes()).and_then(|disk| disk.write(choice::NOTE, kind.name().as_bytes()));
        disk.map_err(|error| Reason::new("volume-failed", error.to_string()))?;
        Ok(match kind {
            Kind::Ext4Image => Arc::new(Images),
            Kind::XfsQuota => Arc::new(Folders::under(places.clone())),
        })
    }

    /// What this host holds volumes with, as it was found when that was last needed.
    ///
    /// # Errors
    /// Why it holds none, and what would mend that.
    pub fn capability(&self) -> Result<&'static str, Reason> {
        self.backend().map(|backend| backend.kind().name())
    }

    /// Every volume on this host, from the kernel's tables. One that cannot be read is told as not mounted,
    /// and [`Volumes::prepare`] says why.
    ///
    /// # Errors
    /// When the tables themselves cannot be read.
    pub async fn all(&self) -> Result<BTreeMap<DeploymentId, VolumeSight>, Reason> {
        let mut found = BTreeMap::new();
        let world = if self.backend().is_ok() { Some(self.world().await?) } else { None };
        for deployment in deployments(&self.inner.places)? {
            let home = self.inner.places.volume(deployment);
            if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.content(&home).exists()) {
                found.insert(deployment, self.sight(&home, kind, world.as_ref()));
            }
        }
        Ok(found)
    }

    fn sight(&self, home: &Home, kind: Kind, world: Option<&World>) -> VolumeSight {
        let look = self.backend().ok().zip(world).and_then(|(backend, world)| {
            let looked = backend.look(home, world);
            looked.inspect_err(|reason| tracing::warn!(%reason, "a volume cannot be read")).ok()
        });
        VolumeSight {
            backend: kind.name().to_owned(),
            bytes: look.as_ref().map_or(0, |look| look.bytes),
            used_bytes: look.as_ref().map_or(0, |look| look.used),
            free_bytes: look.as_ref().and_then(|look| look.free),
            // Only with the bot's directory in it has the mounting come to its end.
            mounted: look.as_ref().is_some_and(|look| look.mounted.is_ours() && look.owner.is_some()),
            flags_right: look
                .as_ref()
                .is_some_and(|look| look.mounted == Mounted::Right && !look.damaged && !look.has_holes),
            // What no host knows how to hold is prepared, and that says why not.
            grows_in_use: self.backend().ok().zip(world).is_none_or(|(backend, world)| backend.grows_in_use(world)),
            snapshots: snapshot::sights(home),
        }
    }
}
