//! Config and secrets, unsealed onto a tmpfs of ours and mounted read-only into the container as whole
//! directories.
//!
//! `docker.rs` calls [`FileStore`]. All files of a set are opened before the first is written, so that a seal
//! that does not open changes nothing. Each file that changed is replaced by a rename: a running bot sees the old one or
//! the new one, never half, and of the others nothing. The marker that names the set is written last. What is unsealed is never logged
//! and never on a disk. An agent that stops leaves the tmpfs mounted: bots run on, and have it mounted; it goes with
//! the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;

use launchpad_pki::sealing::{SealContext, SealingKey};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{InstanceSpec, SealedFile};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use zeroize::Zeroizing;

use super::ExecuteError;
use super::places::{Places, dir_key};
use crate::plan::action::files_digest;

/// Bytes of the tmpfs: a thousand configs of openclaw's size. A full one fails one bot's update, not the
/// host's memory.
const TMPFS_BYTES: u64 = 64 * 1024 * 1024;
/// Others pass through to the directory that they own.
const PASSAGE_MODE: u32 = 0o711;
/// A bot may list and enter its own directories.
const DIR_MODE: u32 = 0o500;
/// openclaw refuses secrets that anyone but its own user can read.
const FILE_MODE: u32 = 0o400;

/// Where a file is written before it is renamed into the directory that the bot sees.
const FRESH: &str = ".fresh";

/// Unsealed files of all instances.
#[derive(Debug, Clone)]
pub struct FileStore {
    places: Places,
    host: HostId,
    key: Arc<SealingKey>,
}

impl FileStore {
    /// Under those places, opened with that key.
    #[must_use]
    pub const fn new(places: Places, host: HostId, key: Arc<SealingKey>) -> Self {
        Self { places, host, key }
    }

