//! What may be seen: the kernel's secrets, the host's files and sockets, other tenants, and its own secrets
//! in places where others could see them.
//!
//! Reading is not writing: nothing in this room changes anything.

mod canaries;
mod leaks;
mod own;

use std::fs;
use std::path::{Path, PathBuf};

use crate::attack::Attack;

/// The attacks of this room.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "other-tenants", aim: "hunts for texts that belong to others", run: canaries::hunt },
    Attack { name: "other-processes", aim: "looks for processes that are not its own", run: leaks::processes },
    Attack { name: "kernel-files", aim: "reads what /proc and /sys keep from containers", run: leaks::kernel_files },
    Attack { name: "kernel-addresses", aim: "reads where the kernel lies", run: leaks::kernel_addresses },
    Attack { name: "devices", aim: "opens the machine's devices", run: leaks::devices },
    Attack { name: "host-sockets", aim: "speaks to the host's daemons", run: leaks::host_sockets },
    Attack { name: "cgroups", aim: "looks out of its cgroup", run: leaks::cgroups },
    Attack {
        name: "secrets-on-show",
        aim: "finds its secrets in environments and arguments",
        run: own::secrets_on_show,
    },
    Attack { name: "core-dump", aim: "leaves its memory behind in a core dump", run: own::core_dump },
];

/// Folders of a root that a walk leaves out: they hold the kernel's own files, and are looked into one by
/// one.
const KERNEL_TREES: [&str; 2] = ["proc", "sys"];
/// Files that a walk looks at, at most: an image has a few hundred, a host's root would have too many.
const WALK_LIMIT: usize = 20_000;
/// Folders within folders that a walk follows.
const WALK_DEPTH: usize = 12;

/// The effective user id of this process, as the kernel shows it; empty if it does not.
pub(crate) fn effective_uid() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_ascii_whitespace().nth(1)).unwrap_or_default().to_owned()
}

/// Every file below `root` that is no folder, links not followed, without `proc` and `sys` in it.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    walk(root).into_iter().filter(|(_, folder)| !folder).map(|(path, _)| path).collect()
}

/// Every folder at and below `root`, likewise.
pub(crate) fn folders_below(root: &Path) -> Vec<PathBuf> {
    let below = walk(root).into_iter().filter(|(_, folder)| *folder).map(|(path, _)| path);
    [root.to_owned()].into_iter().chain(below).collect()
}

/// Path, and whether it is a folder.
fn walk(root: &Path) -> Vec<(PathBuf, bool)> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let path = entry.path();
            if KERNEL_TREES.iter().any(|tree| path == root.join(tree)) {
                continue;
            }
            if is_folder && depth < WALK_DEPTH {
                folders.push((path.clone(), depth + 1));
            }
            if found.len() == WALK_LIMIT {
                return found;
            }
            found.push((path, is_folder));
        }
    }
    found
}

/// The ids of the processes that it sees.
fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// Whether `needle` stands in `hay`.
fn holds(hay: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && hay.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_is_found_wherever_it_stands_and_an_empty_one_nowhere() {
        assert!(holds(b"abc", b"c") && holds(b"abc", b"ab") && holds(b"abc", b"abc"));
        assert!(!holds(b"abc", b"abcd") && !holds(b"abc", b"x") && !holds(b"abc", b""));
    }

    #[test]
    fn a_walk_sees_files_and_folders_and_follows_no_link() {
        let root = std::env::temp_dir().join(format!("hostile-walk-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/", root.join("a/out")).unwrap();
        let (mut files, mut folders) = (files_below(&root), folders_below(&root));
        fs::remove_dir_all(&root).unwrap();
        files.sort();
        folders.sort();
        assert_eq!(files, [root.join("a/b/file"), root.join("a/out")]);
        assert_eq!(folders, [root.clone(), root.join("a"), root.join("a/b")]);
    }
}
