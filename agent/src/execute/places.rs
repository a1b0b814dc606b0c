//! Where things of an instance lie on the host: paths and names only, no I/O.
//!
//! The map below is of both directories, and names who else keeps something there; what has no name behind it is an
//! instance's, and found by a function of [`Places`].
//!
//! ```text
//! data_dir/volumes/<deployment>/data            its state; there only when whole
//! data_dir/volumes/.making/<deployment>         its state, half made
//! data_dir/trash/<deployment>-<n>               its state, half destroyed
//! data_dir/addresses                            who has which subnet and address           network.rs
//! data_dir/spec, marks                          the accepted spec, and its floors          ledger.rs
//! data_dir/book/                                what can be rebuilt: starts, exits         book.rs
//! data_dir/identity, sealing.key, pending.key   who this host is, or asks to be            identity.rs
//! data_dir/agent.lock                           one agent at a time                        local/lock.rs
//! run_dir/files/<deployment>/<dir-key>/<name>   its unsealed files, on a tmpfs of ours
//! run_dir/files/<deployment>/.set               which set of files that is
//! run_dir/resolv/<deployment>/resolv.conf       its /etc/resolv.conf
//! run_dir/agent.sock                            what `status`, `plan`, `stop` talk to      local.rs
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

    /// One instance's volume with what surrounds it.
    #[must_use]
    pub fn volume(&self, deployment: DeploymentId) -> PathBuf {
        self.volumes().join(deployment.to_string())
    }

    /// One instance's data: what is mounted into its container.
    #[must_use]
    pub fn volume_data(&self, deployment: DeploymentId) -> PathBuf {
        self.volume(deployment).join("data")
    }

    /// Where a volume is made before it is put in place whole.
    #[must_use]
    pub fn volume_in_the_making(&self, deployment: DeploymentId) -> PathBuf {
        self.volumes().join(".making").join(deployment.to_string())
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
