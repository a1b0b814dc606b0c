//! Where the control groups of tenants are, and what they are called.
//!
//! The engine makes a group for each container; above those of one tenant lies a group of the tenant's own, which
//! `tenant.rs` shapes and `kernel.rs` reads. Only names here, and the end of a group.
//!
//! ```text
//! v1, cgroupfs   /sys/fs/cgroup/{memory,cpu,pids,…}/launchpad/ACCOUNT/CONTAINER
//! v2, cgroupfs   /sys/fs/cgroup/launchpad/ACCOUNT/CONTAINER
//! v2, systemd    /sys/fs/cgroup/launchpad.slice/launchpad-ACCOUNT.slice/docker-CONTAINER.scope
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;

use super::ExecuteError;
use super::facts::CgroupDriver;

/// Where the kernel shows control groups.
pub const ROOT: &str = "/sys/fs/cgroup";

/// The group above those of all tenants.
const PARENT: &str = "launchpad";

/// Parts of a core that limits are counted in.
pub const MILLIS_PER_CORE: u32 = 1000;

/// What the engine calls a tenant's group: a path, or a slice; none where it makes no groups.
#[must_use]
pub fn name(account: AccountId, driver: CgroupDriver) -> Option<String> {
    match driver {
        CgroupDriver::Cgroupfs => Some(format!("/{PARENT}/{account}")),
        // In a slice's name a dash is a level: this one lies in launchpad.slice.
        CgroupDriver::Systemd => Some(format!("{PARENT}-{account}.slice")),
        CgroupDriver::None => None,
    }
}

/// A tenant's group below the root of a hierarchy.
#[must_use]
pub fn below_root(account: AccountId, driver: CgroupDriver) -> Option<PathBuf> {
    match driver {
        CgroupDriver::Cgroupfs => Some(Path::new(PARENT).join(account.to_string())),
        CgroupDriver::Systemd => Some(Path::new(&format!("{PARENT}.slice")).join(name(account, driver)?)),
        CgroupDriver::None => None,
    }
}

/// Removes a tenant's own group below that root, which the engine leaves behind when the last container in it is gone.
/// Only for groups that are folders of ours: systemd is asked to end a slice (`tenant.rs`).
///
/// # Errors
/// `Passing` when the kernel refuses, because something is still in it: the group stays as long as nobody comes again.
pub fn remove(root: &Path, account: AccountId) -> Result<(), ExecuteError> {
    let below = Path::new(PARENT).join(account.to_string());
    let hierarchies = fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for group in hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&below)) {
        match fs::remove_dir(&group) {
            Ok(()) => {}
            // Gone already; or no group was ever here, because what lies at the root is a file of the kernel's.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(ExecuteError::Passing(still_there(&group, &error))),
        }
    }
    Ok(())
}

fn still_there(group: &Path, error: &std::io::Error) -> Reason {
    Reason::new("control-group-stays", format!("cannot remove the group {}", group.display()))
        .because(error.to_string())
        .mend("it is tried again; if it stays, see which processes and groups in it are not the engine's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_group_is_a_path_or_a_slice_within_launchpads() {
        let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
        assert_eq!(name(account, CgroupDriver::Cgroupfs), Some(format!("/launchpad/{account}")));
        assert_eq!(below_root(account, CgroupDriver::Cgroupfs), Some(format!("launchpad/{account}").into()));
        assert_eq!(name(account, CgroupDriver::Systemd), Some(format!("launchpad-{account}.slice")));
        let slice = format!("launchpad.slice/launchpad-{account}.slice");
        assert_eq!(below_root(account, CgroupDriver::Systemd), Some(slice.into()));
        assert_eq!(name(account, CgroupDriver::None), None);
    }

    #[test]
    fn a_group_is_removed_from_every_hierarchy_and_one_that_is_in_use_is_told_of_until_it_is_not() {
        let root = tempfile::tempdir().unwrap();
        let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
        let group = |hierarchy: &str| root.path().join(hierarchy).join(PARENT).join(account.to_string());
        let used = group("pids").join("container");
        for folder in [group("cpu"), group("memory"), used.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        // What the kernel shows beside the groups, and a hierarchy in which no tenant ever was.
        fs::write(root.path().join("cgroup.procs"), "").unwrap();
        fs::create_dir(root.path().join("devices")).unwrap();

        let Err(ExecuteError::Passing(reason)) = remove(root.path(), account) else { panic!("it is in use") };
        assert_eq!(reason.code, "control-group-stays");
        assert!(reason.to_string().contains(&group("pids").display().to_string()), "{reason}");
        assert!(reason.mend.is_some(), "{reason}");

        fs::remove_dir(used).unwrap();
        for _ in ["once", "twice"] {
            remove(root.path(), account).unwrap();
        }
        assert!(["cpu", "memory", "pids"].iter().all(|hierarchy| !group(hierarchy).exists()));
    }
}
