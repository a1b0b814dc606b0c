//! An instance's state on disk: room that is promised and kept, bounded by the kernel, copied while the bot is stopped.
//!
//! `docker.rs` and `sight.rs` call [`Volumes`]; `doctor.rs` asks [`Volumes::capability`] and [`reach`]. What a volume is
//! made of is a [`backend::Backend`]'s affair, chosen once per host. In the order in which one is met:
//!
//! ```text
//! choice ─► backend ─┬─ image   ext4 in a file          ┐ look, and decide: lists of steps
//!                    └─ quota   folders of an XFS       ┘
//!              mounts, loops, ext4                        what the kernel shows
//!              holders, reach, space                      may it be done: in use? in sight? is there room?
//!                    step ─► door ─► program              doing it
//! snapshot ─► content, tree                               copies, and whether they are whole
//! sweep                                                   what a former life left half done
//! ```
//!
//! **A crash** at any step leaves a volume whole, or in `.making`, or in the trash: volumes and snapshots appear by one
//! rename and disappear by one, and [`Volumes::open`] unmounts and deletes the rest. **A bot** owns what is inside, and
//! may have put anything there: nothing follows its links, and only copies and deletion look inside at all.
//! Nothing is remembered: whether a volume is mounted, and how large it is, is read from the kernel each time. Nothing
//! is unmounted while somebody uses it.

pub mod backend;
pub mod choice;
pub mod content;
pub mod door;
pub mod ext4;
pub mod failure;
pub mod holders;
pub mod image;
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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use self::backend::{Backend, Kind, Look, Mounted, Wish, World, cannot};
use self::choice::Able;
use self::door::{Door, Machine};
use self::failure::mib;
use self::image::Images;
use self::quota::Folders;
use self::space::{Space, rounded};
use self::step::Step;
use self::tree::Shift;
use super::places::{Home, Places};
use crate::disk::Disk;
use crate::observe::VolumeSight;

/// How long a user of a volume may take to leave before it is refused: a container that starts has every mount of the host
/// for some milliseconds, also its neighbours' volumes.
const USERS_LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    backend: Result<Arc<dyn Backend>, Reason>,
    space: Space,
    turns: Mutex<BTreeMap<DeploymentId, Arc<Mutex<()>>>>,
}

