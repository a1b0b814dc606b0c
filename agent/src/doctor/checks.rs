//! What a host can enforce, judged from what was found on it, with a mend for each absence. Pure.
//!
//! `doctor.rs` gathers the facts and calls [`capabilities`]. A capability is a promise of ours that the host may be
//! unable to keep, or that we do not keep yet; both are reported, so that nobody relies on it.

use std::collections::BTreeMap;

use launchpad_protocol::capability::{
    APPARMOR, CGROUP_V2, EGRESS_POLICY, LIMITS, LIVE_RESTORE, SECCOMP, USERNS_REMAP, VOLUME_QUOTA,
};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capability;

use crate::execute::facts::EngineFacts;

/// What the findings of [`needs_engine`] hang on.
pub(super) const ENGINE: &str = "engine";

/// What the host can enforce, by name.
#[must_use]
pub(super) fn capabilities(
    engine: Result<&EngineFacts, &Reason>,
    nftables: Result<(), Reason>,
    volumes: Result<&'static str, Reason>,
    gate: Result<(), Reason>,
) -> BTreeMap<String, Capability> {
    let mut found = BTreeMap::new();
    let mut note = |name: &str, capability: Capability| drop(found.insert(name.to_owned(), capability));
    note(ENGINE, engine.map_or_else(|reason| absent(reason.clone()), |_| Capability::Present));
    // The gate writes its rules with nft: without that it keeps nobody.
    note(EGRESS_POLICY, nftables.clone().and(gate).map_or_else(absent, |()| Capability::Present));
    note("nftables", nftables.map_or_else(absent, |()| Capability::Present));
    for check in ENGINE_CHECKS {
        let capability = match engine {
            Err(reason) => absent(reason.clone()),
            Ok(facts) if (check.holds)(facts) => Capability::Present,
            Ok(_) => absent(Reason::new(check.code, check.sentence).mend(check.mend)),
        };
        note(check.name, capability);
    }
    note(VOLUME_QUOTA, volumes.map_or_else(absent, |_| Capability::Present));
    found
}

/// Whether only the engine can tell that.
pub(super) fn needs_engine(name: &str) -> bool {
    ENGINE_CHECKS.iter().any(|check| check.name == name)
}

/// One question to the engine's facts, and what is said where the answer is no.
pub(super) struct Check {
    name: &'static str,
    holds: fn(&EngineFacts) -> bool,
    code: &'static str,
    sentence: &'static str,
    pub(super) mend: &'static str,
}

/// What only the engine can tell.
pub(super) const ENGINE_CHECKS: [Check; 7] = [
    Check {
        name: LIVE_RESTORE,
        holds: |facts| facts.live_restore,
        code: "no-live-restore",
        sentence: "bots die with dockerd",
        mend: "set \"live-restore\": true in /etc/docker/daemon.json, then systemctl reload docker",
    },
    Check {
        name: LIMITS,
        holds: |facts| facts.memory_limit && facts.cpu_quota && facts.pids_limit,
        code: "no-limits",
        sentence: "the kernel does not limit memory, cpu and processes of a container",
        mend: "boot a kernel with the memory, cpu and pids controllers enabled",
    },
    Check {
        name: "swap-limit",
        holds: |facts| facts.swap_limit,
        code: "no-swap-limit",
        sentence: "a bot may swap beyond its memory",
        mend: "boot with swapaccount=1, or without swap",
    },
    Check {
        name: CGROUP_V2,
        holds: |facts| facts.cgroup_v2,
        code: "cgroup-v1",
        sentence: "cgroups are those of version 1: no soft memory limit, no limit of disk traffic and no pressure figures",
        mend: "boot with systemd.unified_cgroup_hierarchy=1",
    },
    Check {
        name: SECCOMP,
        holds: |facts| facts.seccomp,
        code: "no-seccomp",
        sentence: "system calls of bots are not filtered",
        mend: "boot a kernel with seccomp, and use a Docker built with it",
    },
    Check {
        name: APPARMOR,
        holds: |facts| facts.apparmor,
        code: "no-apparmor",
        sentence: "bots run without an AppArmor profile",
        mend: "boot a kernel with AppArmor, and install the apparmor package",
    },
    Check {
        name: USERNS_REMAP,
        holds: |facts| facts.remapped.is_some(),
        code: "no-userns-remap",
        sentence: "user ids of bots are those of the host",
        mend: "on a host that tenants share, while it has no container: `launchpad-agent enroll --configure-docker`, or \
               set \"userns-remap\": \"default\" in /etc/docker/daemon.json, then systemctl restart docker",
    },
];

const fn absent(reason: Reason) -> Capability {
    Capability::Absent { reason }
}
