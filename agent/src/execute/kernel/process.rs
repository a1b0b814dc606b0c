//! One process: who it is, what it may, what keeps it apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::text;
use crate::observe::kernel::{Capabilities, Ceiling, IdMap, IdRange, ProcessView};

/// The kinds of namespace that a container has for itself. That of time is everybody's, and moves no clock of the host.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// Where in `/proc/PID/stat`, counted from the state, the start stands: field 22 of proc(5), the state being field 3.
const START_AFTER_STATE: usize = 22 - 3;

/// When a process started, in the kernel's ticks since the boot: with its id, what tells it from every other.
pub(super) fn started(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything, a parenthesis too.
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_ascii_whitespace().nth(START_AFTER_STATE)?.parse().ok()
}

/// All that `/proc` shows of a process, beside the agent's own: what it shares with that, it shares with the host.
pub(super) fn read(process: &Path, host: &Path) -> Option<ProcessView> {
    let status = text(process, "status")?;
    let limits = text(process, "limits")?;
    let mut view = from_status(&status)?;
    view.user_map = id_map(&text(process, "uid_map")?)?;
    view.group_map = id_map(&text(process, "gid_map")?)?;
    view.open_files = hard_limit(&limits, "Max open files")?;
    view.core_bytes = hard_limit(&limits, "Max core file size")?;
    // A kernel without such a module answers with an error.
    view.confinement = text(process, "attr/current").map(|name| name.trim_end_matches(['\0', '\n']).to_owned());
    view.shared_namespaces = shared_namespaces(process, host)?;
    Some(view)
}

fn shared_namespaces(process: &Path, host: &Path) -> Option<BTreeSet<String>> {
    let mut shared = BTreeSet::new();
    for kind in NAMESPACES {
        let of = |process: &Path| fs::read_link(process.join("ns").join(kind)).ok();
        let hosts = of(host);
        // What the kernel cannot have apart is shared by all.
        if hosts.is_none() || of(process)? == hosts? {
            shared.insert(kind.to_owned());
        }
    }
    Some(shared)
}

fn from_status(status: &str) -> Option<ProcessView> {
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let ids = |name: &str| -> Option<BTreeSet<u32>> {
        field(name)?.split_ascii_whitespace().map(|id| id.parse().ok()).collect()
    };
    let bits = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    Some(ProcessView {
        users: ids("Uid")?,
        groups: ids("Gid")?,
        more_groups: ids("Groups")?,
        capabilities: Capabilities {
            inheritable: bits("CapInh")?,
            permitted: bits("CapPrm")?,
            effective: bits("CapEff")?,
            bounding: bits("CapBnd")?,
            ambient: bits("CapAmb")?,
        },
        no_new_privileges: field("NoNewPrivs")? == "1",
        seccomp_mode: field("Seccomp")?.parse().ok()?,
        // Kernels before 5.9 do not count them: a mode of 2 is one at least.
        seccomp_filters: field("Seccomp_filters").map_or(Some(1), |count| count.parse().ok())?,
        ..ProcessView::default()
    })
}

/// A row of `/proc/PID/limits`: name, soft limit, hard limit, unit, in columns of blanks.
fn hard_limit(limits: &str, name: &str) -> Option<Ceiling> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match row.split_ascii_whitespace().nth(1)? {
        "unlimited" => Some(Ceiling::Open),
        number => number.parse().ok().map(Ceiling::At),
    }
}

fn id_map(map: &str) -> Option<IdMap> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        Some(IdRange { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
    };
    Some(IdMap { ranges: map.lines().map(range).collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_hide_when_a_process_started() {
        assert_eq!(started(include_str!("recorded/stat.txt")), Some(1_420_346));
        assert_eq!(started("7 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0"), Some(99));
        assert_eq!(started("7 (cut off"), None);
        assert_eq!(started("7 (short) S 1 1"), None);
    }

    #[test]
    fn a_confined_process_shows_no_capability_and_a_filter() {
        let view = from_status(include_str!("recorded/status.txt")).unwrap();
        assert_eq!((view.users, view.groups), ([1000].into(), [1000].into()));
        assert_eq!(view.capabilities, Capabilities::default());
        assert_eq!((view.no_new_privileges, view.seccomp_mode, view.seccomp_filters), (true, 2, 1));
    }

    #[test]
    fn a_status_that_lacks_a_line_gives_nothing_rather_than_a_zero() {
        let status = include_str!("recorded/status.txt");
        for line in ["Uid", "Gid", "Groups", "CapBnd", "NoNewPrivs", "Seccomp:"] {
            let without: String =
                status.lines().filter(|have| !have.starts_with(line)).map(|l| format!("{l}\n")).collect();
            assert_eq!(from_status(&without), None, "without {line}");
        }
        let odd = status.replace("CapBnd:\t0000000000000000", "CapBnd:\tnone");
        assert_eq!(from_status(&odd), None);
    }

    #[test]
    fn an_old_kernel_that_does_not_count_filters_has_one() {
        let status = include_str!("recorded/status.txt").replace("Seccomp_filters:\t1\n", "");
        assert_eq!(from_status(&status).unwrap().seccomp_filters, 1);
    }

    #[test]
    fn hard_limits_are_read_from_their_column() {
        let limits = include_str!("recorded/limits.txt");
        assert_eq!(hard_limit(limits, "Max open files"), Some(Ceiling::At(1024)));
        assert_eq!(hard_limit(limits, "Max core file size"), Some(Ceiling::At(0)));
        assert_eq!(hard_limit(limits, "Max stack size"), Some(Ceiling::Open));
        assert_eq!(hard_limit(limits, "Max dreams"), None);
    }

    #[test]
    fn remapped_ids_are_told_from_the_hosts() {
        let hosts = id_map("         0          0 4294967295\n").unwrap();
        assert!(hosts.is_the_hosts());
        assert_eq!(hosts.inside(1000), Some(1000));
        let remapped = id_map("         0     200000      65536\n").unwrap();
        assert!(!remapped.is_the_hosts());
        assert_eq!(
            (remapped.inside(201_000), remapped.inside(1000), remapped.inside(265_536)),
            (Some(1000), None, None)
        );
        assert_eq!(remapped.to_string(), "0 200000 65536");
        assert_eq!(id_map("0 1\n"), None);
    }
}