impl Volumes {
    /// Clears up after a former life, and chooses or finds again what this host holds volumes with. A host that can
    /// hold none is opened too: [`Volumes::prepare`] then refuses, with the cause. `engine` is Docker's socket.
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
        let inner = Inner { places, engine: engine.to_owned(), door, backend, space, turns: Mutex::default() };
        let volumes = Self { inner: Arc::new(inner) };
        // What an agent that died left there may be large; nothing waits for it.
        let trash = volumes.clone();
        drop(tokio::spawn(async move {
            trash.empty_trash().await.unwrap_or_else(|reason| tracing::warn!(%reason, "the trash is not empty"));
        }));
        Ok(volumes)
    }

    /// What a host would hold volumes with whose agent has not run yet. Nothing is changed, and nothing tried out.
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

    /// What this host holds volumes with.
    ///
    /// # Errors
    /// Why it holds none, and what would mend that.
    pub fn capability(&self) -> Result<&'static str, Reason> {
        self.backend().map(|backend| backend.kind().name())
    }

    /// Sees that an instance has a volume of at least that many bytes, mounted, and its user's: makes it, mounts it again after a
    /// reboot, enlarges it under a running bot, mends what somebody changed. Idempotent.
    ///
    /// # Errors
    /// What is in the way, and how to mend it; a volume is never made smaller.
    pub async fn prepare(&self, deployment: DeploymentId, bytes: u64, owner: Owner) -> Result<(), Reason> {
        let _turn = self.turn(deployment).await;
        let backend = self.backend()?;
        reach::reaches(&self.inner.places.volumes(), &self.inner.engine).await?;
        let bytes = rounded(bytes)?;
        let home = self.inner.places.volume(deployment);
        if !backend.kind().content(&home).exists() {
            self.make(deployment, &home, bytes).await?;
        }
        let (uid, gid) = owner.on_host();
        self.mend(&home, Wish { bytes, uid, gid }).await
    }

    async fn make(&self, deployment: DeploymentId, home: &Home, bytes: u64) -> Result<(), Reason> {
        let backend = self.backend()?;
        nothing_precious(home)?;
        let _claim = self.claim("the volume", bytes).await?;
        let making = self.inner.places.volume_in_the_making(deployment);
        let made = async {
            self.carry_out(&[Step::Delete { path: making.root().to_owned() }]).await?;
            self.carry_out(&backend.make(&making, bytes)?).await?;
            let (from, to) = (making.root().to_owned(), home.root().to_owned());
            self.carry_out(&[Step::Rename { from, to }]).await
        };
        self.or_discard(&making, made.await).await
    }

    /// Makes a volume that is there as it is wished to be.
    async fn mend(&self, home: &Home, wish: Wish) -> Result<(), Reason> {
        let backend = self.backend()?;
        let world = self.world().await?;
        let look = backend.look(home, &world)?;
        not_hidden(home, &look.mounted)?;
        if wish.bytes < look.floor {
            return Err(Reason::new(
                "volume-shrinks",
                format!("a volume of {} cannot be made one of {}", mib(look.floor), mib(wish.bytes)),
            )
            .mend("keep the larger plan, or move the data into a new deployment"));
        }
        let _claim = match wish.bytes.saturating_sub(look.promised) {
            0 => None,
            more => Some(self.claim("a larger volume", more).await?),
        };
        let steps = backend.mend(home, &look, wish, &world)?;
        if steps.iter().any(Step::needs_it_unused) {
            let unused = self.unused(home, &world).await;
            unused.map_err(|reason| why_it_must_stop(&look, wish, reason))?;
        }
        self.carry_out(&steps).await
    }

    /// Destroys an instance's volume with its snapshots; none there is as good.
    ///
    /// # Errors
    /// Who uses it, or which step failed. What is left then is in the trash, and goes with the next call.
    pub async fn remove(&self, deployment: DeploymentId) -> Result<(), Reason> {
        let _turn = self.turn(deployment).await;
        let home = self.inner.places.volume(deployment);
        if fs::symlink_metadata(home.root()).is_ok() {
            let backend = self.backend()?;
            let world = self.world().await?;
            not_hidden(&home, &Mounted::at(&home.mount(), &backend.parts(&home, &world), &world))?;
            self.unused(&home, &world).await?;
            self.carry_out(&backend.release(&home)).await?;
            self.throw_away(home.root(), &deployment.to_string()).await?;
        }
        self.empty_trash().await
    }

    /// Every volume on this host, from the kernel's tables. One that cannot be read is told as not mounted, and
    /// [`Volumes::prepare`] says why.
    ///
    /// # Errors
    /// When the tables themselves cannot be read.
    pub async fn all(&self) -> Result<BTreeMap<DeploymentId, VolumeSight>, Reason> {
        let mut found = BTreeMap::new();
        let world = match &self.inner.backend {
            Ok(_) => Some(self.world().await?),
            Err(_) => None,
        };
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
            // Only with the bot's directory in it has the mounting come to its end.
            mounted: look.as_ref().is_some_and(|look| look.mounted.is_ours() && look.owner.is_some()),
            flags_right: look
                .as_ref()
                .is_some_and(|look| look.mounted == Mounted::Right && !look.damaged && !look.has_holes),
            snapshots: snapshot::sights(home),
        }
    }
}

/// What all operations share.
impl Volumes {
    fn backend(&self) -> Result<&Arc<dyn Backend>, Reason> {
        self.inner.backend.as_ref().map_err(Clone::clone)
    }

    async fn world(&self) -> Result<World, Reason> {
        World::read(self.backend()?.kind(), &self.inner.places.volumes(), &*self.inner.door).await
    }

    async fn carry_out(&self, steps: &[Step]) -> Result<(), Reason> {
        for step in steps {
            tracing::debug!(%step, "volume");
            self.inner.door.carry_out(step).await?;
        }
        Ok(())
    }

    /// Keeps room on the host's disk beside what all volumes were promised and do not have yet.
    async fn claim(&self, what: &str, bytes: u64) -> Result<space::Claim, Reason> {
        let (backend, world) = (self.backend()?, self.world().await?);
        let mut owed: u64 = 0;
        for deployment in deployments(&self.inner.places)? {
            let home = self.inner.places.volume(deployment);
            // What cannot be read is not mounted, and takes nothing.
            let missing = backend.look(&home, &world).map_or(0, |look| look.promised.saturating_sub(look.held));
            let copies = snapshot::sights(&home).into_values().map(|copy| backend.owed_to_snapshots(copy.bytes));
            owed = copies.fold(owed.saturating_add(missing), u64::saturating_add);
        }
        self.inner.space.claim(what, bytes, owed)
    }

