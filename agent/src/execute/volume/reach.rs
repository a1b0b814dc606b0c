//! Whether what the agent mounts is seen by the container engine.
//!
//! A unit that is hardened (`PrivateTmp=`, `ProtectSystem=` and their like) has a mount namespace of its own,
//! and what is mounted in there never reaches anybody else: each bot would be refused for a missing volume.
//! `Volumes::prepare` asks before it mounts, and `doctor` on a host that has no volume yet. Only the two
//! mount tables are read.

use std::fs;
use std::path::Path;

use launchpad_protocol::reason::Reason;
use tokio::net::UnixStream;

use super::mounts::{self, Mount};

/// The process in whose namespace everything is mounted that is mounted for all.
const INIT: i32 = 1;

/// That a mount below that directory reaches the engine behind that socket: whoever listens on it, or, where
/// that is unknown, the first process. What may not be looked at is believed.
///
/// # Errors
/// Why it does not, and what of the agent's unit to change.
pub async fn reaches(directory: &Path, engine_socket: &Path) -> Result<(), Reason> {
    let listener = UnixStream::connect(engine_socket).await.ok().and_then(|stream| stream.peer_cred().ok()?.pid());
    reaches_process(directory, listener.filter(|pid| *pid > 0).unwrap_or(INIT))
}

/// The same, of a process.
///
/// # Errors
/// As [`reaches`].
pub fn reaches_process(directory: &Path, pid: i32) -> Result<(), Reason> {
    let space = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    let (Ok(ours), Ok(theirs)) = (space("self"), space(&pid.to_string())) else { return Ok(()) };
    if ours == theirs {
        return Ok(());
    }
    let Some(table) = mounts::of(pid) else { return Ok(()) };
    if propagates(directory, &mounts::own()?, &table) {
        return Ok(());
    }
    Err(Reason::new("mounts-out-of-sight", "the container engine does not see what the agent mounts")
        .because(format!("the agent is in a mount namespace of its own, apart from process {pid}"))
        .mend(
            "take PrivateMounts=, PrivateTmp=, PrivateDevices=, Protect*=, ReadOnlyPaths= and the like out of the \
             agent's unit, or run the agent outside of its container",
        ))
}

/// Whether the mount that the directory lies in tells one of theirs of what is mounted below it.
fn propagates(directory: &Path, own: &[Mount], theirs: &[Mount]) -> bool {
    let told = mounts::covering(own, directory).and_then(|mount| mount.shared);
    told.is_some() && theirs.iter().any(|mount| mount.shared == told || mount.master == told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_reaches_those_that_are_told_and_no_others() {
        let told = |own: &str, theirs: &str| {
            propagates(Path::new("/data/volumes"), &mounts::parse(own.as_bytes()), &mounts::parse(theirs.as_bytes()))
        };
        let shared = "1 0 8:1 / / rw shared:3 - ext4 x rw\n";
        assert!(told(shared, "1 0 8:1 / / rw shared:3 - ext4 x rw\n"));
        assert!(told(shared, "1 0 8:1 / / rw master:3 - ext4 x rw\n"));
        assert!(!told(shared, "1 0 8:1 / / rw shared:4 - ext4 x rw\n"));
        // What a hardened unit has: it hears of the host's mounts, and tells nobody.
        assert!(!told("1 0 8:1 / / rw master:1 - ext4 x rw\n", "1 0 8:1 / / rw shared:1 - ext4 x rw\n"));
        assert!(!told("1 0 8:1 / / rw - ext4 x rw\n", "1 0 8:1 / / rw - ext4 x rw\n"));
    }

    /// systemd.exec(5): each of these makes a mount namespace, but for the two that are named.
    #[test]
    fn our_own_unit_keeps_no_mount_from_the_engine() {
        let unit = include_str!("../../../../systemd/launchpad-agent.service");
        let directives = unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let names: Vec<&str> = directives.map(|(name, _)| name).collect();
        assert!(names.contains(&"ExecStart"), "{names:?}");
        let hides = |name: &&str| {
            if ["ProtectClock", "ProtectHostname"].contains(name) {
                return false;
            }
            let starts = ["Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "Bind", "Root", "Mount"];
            starts.iter().any(|start| name.starts_with(start))
                || ["TemporaryFileSystem", "DynamicUser"].contains(name)
        };
        assert_eq!(names.into_iter().filter(hides).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
