//! What a host may be able to enforce, by name, and what it has to be able to where tenants share it.
//!
//! An agent finds out and reports ([`crate::report::Capability`], each with its reason and mend where it is absent);
//! `launchpad-agent doctor` says the same before a host has joined. The coordinator places nothing in a shared pool on a
//! host that lacks one of [`SHARED_POOL_NEEDS`], unless the pool accepts that by name.

use std::collections::BTreeMap;

use crate::report::Capability;

/// Limits of cgroup v2: a soft memory limit, weights, pressure figures.
pub const CGROUP_V2: &str = "cgroup-v2";
/// User ids of bots are not those of the host.
pub const USERNS_REMAP: &str = "userns-remap";
/// Bots outlive their engine's daemon.
pub const LIVE_RESTORE: &str = "live-restore";
/// A volume cannot outgrow its plan.
pub const VOLUME_QUOTA: &str = "volume-quota";
/// AppArmor profiles are applied.
pub const APPARMOR: &str = "apparmor";
/// Seccomp filters are applied.
pub const SECCOMP: &str = "seccomp";
/// A bot reaches what its policy allows, and nothing else.
pub const EGRESS_POLICY: &str = "egress-policy";
/// Memory, cpu and processes are limited.
pub const LIMITS: &str = "limits";

/// What keeps one tenant from another, from the host, and from what another was promised.
pub const SHARED_POOL_NEEDS: [&str; 8] =
    [APPARMOR, CGROUP_V2, EGRESS_POLICY, LIMITS, LIVE_RESTORE, SECCOMP, USERNS_REMAP, VOLUME_QUOTA];

/// What a host reports that can do all of it.
#[must_use]
pub fn complete() -> BTreeMap<String, Capability> {
    SHARED_POOL_NEEDS.map(|name| (name.to_owned(), Capability::Present)).into()
}
