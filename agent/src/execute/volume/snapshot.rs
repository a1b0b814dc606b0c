//! Copies of a volume on its own host, taken and put back while the bot is stopped.
//!
//! An upgrade that fails is rolled back with them, and backups start from them. Each is whole or not there:
//! made in `.making`, its digest and time written beside it, then renamed into the volume's directory. Owner
//! ids are stored as containers count them, so that a host that remaps them otherwise can use them too. A
//! copy is compared with its digest before it is put back, and what it replaces goes only then.
//!
//! ```text
//! unmount ─► copy ─► ids as in containers ─► digest ─► note ─► rename ─► mount again
//! compare with the digest ─► copy ─► ids as on this host ─► unmount ─► change places ─► mount, enlarged
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::limits::SNAPSHOTS_PER_VOLUME_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::backend::{Backend, Look, Mounted, PASSAGE_MODE, Wish};
use super::step::Step;
use super::work::not_hidden;
use super::{Owner, Volumes, choice, failure};
use crate::disk::{Disk, Found};
use crate::execute::places::Home;
use crate::observe::SnapshotSight;

/// The note beside a snapshot.
const META: &str = "meta";

/// What is written beside a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    taken_at: Moment,
    /// Of the volume, as the kernel enforced it.
    volume_bytes: u64,
    /// That the copy takes at most.
    bytes: u64,
    digest: Digest,
}

/// A volume's whole snapshots, by name.
pub(super) fn sights(home: &Home) -> BTreeMap<String, SnapshotSight> {
    let names = choice::snapshots(home).unwrap_or_default();
    let sight = |name: String| {
        let Meta { taken_at, bytes, digest, .. } = meta(&home.snapshot(&name))?;
        Some((name, SnapshotSight { bytes, taken_at, digest }))
    };
    names.into_iter().filter_map(sight).collect()
}

/// None: there is no snapshot, or its note is damaged.
fn meta(copy: &Home) -> Option<Meta> {
    if !copy.root().is_dir() {
        return None;
    }
    match Disk::open(copy.root()).and_then(|disk| disk.read(META)) {
        Ok(Found::Whole(bytes)) => serde_json::from_slice(&bytes).ok(),
        Ok(Found::Nothing | Found::SetAside(_)) | Err(_) => None,
    }
}

impl Volumes {
    /// Copies a stopped instance's volume under that name. One that has the name stays: it was taken before.
    ///
    /// # Errors
    /// When the volume is in use, there are [`SNAPSHOTS_PER_VOLUME_MAX`], the disk is full, or a step fails.
    /// The volume is as it was before.
    pub async fn snapshot(
        &self,
        deployment: DeploymentId,
        name: &str,
        at: Moment,
        owner: Owner,
    ) -> Result<(), Reason> {
        let _turn = self.turn(deployment).await;
        let (backend, home) = (self.ready().await?, self.inner.places.volume(deployment));
        is_file_name(name)?;
        let taken = choice::snapshots(&home)?;
        if taken.contains(name) {
            return Ok(());
        }
        if taken.len() >= SNAPSHOTS_PER_VOLUME_MAX {
            return Err(too_many(deployment, taken.into_iter().collect::<Vec<_>>().join(", ")));
        }
        if !backend.kind().content(&home).exists() {
            return Err(Reason::new("no-volume", format!("{deployment} has no volume to copy")));
        }
        let world = self.world().await?;
        let look = backend.look(&home, &world)?;
        not_hidden(&home, &look.mounted)?;
        if look.damaged || look.mounted == Mounted::ReadOnly {
            return Err(Reason::new("volume-damaged", "a damaged volume is not copied")
                .mend("start the bot, which repairs it, or restore a snapshot"));
        }
        self.unused(&home, &world).await?;
        let copied = self.copy_out(deployment, name, at, owner, &look).await;
        // Mounted again, whatever came of the copy.
        let again = match look.owner {
            Some((uid, gid)) if look.mounted.is_ours() => {
                self.mend(&home, Wish { bytes: look.floor, uid, gid }).await
            }
            Some(_) | None => Ok(()),
        };
        copied.and(again)
    }

    async fn copy_out(
        &self,
        deployment: DeploymentId,
        name: &str,
        at: Moment,
        owner: Owner,
        look: &Look,
    ) -> Result<(), Reason> {
        let (backend, home) = (self.backend()?, self.inner.places.volume(deployment));
        let making = self.inner.places.snapshot_in_the_making(deployment, name);
        self.carry_out(&backend.settle(&home)).await?;
        let bytes = measured(&backend, &home, look).await?;
        let _claim = self.claim("the snapshot", bytes).await?;
        let made = async {
            self.carry_out(&[Step::Delete { path: making.root().to_owned() }]).await?;
            self.carry_out(&backend.copy_out(&home, &making, owner.shift().reversed())).await?;
            let digest = digest(&backend, &making).await?;
            let meta = Meta { taken_at: at, volume_bytes: look.floor, bytes, digest };
            let content = serde_json::to_string(&meta).map_err(|error| unwritable(&error))?;
            let (from, to) = (making.root().to_owned(), home.snapshot(name).root().to_owned());
            let last = [
                Step::Note { dir: from.clone(), name: META, content },
                Step::MakeDir { path: home.snapshots(), mode: PASSAGE_MODE },
                Step::Rename { from, to },
            ];
            self.carry_out(&last).await
        };
        self.or_discard(&making, made.await).await
    }

