//! A volume's life: made, mounted again, enlarged, mended, destroyed.
//!
//! `docker.rs` calls [`Volumes::prepare`] and [`Volumes::remove`]. What is to be done is the backend's to
//! say; here it is asked first whether it may be: is there room, does the engine see it, does anybody use it.

use std::fs;
use std::io;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;

use super::backend::{Look, Mounted, Wish, cannot};
use super::failure::mib;
use super::space::rounded;
use super::step::Step;
use super::work::not_hidden;
use super::{Owner, Volumes, reach};
use crate::execute::places::Home;
use crate::observe::grows_stopped;

impl Volumes {
    /// Sees that an instance has a volume of at least that many bytes, mounted, and its user's: makes it,
    /// mounts it again after a reboot, enlarges it under a running bot, mends what somebody changed.
    /// Idempotent.
    ///
    /// # Errors
    /// What is in the way, and how to mend it; a volume is never made smaller.
    pub async fn prepare(&self, deployment: DeploymentId, bytes: u64, owner: Owner) -> Result<(), Reason> {
        let _turn = self.turn(deployment).await;
        let backend = self.ready().await?;
        reach::reaches(&self.inner.places.volumes(), &self.inner.engine).await?;
        let bytes = rounded(bytes)?;
        let home = self.inner.places.volume(deployment);
        if !backend.kind().content(&home).exists() {
            self.make(deployment, &home, bytes).await?;
        }
        let (uid, gid) = owner.on_host();
        let wish = Wish { bytes, uid, gid };
        match self.mend(&home, wish).await {
            // A loop device that somebody else let go of a moment ago may fail its first reader.
            Err(reason) if reason.code == "program-failed" => self.mend(&home, wish).await,
            mended => mended,
        }
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
    pub(super) async fn mend(&self, home: &Home, wish: Wish) -> Result<(), Reason> {
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
            let backend = self.ready().await?;
            let world = self.world().await?;
            not_hidden(&home, &Mounted::at(&home.mount(), &backend.parts(&home, &world), &world))?;
            self.unused(&home, &world).await?;
            self.carry_out(&backend.release(&home)).await?;
            self.throw_away(home.root(), &deployment.to_string()).await?;
        }
        self.empty_trash().await
    }
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

fn why_it_must_stop(look: &Look, wish: Wish, users: Reason) -> Reason {
    let why = if look.damaged || look.mounted == Mounted::ReadOnly {
        let sentence = "the volume's filesystem is damaged, and is repaired only while its bot is stopped";
        Reason::new("volume-damaged", sentence).mend("stop the bot, and start it again")
    } else if wish.bytes > look.bytes {
        grows_stopped()
    } else {
        return users;
    };
    why.because(users.cause.unwrap_or(users.sentence))
}