    /// That nobody uses a volume.
    async fn unused(&self, home: &Home, world: &World) -> Result<(), Reason> {
        let backend = self.backend()?;
        let volume = holders::Volume {
            point: home.mount(),
            other_path: Some(backend.kind().content(home)).filter(|path| path.is_dir()),
            parts: backend.parts(home, world),
        };
        let end = Instant::now() + USERS_LEAVE_WITHIN;
        loop {
            let volume = volume.clone();
            let looked = tokio::task::spawn_blocking(move || holders::none(&volume)).await;
            match looked.unwrap_or_else(|error| Err(Reason::new("volume-failed", error.to_string()))) {
                Err(_) if Instant::now() < end => tokio::time::sleep(LOOK_EVERY).await,
                looked => return looked,
            }
        }
    }

    /// Takes away what was being made when it failed. The failure counts, not what became of its remains:
    /// [`Volumes::open`] finds those.
    async fn or_discard(&self, making: &Home, made: Result<(), Reason>) -> Result<(), Reason> {
        if made.is_err() {
            let mut steps = self.backend()?.release(making);
            steps.push(Step::Delete { path: making.root().to_owned() });
            let discarded = self.carry_out(&steps).await;
            discarded
                .unwrap_or_else(|reason| tracing::warn!(%reason, "what was half made stays until the next start"));
        }
        made
    }

    /// Renames into the trash, where nothing looks whole.
    async fn throw_away(&self, path: &Path, label: &str) -> Result<(), Reason> {
        let trash = self.inner.places.trash();
        let names = (0..=u32::MAX).map(|n| trash.join(format!("{label}-{n}")));
        let free = names.into_iter().find(|path| fs::symlink_metadata(path).is_err());
        let to = free.unwrap_or_else(|| trash.join(label));
        self.carry_out(&[Step::Rename { from: path.to_owned(), to }]).await
    }

    async fn empty_trash(&self) -> Result<(), Reason> {
        let steps = sweep::entries(&self.inner.places.trash())?.into_iter().map(|path| Step::Delete { path });
        self.carry_out(&steps.collect::<Vec<_>>()).await
    }

    /// One thing at a time is done to one volume.
    async fn turn(&self, deployment: DeploymentId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.inner.turns.lock().await;
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(deployment).or_default())
        };
        turn.lock_owned().await
    }
}

/// The deployments that have a directory among the volumes.
fn deployments(places: &Places) -> Result<BTreeSet<DeploymentId>, Reason> {
    let volumes = places.volumes();
    let entries = fs::read_dir(&volumes).map_err(cannot("list", &volumes))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// That an empty volume would take nobody's place.
fn nothing_precious(home: &Home) -> Result<(), Reason> {
    let names = match fs::read_dir(home.root()) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot("list", home.root())(error)),
    };
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    let at = home.root().display();
    Err(Reason::new("volume-lost", format!("{at} holds no volume, and is not empty"))
        .because(format!("there is {}", names.join(", ")))
        .mend("restore one of its snapshots, or move what is there away by hand"))
}

/// That nothing else is mounted in a volume's place.
fn not_hidden(home: &Home, mounted: &Mounted) -> Result<(), Reason> {
    let Mounted::Other(source) = mounted else { return Ok(()) };
    let point = home.mount();
    Err(Reason::new("volume-hidden", format!("something else is mounted at {}", point.display()))
        .because(format!("it comes from {}", source.display()))
        .mend(format!("unmount it with `umount {}`", point.display())))
}

fn why_it_must_stop(look: &Look, wish: Wish, users: Reason) -> Reason {
    let why = if look.damaged || look.mounted == Mounted::ReadOnly {
        Reason::new(
            "volume-damaged",
            "the volume's filesystem is damaged, and is repaired only while its bot is stopped",
        )
    } else if wish.bytes > look.bytes {
        Reason::new("volume-grows-stopped", "the volume can grow only while its bot is stopped")
    } else {
        return users;
    };
    let mend = if why.code == "volume-damaged" {
        "stop the bot, and start it again"
    } else {
        "run the agent with CAP_SYS_RESOURCE, without which the kernel enlarges no mounted ext4; or stop the bot, and start it again"
    };
    why.because(users.cause.unwrap_or(users.sentence)).mend(mend)
}