    /// Puts a copy in the place of a stopped instance's volume, and mounts it; the volume may be damaged or
    /// gone.
    ///
    /// # Errors
    /// When there is no such copy, or it is not what it was; when the volume is in use, the disk is full, or
    /// a step fails. The volume is what it was, or what it was to become.
    pub async fn restore(&self, deployment: DeploymentId, name: &str, owner: Owner) -> Result<(), Reason> {
        let _turn = self.turn(deployment).await;
        let (backend, home) = (self.ready().await?, self.inner.places.volume(deployment));
        is_file_name(name)?;
        let copy = home.snapshot(name);
        let meta = meta(&copy).filter(|_| backend.kind().content(&copy).exists());
        let meta = meta.ok_or_else(|| {
            Reason::new("no-snapshot", format!("{deployment} has no whole snapshot `{name}`"))
                .because(format!("it has {:?}", sights(&home).into_keys().collect::<Vec<_>>()))
        })?;
        let found = digest(&backend, &copy).await?;
        if found != meta.digest {
            return Err(Reason::new(
                "snapshot-damaged",
                format!("snapshot `{name}` of {deployment} is not what it was"),
            )
            .because(format!("its content is {found}, and was {}", meta.digest))
            .mend("restore another one; the volume is untouched"));
        }
        let world = self.world().await?;
        // Whatever is wrong with the volume, it goes.
        let floor = backend.look(&home, &world).map_or(0, |look| look.floor);
        not_hidden(&home, &Mounted::at(&home.mount(), &backend.parts(&home, &world), &world))?;
        self.unused(&home, &world).await?;
        let bytes = floor.max(meta.volume_bytes);
        let claim = self.claim("the restored volume", meta.bytes).await?;
        let making = self.inner.places.restore_in_the_making(deployment);
        let made = async {
            self.carry_out(&[Step::Delete { path: making.root().to_owned() }]).await?;
            self.carry_out(&backend.copy_in(&copy, &making, bytes, owner.shift())?).await?;
            self.carry_out(&backend.release(&home)).await?;
            self.carry_out(&backend.replace(&making, &home)).await
        };
        self.or_discard(&making, made.await).await?;
        drop(claim);
        let (uid, gid) = owner.on_host();
        self.mend(&home, Wish { bytes, uid, gid }).await
    }

    /// Destroys one snapshot; none there is as good.
    ///
    /// # Errors
    /// Which step failed. What is left then is in the trash.
    pub async fn drop_snapshot(&self, deployment: DeploymentId, name: &str) -> Result<(), Reason> {
        let _turn = self.turn(deployment).await;
        is_file_name(name)?;
        let copy = self.inner.places.volume(deployment).snapshot(name);
        if copy.root().exists() {
            self.throw_away(copy.root(), &format!("{deployment}@{name}")).await?;
        }
        self.empty_trash().await
    }
}

async fn digest(backend: &Arc<dyn Backend>, copy: &Home) -> Result<Digest, Reason> {
    let (backend, copy) = (Arc::clone(backend), copy.clone());
    off_thread(move || backend.digest(&copy)).await
}

async fn measured(backend: &Arc<dyn Backend>, home: &Home, look: &Look) -> Result<u64, Reason> {
    let (backend, home, look) = (Arc::clone(backend), home.clone(), look.clone());
    off_thread(move || backend.data_bytes(&home, &look)).await
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Reason> + Send + 'static,
) -> Result<T, Reason> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Reason::new("volume-failed", error.to_string())))
}

/// A name is a part of a path, and no more than that.
fn is_file_name(name: &str) -> Result<(), Reason> {
    let mut parts = Path::new(name).components();
    let is_one =
        matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(part)), None) if part == name);
    if is_one && !name.starts_with('.') {
        return Ok(());
    }
    Err(Reason::new("snapshot-name", format!("`{name}` cannot be the name of a snapshot"))
        .mend("choose a plain name"))
}

fn too_many(deployment: DeploymentId, taken: String) -> Reason {
    Reason::new("too-many-snapshots", format!("{deployment} has {SNAPSHOTS_PER_VOLUME_MAX} snapshots already"))
        .because(format!("there are {taken}"))
        .mend("drop one of them first")
}

fn unwritable(error: &serde_json::Error) -> Reason {
    failure::failed("write", Path::new(META), &std::io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_no_name() {
        for name in ["", ".", "..", "a/b", "/etc", ".hidden", "a/"] {
            assert!(is_file_name(name).is_err(), "{name}");
        }
        is_file_name("before-upgrade-7").unwrap();
    }
}
