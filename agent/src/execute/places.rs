//! Where things of an instance lie on the host: paths and names only, no I/O.
//!
//! The map below is of both directories, and names who else keeps something there; what has no name behind it
//! is an instance's, and found by a function of [`Places`].
//!
//! ```text
//! data_dir/volumes/<deployment>/                its volume, there only when whole          volume.rs
//! ├─ image | tree                               what holds it: an ext4, or a tree with a project quota
//! ├─ mount/data                                 its state; there only while mounted
//! └─ snapshots/<name>/image | tree, meta        a copy of it, there only when whole
//! data_dir/volumes/.making/<deployment>…        a volume or a copy, half made
//! data_dir/volumes/backend                      which kind of volume this host has
//! data_dir/volumes/.at-work                     locked while a program works on a volume
//! data_dir/trash/<deployment>-<n>               a volume or a copy, half destroyed
//! data_dir/addresses                            who has which subnet and address           network.rs
//! data_dir/spec, marks                          the accepted spec, and its floors          ledger.rs
//! data_dir/book/                                what can be rebuilt: starts, exits         book.rs
//! data_dir/identity, sealing.key, pending.key   who this host is, or asks to be            identity.rs
//! data_dir/agent.lock                           one agent at a time                        local/lock.rs
//! data_dir/gate, gate.lock                      what the gate was told; one gate at a time gate/state.rs
//! run_dir/files/<deployment>/<dir-key>/<name>   its unsealed files, on a tmpfs of ours
//! run_dir/files/<deployment>/.set               which set of files that is
//! run_dir/resolv/<deployment>/resolv.conf       its /etc/resolv.conf
//! run_dir/agent.sock                            what `status`, `plan`, `stop` talk to      local.rs
//! run_dir/gate.sock                             what the agent talks to                    gate/talk.rs
//! ```

use std::path::{Path, PathBuf};

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{AccountId, DeploymentId};

/// The two directories that the agent was given.
#[derive(Debug, Clone)]
pub struct Places {
    data_dir: PathBuf,
    run_dir: PathBuf,
}

impl Places {
    /// Under those two.
    #[must_use]
    pub fn under(data_dir: &Path, run_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), run_dir: run_dir.to_owned() }
    }

    /// The same, with the first directory under another name.
    #[must_use]
    pub fn with_data_dir(self, data_dir: PathBuf) -> Self {
        Self { data_dir, ..self }
    }

    /// What the agent keeps.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// All instances' volumes.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.data_dir.join("volumes")
    }

    /// One instance's volume with all that belongs to it.
    #[must_use]
    pub fn volume(&self, deployment: DeploymentId) -> Home {
        Home(self.volumes().join(deployment.to_string()))
    }

    /// One instance's data: what is mounted into its container.
    #[must_use]
    pub fn volume_data(&self, deployment: DeploymentId) -> PathBuf {
        self.volume(deployment).data()
    }

    /// Where volumes and copies of them are made.
    #[must_use]
    pub fn making(&self) -> PathBuf {
        self.volumes().join(".making")
    }

    /// Where a volume is made before it is put in place whole.
    #[must_use]
    pub fn volume_in_the_making(&self, deployment: DeploymentId) -> Home {
        Home(self.making().join(deployment.to_string()))
    }

    /// Where it is tried whether this host can have volumes at all.
    #[must_use]
    pub fn volume_on_trial(&self) -> Home {
        Home(self.making().join(".trial"))
    }

    /// Where a snapshot is made before it is put in place whole.
    #[must_use]
    pub fn snapshot_in_the_making(&self, deployment: DeploymentId, name: &str) -> Home {
        Home(self.making().join(format!("{deployment}@{name}")))
    }

    /// Where a volume is made from a snapshot before it takes the volume's place.
    #[must_use]
    pub fn restore_in_the_making(&self, deployment: DeploymentId) -> Home {
        Home(self.making().join(format!("{deployment}+restore")))
    }

    /// Locked by every program that works on a volume, until it ends.
    #[must_use]
    pub fn at_work(&self) -> PathBuf {
        self.volumes().join(".at-work")
    }

    /// Where a volume goes before it is destroyed.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.data_dir.join("trash")
    }

    /// All instances' unsealed files: a tmpfs.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.run_dir.join("files")
    }

    /// One instance's unsealed files.
    #[must_use]
    pub fn files_of(&self, deployment: DeploymentId) -> PathBuf {
        self.files().join(deployment.to_string())
    }

    /// Those of its files that are mounted at one directory of its container.
    #[must_use]
    pub fn files_at(&self, deployment: DeploymentId, container_dir: &str) -> PathBuf {
        self.files_of(deployment).join(dir_key(container_dir))
    }

    /// Says which set of files is written; itself written last.
    #[must_use]
    pub fn files_marker(&self, deployment: DeploymentId) -> PathBuf {
        self.files_of(deployment).join(".set")
    }

    /// One instance's resolver configuration.
    #[must_use]
    pub fn resolv_conf(&self, deployment: DeploymentId) -> PathBuf {
        self.run_dir.join("resolv").join(deployment.to_string()).join("resolv.conf")
    }
}

/// The directory of one volume, or of one snapshot: in its place, in the making or in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The file that holds an ext4.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.0.join("image")
    }

    /// The folder that has a project quota.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }

    /// Where the one or the other is mounted.
    #[must_use]
    pub fn mount(&self) -> PathBuf {
        self.0.join("mount")
    }

    /// The bot's data: one level down, so that it never sees `lost+found`; there only while mounted, so that
    /// no bot ever writes into the host's own filesystem.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.mount().join("data")
    }

    /// The volume's snapshots.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    /// One of them.
    #[must_use]
    pub fn snapshot(&self, name: &str) -> Self {
        Self(self.snapshots().join(name))
    }
}

/// A directory of the container as one path part of the host.
#[must_use]
pub fn dir_key(container_dir: &str) -> String {
    Digest::of(container_dir.as_bytes()).short()
}

/// Hex digits of an id that go into a name on the host. An interface's name has 15 characters (IFNAMSIZ, with
/// its final zero), two of which say that it is ours.
const NAME_DIGITS: usize = 12;

/// The random end of an id: its front is the time, which two ids may share.
fn tail(simple: &str) -> &str {
    simple.get(simple.len().saturating_sub(NAME_DIGITS)..).unwrap_or(simple)
}

/// The name of a tenant's Docker network.
#[must_use]
pub fn network_name(account: AccountId) -> String {
    format!("lp-{}", tail(&account.to_string()))
}

/// The name of a tenant's bridge.
#[must_use]
pub fn bridge_name(account: AccountId) -> String {
    format!("lp{}", tail(&account.to_string()))
}

/// The name of an instance's container: what its owner calls it, and enough of its id to be the only one.
#[must_use]
pub fn container_name(name: &str, deployment: DeploymentId) -> String {
    format!("lp-{name}-{}", tail(&deployment.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_millisecond_get_different_names_that_fit() {
        let one: AccountId = "acct_0198c2aa00007000800000000000000a".parse().unwrap();
        let other: AccountId = "acct_0198c2aa00007000800000000000000b".parse().unwrap();
        assert_ne!(bridge_name(one), bridge_name(other));
        assert_eq!(bridge_name(one), "lp00000000000a");
        assert!(bridge_name(one).len() <= 15);
    }
}
