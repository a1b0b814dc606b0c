//! What a process is and may: its user, its capabilities, what filters its calls.

use std::collections::BTreeSet;

use launchpad_protocol::capability::{APPARMOR, SECCOMP, USERNS_REMAP};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::enforcement::Item;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::Seccomp;

use super::{Case, Finding, Mend};
use crate::observe::kernel::{CORE_BYTES_MAX, Capabilities, Ceiling, IdMap};

/// The kernel's number for a filter, in `/proc/PID/status`.
const SECCOMP_FILTER: u32 = 2;

impl Case<'_> {
    pub(super) fn user(&self) -> Finding {
        let (process, asked) = (&self.kernel.process, &self.spec.process);
        let users = inside(&process.user_map, &process.users);
        let groups = inside(&process.group_map, &process.groups);
        let more = inside(&process.group_map, &process.more_groups);
        let own_group: BTreeSet<u32> = [asked.gid].into();
        let is_right = users == Some([asked.uid].into())
            && groups.as_ref() == Some(&own_group)
            && more.is_some_and(|more| more.is_subset(&own_group))
            && !process.users.contains(&0);
        let seen = format!("uid {}, gid {} on the host", list(&process.users), list(&process.groups));
        let asked = format!("uid {}, gid {}", asked.uid, asked.gid);
        Finding::compare(Item::User, is_right, seen, asked, Mend::Start)
    }

    pub(super) fn user_namespace(&self) -> Finding {
        let process = &self.kernel.process;
        let seen = format!("uid_map {}", process.user_map);
        if !process.user_map.is_the_hosts() && !process.group_map.is_the_hosts() && self.is_apart("user") {
            return Finding::holds(seen);
        }
        if let Some(reason) = self.host.absent(USERNS_REMAP) {
            return Finding::lacks(seen, reason.clone());
        }
        Finding::made_otherwise(Item::UserNamespace, seen, "ids that are not the host's")
    }

    pub(super) fn capabilities(&self) -> Finding {
        let Capabilities { inheritable, permitted, effective, bounding, ambient } = self.kernel.process.capabilities;
        let asked = Capabilities::bits(&self.spec.isolation.capabilities);
        let beyond = (inheritable | permitted | effective | ambient) & !asked;
        let seen = format!("CapBnd {bounding:016x}, CapEff {effective:016x}");
        let is_right = bounding == asked && beyond == 0;
        Finding::compare(Item::Capabilities, is_right, seen, format!("{asked:016x}"), Mend::Start)
    }

    pub(super) fn no_new_privileges(&self) -> Finding {
        let set = self.kernel.process.no_new_privileges;
        let seen = format!("NoNewPrivs {}", u8::from(set));
        let is_right = set || !self.spec.isolation.no_new_privileges;
        Finding::compare(Item::NoNewPrivileges, is_right, seen, "1", Mend::Start)
    }

    /// The kernel tells that a filter is there, and not which: that it is ours the engine has to vouch for.
    pub(super) fn seccomp(&self) -> Finding {
        let process = &self.kernel.process;
        let asked = match &self.spec.isolation.seccomp {
            Seccomp::EngineDefault => None,
            Seccomp::Profile(json) => Some(Digest::of(json.as_bytes())),
        };
        let filters = process.seccomp_mode == SECCOMP_FILTER && process.seccomp_filters > 0;
        let whose = if self.container.seccomp.is_some() { "our profile" } else { "the engine's profile" };
        let seen = format!("mode {}, {} filters, {whose}", process.seccomp_mode, process.seccomp_filters);
        match self.host.absent(SECCOMP).filter(|_| !filters) {
            Some(reason) => Finding::lacks(seen, reason.clone()),
            None => {
                let is_right = filters && self.container.seccomp == asked;
                Finding::compare(Item::Seccomp, is_right, seen, "mode 2 and the profile of the spec", Mend::Start)
            }
        }
    }

    pub(super) fn apparmor(&self) -> Finding {
        let found = self.kernel.process.confinement.as_deref();
        let seen = found.unwrap_or("no AppArmor").to_owned();
        if let Some(reason) = self.host.absent(APPARMOR) {
            return Finding::lacks(seen, reason.clone());
        }
        // Without a wish of the spec, the engine's own profile is as good.
        let asked = self.spec.isolation.apparmor.as_deref();
        let enforced = found.and_then(|found| found.strip_suffix(" (enforce)"));
        let is_right = enforced.is_some_and(|enforced| asked.is_none_or(|asked| asked == enforced));
        let asked = asked.unwrap_or("a profile that is enforced").to_owned();
        Finding::compare(Item::Apparmor, is_right, seen, asked, Mend::Start)
    }

    pub(super) fn open_files(&self) -> Finding {
        let (found, asked) = (self.kernel.process.open_files, u64::from(self.spec.isolation.open_files));
        let seen = format!("nofile {found}");
        Finding::compare(Item::OpenFiles, found == Ceiling::At(asked), seen, asked.to_string(), Mend::Start)
    }

    /// Whether it would write its memory, and the secrets in it, to the host's disk when it crashes. No bytes at all are as
    /// good where the host does not hand dumps to a program: a container from before we asked for one byte has that.
    pub(super) fn dumps_core(&self) -> Option<Reason> {
        let found = self.kernel.process.core_bytes;
        let is_right = matches!(found, Ceiling::At(bytes) if bytes <= u64::from(CORE_BYTES_MAX));
        (!is_right).then(|| {
            Reason::new("core-dumps", "its memory, secrets included, would be written to disk when it crashes")
                .because(format!("its limit for core dumps is {found}"))
        })
    }
}

/// What those ids are inside; none: one of them is nobody's there.
fn inside(map: &IdMap, outside: &BTreeSet<u32>) -> Option<BTreeSet<u32>> {
    outside.iter().map(|id| map.inside(*id)).collect()
}

fn list(ids: &BTreeSet<u32>) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(" ")
}
