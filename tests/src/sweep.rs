//! Removes what a run left behind: processes, containers, mounts, namespaces, cgroups, files.
//!
//! Called by [`crate::lab`] at the end of every run and, for runs that were killed, at the start of the next; by
//! `demo down`. It trusts no record that a crash could have torn: everything that a laboratory starts carries the
//! path of the laboratory's directory in its command line or in its root mount, and that is how it is found. What
//! does not carry that path is never touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::run;
use crate::wait::wait_until;

/// SIGKILL takes effect at once, unless a process waits for a disk.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// For the kernel to let go of a killed process.
const CGROUP_EMPTY_WITHIN: Duration = Duration::from_secs(1);
/// Where every containerd's shims listen, whatever its state folder.
const SHIM_SOCKETS: &str = "/run/containerd/s/";
/// Programs that a laboratory starts. Others that mention its path (an editor, `tail -f`) are a person's.
const OURS: [&str; 11] = [
    "containerd",
    "containerd-shim",
    "runc",
    "dockerd",
    "docker-proxy",
    "docker-registry",
    "postgres",
    "caddy",
    "launchpad-",
    "qemu-system-",
    "ssh",
];

/// Removes everything that belongs to the laboratory in `dir` with this run id, and `dir` itself.
///
/// # Errors
/// When something resists: the error names it, and the rest has been removed.
pub fn sweep(dir: &Path, run_id: &str) -> Result<()> {
    let mut cgroups = kill_processes(dir)?;
    cgroups.extend(recorded_cgroups(dir));
    unmount_below(dir)?;
    remove_namespaces(run_id);
    for cgroup in cgroups {
        remove_empty_cgroup(&cgroup);
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Processes that belong to the laboratory in `dir`.
pub fn processes(dir: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<i32> = pids.filter(|pid| *pid != own && belongs(*pid, dir)).collect();
    found.sort_unstable();
    found
}

/// Kills until nothing is left, because a shim that dies may leave a child behind. Returns the cgroups that the
/// killed processes were in.
fn kill_processes(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut cgroups = BTreeSet::new();
    let what = format!("the processes of {} to end", dir.display());
    wait_until(&what, GONE_WITHIN, || {
        let left = processes(dir);
        for pid in &left {
            cgroups.extend(container_cgroups(*pid));
            remove_shim_socket(*pid);
            // It may have ended by itself since we looked.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Ok(left.is_empty())
    })?;
    Ok(cgroups)
}

/// A killed shim cannot remove its socket, which lies in a folder that all containerds share.
fn remove_shim_socket(pid: i32) {
    let folder = format!("/proc/{pid}/fd");
    let targets =
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes: BTreeSet<String> =
        targets.filter_map(|t| Some(t.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    // Num RefCount Protocol Flags Type St Inode Path; a table for each network namespace.
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    for line in table.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [_, _, _, _, _, _, inode, path] = words[..]
            && inodes.contains(inode)
            && path.starts_with(SHIM_SOCKETS)
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn belongs(pid: i32, dir: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    // A zombie has no command line and waits only for its parent.
    let Ok(command) = fs::read(proc.join("cmdline")) else { return false };
    is_our_command(&command, dir)
        || is_container_of(&fs::read_to_string(proc.join("mountinfo")).unwrap_or_default(), dir)
}

/// Whether one of our programs was started with a path in `dir` among its arguments.
fn is_our_command(command: &[u8], dir: &Path) -> bool {
    let text = String::from_utf8_lossy(command);
    let mut words = text.split('\0');
    let program = words.next().and_then(|word| Path::new(word).file_name()?.to_str()).unwrap_or_default();
    let prefix = format!("{}/", dir.display());
    OURS.iter().any(|ours| program.starts_with(ours))
        && words.any(|word| word.contains(&prefix) || word.ends_with(&*dir.to_string_lossy()))
}

/// Whether the root of this mount table is an overlay whose layers lie in `dir`: then its owner is a container.
fn is_container_of(mountinfo: &str, dir: &Path) -> bool {
    let layers = format!("upperdir={}/", dir.display());
    mountinfo.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&layers))
}

/// Unmounts everything below `dir`, innermost first.
fn unmount_below(dir: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let mut points: Vec<PathBuf> = table.lines().filter_map(mount_point).filter(|p| p.starts_with(dir)).collect();
    points.reverse();
    for point in points {
        match umount2(&point, MntFlags::MNT_DETACH) {
            // Somebody else has just done it: an interrupted laboratory is torn down from two sides.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(error).with_context(|| format!("unmount {}", point.display())),
        }
    }
    Ok(())
}

fn mount_point(line: &str) -> Option<PathBuf> {
    // The kernel writes a space in a path as \040; our own paths have none.
    Some(PathBuf::from(line.split(' ').nth(4)?))
}

fn remove_namespaces(run_id: &str) {
    let prefix = format!("lp-{run_id}-h");
    let names = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names.filter(|name| name.starts_with(&prefix)) {
        // The link first, if it lies in this namespace: a dying process may hold the other end a moment longer.
        let link = format!("lp{run_id}h{}", &name[prefix.len()..]);
        let _ = run(Command::new("ip").args(["link", "delete", &link]));
        let _ = run(Command::new("ip").args(["netns", "delete", &name]));
    }
}

/// The folders of the cgroups of a containerised process, v1 and v2; none for one in the machine's root groups.
fn container_cgroups(pid: i32) -> Vec<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    crate::kernel::cgroup_folders(&table).into_values().collect()
}

/// The folders of the cgroups of every container that an engine in `dir` wrote down: also of one whose start was cut off
/// between its cgroup and its first process.
fn recorded_cgroups(dir: &Path) -> Vec<PathBuf> {
    let folders = |folder: PathBuf| {
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect::<Vec<_>>()
    };
    // h1/data, and images/engine/data while an image is built.
    let homes = folders(dir.to_owned()).into_iter().flat_map(|home| [home.join("engine"), home]);
    let containers = homes.flat_map(|home| folders(home.join("data/containers")));
    let group = |container: PathBuf| {
        let text = fs::read_to_string(container.join("hostconfig.json")).ok()?;
        let config: serde_json::Value = serde_json::from_str(&text).ok()?;
        let parent = config["CgroupParent"].as_str().filter(|parent| !parent.is_empty())?.to_owned();
        Some(Path::new(parent.trim_start_matches('/')).join(container.file_name()?))
    };
    let hierarchies = folders("/sys/fs/cgroup".into());
    containers
        .filter_map(group)
        .flat_map(|group| {
            let below = hierarchies.iter().map(|hierarchy| hierarchy.join(&group));
            below.chain([Path::new("/sys/fs/cgroup").join(&group)]).collect::<Vec<_>>()
        })
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Removes a container's cgroup and its tenant's, if they are empty then. The kernel refuses to remove one in use.
fn remove_empty_cgroup(folder: &Path) {
    let gone = || Ok(fs::remove_dir(folder).is_ok() || !folder.exists());
    // A group is in use a moment longer than its last process. What stays is empty, and costs nothing.
    let _ = wait_until("a cgroup to be empty", CGROUP_EMPTY_WITHIN, gone);
    if let Some(tenant) = folder.parent().filter(|parent| parent.starts_with("/sys/fs/cgroup")) {
        let _ = fs::remove_dir(tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_programs_with_our_path_are_ours() {
        let dir = Path::new("/tmp/launchpad-lab-ab12cd");
        let is = |command: &str| is_our_command(command.replace(' ', "\0").as_bytes(), dir);
        assert!(is("dockerd --data-root=/tmp/launchpad-lab-ab12cd/h1/data"));
        assert!(is("/usr/bin/containerd-shim-runc-v2 -namespace moby -address /tmp/launchpad-lab-ab12cd/h1/c.sock"));
        assert!(is("/x/target/debug/launchpad-agent run --data-dir /tmp/launchpad-lab-ab12cd"));
        assert!(!is("tail -f /tmp/launchpad-lab-ab12cd/h1/dockerd.log"));
        assert!(!is("dockerd --data-root=/tmp/launchpad-lab-ab12cdef/h1/data"));
        assert!(!is("dockerd"));
    }

    #[test]
    fn a_process_whose_root_lies_in_the_lab_is_a_container_of_it() {
        let table = "30 29 0:40 / / ro - overlay overlay rw,lowerdir=/l,upperdir=/tmp/lab/h1/data/o/diff,workdir=/w\n\
                     31 30 0:41 / /proc rw - proc proc rw\n";
        assert!(is_container_of(table, Path::new("/tmp/lab")));
        assert!(!is_container_of(table, Path::new("/tmp/la")));
        assert!(!is_container_of("30 29 8:1 / / rw - ext4 /dev/vda rw\n", Path::new("/tmp/lab")));
    }
}
