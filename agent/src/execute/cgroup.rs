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
use std::path::{Path, PathBuf};

use launchpad_protocol::id::AccountId;

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

/// Removes a tenant's own group, which the engine leaves behind when the last container in it is gone. A slice goes by
/// itself. One that is in use stays: the kernel refuses.
pub fn remove(account: AccountId) {
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for hierarchy in hierarchies.chain([PathBuf::from(ROOT)]) {
        // Not there, or not empty: nothing to do in either case.
        let _ = fs::remove_dir(hierarchy.join(PARENT).join(account.to_string()));
    }
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
}
