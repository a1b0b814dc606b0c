//! An instance's state on disk: for now a folder.
//!
//! `docker.rs` calls these. A volume appears whole, by a rename, and disappears whole, by a rename into the
//! trash, which is then emptied; a crash between leaves nothing that looks like a volume. A bot owns what is
//! inside and may have put symbolic links there: deletion goes by directory handles
//! (`std::fs::remove_dir_all` does not follow links), and nothing else here looks inside.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::Path;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;

use crate::execute::places::Places;
use crate::observe::VolumeSight;

/// Others may pass through to what they own, and may not look.
const PASSAGE_MODE: u32 = 0o711;
/// A bot's data is the bot's alone.
const DATA_MODE: u32 = 0o700;

/// Makes the directories that volumes live in.
///
/// # Errors
/// Which of them could not be made, and why.
pub fn open(places: &Places) -> Result<(), Reason> {
    let making = places.volumes().join(".making");
    for (path, mode) in [(places.volumes(), PASSAGE_MODE), (making, DATA_MODE), (places.trash(), DATA_MODE)] {
        make_dir(&path, mode).map_err(|error| failed("make", &path, &error))?;
    }
    Ok(())
}

/// Sees that an instance has a volume, owned by that user.
///
/// # Errors
/// Which step failed.
pub fn prepare(places: &Places, deployment: DeploymentId, uid: u32, gid: u32) -> Result<(), Reason> {
    let data = places.volume_data(deployment);
    if exists(places, deployment) {
        return chown(&data, Some(uid), Some(gid)).map_err(|error| failed("give away", &data, &error));
    }
    let making = places.volume_in_the_making(deployment).root().to_owned();
    let step = |step: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| failed(step, &path, &error)
    };
    remove_tree(&making).map_err(step("clear", &making))?;
    make_dir(&making, DATA_MODE).map_err(step("make", &making))?;
    chown(&making, Some(uid), Some(gid)).map_err(step("give away", &making))?;
    let volume = places.volume(deployment).mount();
    make_dir(&volume, PASSAGE_MODE).map_err(step("make", &volume))?;
    fs::rename(&making, &data).map_err(step("put in place", &data))?;
    fs::File::open(&volume).and_then(|dir| dir.sync_all()).map_err(step("sync", &volume))
}

/// Destroys an instance's volume.
///
/// # Errors
/// Which step failed. What is left is in the trash, and goes with the next call.
pub fn remove(places: &Places, deployment: DeploymentId) -> Result<(), Reason> {
    let volume = places.volume(deployment).root().to_owned();
    if fs::symlink_metadata(&volume).is_ok() {
        let place = free_place(&places.trash(), deployment);
        fs::rename(&volume, &place).map_err(|error| failed("throw away", &volume, &error))?;
        let volumes = places.volumes();
        fs::File::open(&volumes).and_then(|dir| dir.sync_all()).map_err(|error| failed("sync", &volumes, &error))?;
    }
    empty_trash(places)
}

/// Deletes what was thrown away, also by an agent that died over it.
///
/// # Errors
/// What could not be deleted.
pub fn empty_trash(places: &Places) -> Result<(), Reason> {
    let trash = places.trash();
    let entries = match fs::read_dir(&trash) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("list", &trash, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| failed("list", &trash, &error))?.path();
        remove_tree(&path).map_err(|error| failed("delete", &path, &error))?;
    }
    Ok(())
}

/// Instances that have a volume.
///
/// # Errors
/// When the directory cannot be read.
pub fn all(places: &Places) -> Result<BTreeMap<DeploymentId, VolumeSight>, Reason> {
    let volumes = places.volumes();
    let entries = fs::read_dir(&volumes).map_err(|error| failed("list", &volumes, &error))?;
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<DeploymentId>().ok());
    let sight = || VolumeSight {
        backend: "folder".to_owned(),
        bytes: u64::MAX,
        used_bytes: 0,
        mounted: true,
        flags_right: true,
        snapshots: BTreeMap::new(),
    };
    Ok(ids.filter(|deployment| exists(places, *deployment)).map(|deployment| (deployment, sight())).collect())
}

fn exists(places: &Places, deployment: DeploymentId) -> bool {
    fs::symlink_metadata(places.volume_data(deployment)).is_ok_and(|found| found.is_dir())
}

/// A name in the trash that nothing has: the same deployment may have been placed here before.
fn free_place(trash: &Path, deployment: DeploymentId) -> std::path::PathBuf {
    let names = (0..).map(|n: u32| trash.join(format!("{deployment}-{n}")));
    names.into_iter().find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| trash.join("last"))
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    // The umask may have taken bits away, and an older agent may have chosen others.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Deletes a tree or a file; nothing there is as good.
fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn failed(step: &str, path: &Path, error: &io::Error) -> Reason {
    let reason = Reason::new("volume-failed", format!("cannot {step} {}", path.display())).because(error.to_string());
    let mends = [
        (io::ErrorKind::StorageFull, "free some space on that filesystem"),
        (io::ErrorKind::PermissionDenied, "run the agent as root"),
        (io::ErrorKind::ReadOnlyFilesystem, "remount that filesystem read-write"),
    ];
    match mends.iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, mend)) => reason.mend(*mend),
        None => reason,
    }
}