    /// Sees that the files' directory is a tmpfs. One that is there is kept: running bots have it mounted.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn open(&self) -> Result<(), Reason> {
        let root = self.places.files();
        let step = |step: &'static str| {
            let root = root.clone();
            move |error: io::Error| failed(step, &root, &error)
        };
        fs::DirBuilder::new().recursive(true).mode(PASSAGE_MODE).create(&root).map_err(step("make"))?;
        let kind = statfs(&root).map_err(|errno| failed("look at", &root, &errno.into()))?.filesystem_type();
        if kind != TMPFS_MAGIC || !is_mount_point(&root) {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            let options = format!("size={TMPFS_BYTES},mode={PASSAGE_MODE:o}");
            mount(Some("launchpad-files"), &root, Some("tmpfs"), flags, Some(options.as_str()))
                .map_err(|errno| failed("mount a tmpfs on", &root, &errno.into()).mend("run the agent as root"))?;
        }
        Ok(())
    }

    /// Opens one sealed value.
    ///
    /// # Errors
    /// `seal-broken`, naming the file and never its content.
    pub fn unseal(&self, deployment: DeploymentId, file: &SealedFile) -> Result<Zeroizing<Vec<u8>>, ExecuteError> {
        let context = SealContext { host: self.host, deployment, file: file.name.clone(), version: file.version.0 };
        self.key.open(&context, &file.ciphertext).map_err(|error| {
            ExecuteError::Refused(
                Reason::new("seal-broken", format!("`{}` of {deployment} does not open on this host", file.name))
                    .because(error.to_string())
                    .mend("deploy it again, so that the coordinator seals it to this host's key"),
            )
        })
    }

    /// The values of the variables that take a secret.
    ///
    /// # Errors
    /// `seal-broken`, or a secret that is missing or no text.
    pub fn secret_environment(
        &self,
        spec: &InstanceSpec,
    ) -> Result<BTreeMap<String, Zeroizing<String>>, ExecuteError> {
        let value = |(variable, secret): (&String, &String)| {
            let unfit = |what: &str| {
                ExecuteError::Refused(
                    Reason::new("secret-environment", format!("the secret `{secret}` for {variable} {what}"))
                        .mend("set that secret to a text, and deploy again"),
                )
            };
            let file =
                spec.files.iter().find(|file| file.name == *secret).ok_or_else(|| unfit("is not in the spec"))?;
            let bytes = self.unseal(spec.deployment, file)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| unfit("is no text"))?;
            if text.contains('\0') {
                return Err(unfit("holds a zero byte"));
            }
            Ok((variable.clone(), Zeroizing::new(text.to_owned())))
        };
        spec.secret_environment.iter().map(value).collect()
    }

    /// Writes an instance's set of files, owned by that user, and takes away what is not in it.
    ///
    /// # Errors
    /// `Refused` when a seal does not open or a name is no file name; `Passing` when the tmpfs is full.
    pub fn write(&self, spec: &InstanceSpec, uid: u32, gid: u32) -> Result<(), ExecuteError> {
        let deployment = spec.deployment;
        let mut opened = Vec::with_capacity(spec.files.len());
        for file in &spec.files {
            if !is_file_name(&file.name) {
                return Err(ExecuteError::Refused(Reason::new(
                    "file-name",
                    format!("`{}` is no file name", file.name),
                )));
            }
            opened.push((file, self.unseal(deployment, file)?));
        }
        let root = self.places.files_of(deployment);
        let io = |step: &'static str, path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| ExecuteError::Passing(failed(step, &path, &error))
        };
        make_dir(&root, PASSAGE_MODE).map_err(io("make", &root))?;
        for (file, content) in &opened {
            let dir = self.places.files_at(deployment, &file.dir);
            make_dir(&dir, DIR_MODE).map_err(io("make", &dir))?;
            chown(&dir, Some(uid), Some(gid)).map_err(io("give away", &dir))?;
            let path = dir.join(&file.name);
            // One that is right stays: a bot that watches it is not woken for nothing.
            if !is_in_place(&path, content, uid, gid) {
                replace(&root, &path, content, uid, gid).map_err(io("write", &path))?;
            }
        }
        self.take_away_others(spec).map_err(io("tidy", &root))?;
        let marker = self.places.files_marker(deployment);
        let digest = files_digest(&spec.files).to_string();
        replace(&root, &marker, digest.as_bytes(), 0, 0).map_err(io("write", &marker))
    }

    /// Removes an instance's files; none there is as good.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(&self, deployment: DeploymentId) -> Result<(), Reason> {
        let root = self.places.files_of(deployment);
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &root, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Instances whose files are written, with the digest of the set.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all(&self) -> Result<BTreeMap<DeploymentId, Digest>, Reason> {
        let root = self.places.files();
        let entries = fs::read_dir(&root).map_err(|error| failed("list", &root, &error))?;
        let sets = entries.filter_map(|entry| {
            let deployment = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let digest = fs::read_to_string(self.places.files_marker(deployment)).ok()?.parse().ok()?;
            Some((deployment, digest))
        });
        Ok(sets.collect())
    }

    fn take_away_others(&self, spec: &InstanceSpec) -> io::Result<()> {
        let mut wanted: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for file in &spec.files {
            wanted.entry(dir_key(&file.dir)).or_default().insert(&file.name);
        }
        for dir in fs::read_dir(self.places.files_of(spec.deployment))? {
            let dir = dir?;
            let Some(names) = wanted.get(&*dir.file_name().to_string_lossy()) else {
                if dir.file_type()?.is_dir() {
                    fs::remove_dir_all(dir.path())?;
                }
                continue;
            };
            for file in fs::read_dir(dir.path())? {
                let file = file?;
                if !names.contains(&*file.file_name().to_string_lossy()) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Puts a file in place whole. It is made in `root`, which no bot sees.
fn replace(root: &Path, path: &Path, content: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    let fresh = root.join(FRESH);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&fresh)?;
    file.write_all(content)?;
    if (uid, gid) != (0, 0) {
        chown(&fresh, Some(uid), Some(gid))?;
    }
    fs::rename(&fresh, path)
}

/// Whether the file is there already, as it should be.
fn is_in_place(path: &Path, content: &[u8], uid: u32, gid: u32) -> bool {
    let is_ours = |found: fs::Metadata| {
        found.is_file() && (found.mode() & 0o7777, found.uid(), found.gid()) == (FILE_MODE, uid, gid)
    };
    fs::symlink_metadata(path).is_ok_and(is_ours)
        && fs::read(path).map(Zeroizing::new).is_ok_and(|held| held.as_slice() == content)
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Whether something of its own is mounted there: it is on another device than its parent.
fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// One path part that means itself.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

fn failed(step: &str, path: &Path, error: &io::Error) -> Reason {
    let reason = Reason::new("files-failed", format!("cannot {step} {}", path.display())).because(error.to_string());
    if error.kind() == io::ErrorKind::StorageFull {
        return reason.mend(format!("all bots' files share {} MiB: place some on another host", TMPFS_BYTES >> 20));
    }
    reason
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
