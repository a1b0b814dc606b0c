//! What a former life of the agent left half done, and whether this one can do better: done at every start.
//!
//! `Volumes::open` calls this before anything else. Only what lies in the making or in the trash is taken
//! away, and what was attached to it; a volume in its place is left as it is, mounted or not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use launchpad_protocol::reason::Reason;

use super::backend::{Backend as _, PASSAGE_MODE, Wish, World, cannot};
use super::door::Door;
use super::image::Images;
use super::loops::{self, LoopDevice};
use super::mounts::{self, Mount};
use super::step::Step;
use crate::execute::places::Places;

/// Nobody but the host looks at what is not whole.
const PRIVATE_MODE: u32 = 0o700;
/// Bytes of the image on which it is tried whether this host can have any: small, because the disk may be
/// nearly full.
const TRIAL_BYTES: u64 = 8 << 20;

/// Makes the directories that volumes live in.
///
/// # Errors
/// Which of them could not be made, and why.
pub(super) async fn make_room(places: &Places, door: &dyn Door) -> Result<(), Reason> {
    for (path, mode) in
        [(places.volumes(), PASSAGE_MODE), (places.making(), PRIVATE_MODE), (places.trash(), PRIVATE_MODE)]
    {
        door.carry_out(&Step::MakeDir { path, mode }).await?;
    }
    Ok(())
}

/// Takes away what is half made. What cannot be taken away now is told, and taken away by the next start: a
/// bot must not wait for it.
///
/// # Errors
/// When the kernel's tables cannot be read.
pub(super) async fn tidy(places: &Places, door: &dyn Door) -> Result<(), Reason> {
    let steps = steps(places, &mounts::own()?, &loops::attached()?, entries(&places.making())?);
    for step in steps {
        if let Err(reason) = door.carry_out(&step).await {
            tracing::warn!(%step, %reason, "what a former life left stays until the next start");
        }
    }
    Ok(())
}

fn steps(places: &Places, mounts: &[Mount], loops: &[LoopDevice], half_made: Vec<PathBuf>) -> Vec<Step> {
    let unfinished = [places.making(), places.trash()];
    let is_unfinished = |path: &Path| unfinished.iter().any(|parent| path.starts_with(parent));
    // The last one made lies on top.
    let unmount = mounts.iter().rev().map(|mount| &mount.point).filter(|point| is_unfinished(point));
    let unmount = unmount.map(|point| Step::Unmount { at: point.clone() });
    let is_mounted = |device: &LoopDevice| mounts.iter().any(|mount| mount.device == device.device);
    let is_stale = |device: &&LoopDevice| {
        let of_a_volume = device.file.starts_with(places.volumes()) && !device.frees_itself && !is_mounted(device);
        is_unfinished(&device.file) || of_a_volume
    };
    // A device may have two lives of one file.
    let images: BTreeSet<&PathBuf> = loops.iter().filter(is_stale).map(|device| &device.file).collect();
    let free = images.into_iter().map(|image| Step::FreeLoop { image: image.clone() });
    let delete = half_made.into_iter().map(|path| Step::Delete { path });
    unmount.chain(free).chain(delete).collect()
}

/// What lies in a directory.
///
/// # Errors
/// When it cannot be listed.
pub(super) fn entries(parent: &Path) -> Result<Vec<PathBuf>, Reason> {
    let listed = fs::read_dir(parent).map_err(cannot("list", parent))?;
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// Whether a small image can be made, mounted and taken away: the one proof that counts.
///
/// # Errors
/// Which step failed.
pub(super) async fn try_image(places: &Places, door: &dyn Door) -> Result<(), Reason> {
    let home = places.volume_on_trial();
    let mut tried = Ok(());
    for step in Images.make(&home, TRIAL_BYTES)? {
        if tried.is_ok() {
            tried = door.carry_out(&step).await;
        }
    }
    if tried.is_ok() {
        tried = mount_once(&home, door).await;
    }
    let mut away = Images.release(&home);
    away.push(Step::Delete { path: home.root().to_owned() });
    for step in away {
        let gone = door.carry_out(&step).await;
        tried = tried.and(gone);
    }
    tried
}

async fn mount_once(home: &crate::execute::places::Home, door: &dyn Door) -> Result<(), Reason> {
    let world = World::read(Images.kind(), home.root(), door).await?;
    let look = Images.look(home, &world)?;
    let wish = Wish { bytes: look.bytes, uid: 0, gid: 0 };
    for step in Images.mend(home, &look, wish, &world)? {
        door.carry_out(&step).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, file: &str, frees_itself: bool) -> LoopDevice {
        let number = name.trim_start_matches("loop");
        LoopDevice {
            name: name.to_owned(),
            device: format!("7:{number}").parse().unwrap(),
            file: PathBuf::from(file),
            deleted: false,
            bytes: 0,
            frees_itself,
        }
    }

    #[test]
    fn what_is_half_made_goes_and_what_is_whole_stays() {
        let places = Places::under(Path::new("/d"), Path::new("/r"));
        let bot = "dep_00000000000000000000000000000001";
        let table = format!(
            "1 0 7:0 / /d/volumes/{bot}/mount rw - ext4 x rw\n\
             2 0 7:1 / /d/volumes/.making/{bot}@one/mount rw - ext4 x rw\n\
             3 0 7:1 / /d/volumes/.making/{bot}@one/mount/x rw - ext4 x rw\n\
             4 0 7:9 / /d/volumes/.makings rw - ext4 x rw\n"
        );
        let loops = [
            device("loop0", &format!("/d/volumes/{bot}/image"), false),
            device("loop1", &format!("/d/volumes/.making/{bot}@one/image"), true),
            device("loop2", &format!("/d/trash/{bot}-0/image"), true),
            // Somebody attached it by hand and went away; with a bot in it elsewhere it would free itself.
            device("loop3", "/d/volumes/dep_00000000000000000000000000000002/image", false),
            device("loop4", "/d/volumes/dep_00000000000000000000000000000003/image", true),
            device("loop5", "/elsewhere/image", false),
        ];
        let half_made = vec![PathBuf::from(format!("/d/volumes/.making/{bot}@one"))];
        let steps = steps(&places, &mounts::parse(table.as_bytes()), &loops, half_made);
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            steps,
            [
                format!("unmount /d/volumes/.making/{bot}@one/mount/x"),
                format!("unmount /d/volumes/.making/{bot}@one/mount"),
                format!("free_loop /d/trash/{bot}-0/image"),
                format!("free_loop /d/volumes/.making/{bot}@one/image"),
                "free_loop /d/volumes/dep_00000000000000000000000000000002/image".to_owned(),
                format!("delete /d/volumes/.making/{bot}@one"),
            ]
        );
    }
}
