//! The hunt for what belongs to others: in every file it can read, and in what the kernel shows of processes,
//! mounts and groups.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use launchpad_hostile::Try;

use super::{files_below, folders_below, holds, pids};
use crate::place::Place;

/// Of each file: secrets and names stand near its beginning.
const READ_LIMIT_BYTES: u64 = 1 << 20;
/// What the kernel tells of each process.
const OF_A_PROCESS: [&str; 8] =
    ["environ", "cmdline", "mountinfo", "cgroup", "status", "comm", "net/unix", "net/route"];
/// What the kernel tells of itself and of the network that it is in.
const OF_THE_KERNEL: [&str; 6] =
    ["/proc/mounts", "/proc/partitions", "/proc/keys", "/proc/key-users", "/proc/locks", "/proc/sysvipc/shm"];
/// Where to look.
const ROOTS: [&str; 3] = ["/", "/proc/1/root", "/sys/fs/cgroup"];

/// Looks for every canary everywhere.
pub(crate) fn hunt(place: &Place) -> Vec<Try> {
    let canaries = match place.orders.canaries() {
        Ok(canaries) if !canaries.is_empty() => canaries,
        Ok(_) => return vec![Try::refused("hunts for others' texts", "no orders to hunt for any")],
        Err(error) => return vec![Try::untried("hunts for others' texts", error)],
    };
    let found = |text: &[u8]| canaries.iter().any(|canary| holds(text, canary));
    let mut tries = Vec::new();
    for root in ROOTS.map(Path::new) {
        let names = folders_below(root).into_iter().chain(files_below(root));
        let files = files_below(root);
        let what = format!("the names and contents of {} files below {}", files.len(), root.display());
        let named = names.filter(|path| found(path.as_os_str().as_encoded_bytes()));
        let held = files.iter().filter(|path| path.is_file() && found(&beginning(path))).cloned();
        tries.push(verdict(what, named.chain(held).collect()));
    }
    let of_processes = pids().into_iter().flat_map(|pid| OF_A_PROCESS.map(|file| format!("/proc/{pid}/{file}")));
    let told: Vec<PathBuf> = of_processes.chain(OF_THE_KERNEL.map(str::to_owned)).map(PathBuf::from).collect();
    let what = format!("{} files in which the kernel tells of processes, mounts and itself", told.len());
    tries.push(verdict(what, told.into_iter().filter(|path| found(&beginning(path))).collect()));
    tries
}

fn verdict(what: String, found: Vec<PathBuf>) -> Try {
    match &found[..] {
        [] => Try::refused(what, "nothing of others"),
        [first, ..] => Try::reached(what, format!("{} hold what is others', first {}", found.len(), first.display())),
    }
}

/// The beginning of a file; of one that cannot be read, nothing. A pipe is not waited for.
fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ordinary = fs::metadata(path).is_ok_and(|about| about.is_file());
    if let (true, Ok(file)) = (ordinary, File::open(path)) {
        // What was read before an error counts.
        let _ = file.take(READ_LIMIT_BYTES).read_to_end(&mut bytes);
    }
    bytes
}
