//! What all that is done to volumes has in common: turns, room, users, steps, the trash.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::backend::{Backend, Mounted, World, cannot};
use super::step::Step;
use super::{Volumes, holders, snapshot, space, sweep};
use crate::execute::places::{Home, Places};

/// How long a user of a volume may take to leave before it is refused: a container that starts has every
/// mount of the host for some milliseconds, also its neighbours' volumes.
const USERS_LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Volumes {
    /// The backend, as it was last found.
    pub(super) fn backend(&self) -> Result<Arc<dyn Backend>, Reason> {
        self.inner.backend.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The backend, looked for again where there was none. Everything that is asked for begins with this.
    pub(super) async fn ready(&self) -> Result<Arc<dyn Backend>, Reason> {
        match self.backend() {
            Ok(backend) => Ok(backend),
            Err(_) => self.choose_again().await,
        }
    }

    pub(super) async fn world(&self) -> Result<World, Reason> {
        World::read(self.backend()?.kind(), &self.inner.places.volumes(), &*self.inner.door).await
    }

    pub(super) async fn carry_out(&self, steps: &[Step]) -> Result<(), Reason> {
        for step in steps {
            tracing::debug!(%step, "volume");
            self.inner.door.carry_out(step).await?;
        }
        Ok(())
    }

    /// Keeps room on the host's disk beside what all volumes were promised and do not have yet.
    pub(super) async fn claim(&self, what: &str, bytes: u64) -> Result<space::Claim, Reason> {
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
    pub(super) async fn unused(&self, home: &Home, world: &World) -> Result<(), Reason> {
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
    pub(super) async fn or_discard(&self, making: &Home, made: Result<(), Reason>) -> Result<(), Reason> {
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
    pub(super) async fn throw_away(&self, path: &Path, label: &str) -> Result<(), Reason> {
        let trash = self.inner.places.trash();
        let names = (0..=u32::MAX).map(|n| trash.join(format!("{label}-{n}")));
        let free = names.into_iter().find(|path| fs::symlink_metadata(path).is_err());
        let to = free.unwrap_or_else(|| trash.join(label));
        self.carry_out(&[Step::Rename { from: path.to_owned(), to }]).await
    }

    pub(super) async fn empty_trash(&self) -> Result<(), Reason> {
        let steps = sweep::entries(&self.inner.places.trash())?.into_iter().map(|path| Step::Delete { path });
        self.carry_out(&steps.collect::<Vec<_>>()).await
    }

    /// One thing at a time is done to one volume.
    pub(super) async fn turn(&self, deployment: DeploymentId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.inner.turns.lock().await;
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(deployment).or_default())
        };
        turn.lock_owned().await
    }
}

/// The deployments that have a directory among the volumes.
pub(super) fn deployments(places: &Places) -> Result<BTreeSet<DeploymentId>, Reason> {
    let volumes = places.volumes();
    let entries = fs::read_dir(&volumes).map_err(cannot("list", &volumes))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// That nothing else is mounted in a volume's place.
pub(super) fn not_hidden(home: &Home, mounted: &Mounted) -> Result<(), Reason> {
    let Mounted::Other(source) = mounted else { return Ok(()) };
    let point = home.mount();
    Err(Reason::new("volume-hidden", format!("something else is mounted at {}", point.display()))
        .because(format!("it comes from {}", source.display()))
        .mend(format!("unmount it with `umount {}`", point.display())))
}
