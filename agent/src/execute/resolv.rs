//! The resolver configuration of an instance: a file of ours, because Docker's own resolver dies with
//! dockerd.
//!
//! `create.rs` writes it before a container is made and before each start (it is gone after a boot). It names
//! the gate's server on the tenant's bridge and no other: whom that one asks is the gate's affair.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;

use super::places::Places;

/// How long libc waits for it, in seconds, instead of its five: probes and chats do not wait so long.
const TIMEOUT_SECONDS: u32 = 2;
/// How often it asks, before a name counts as unresolvable: its default, which a lost packet needs.
const ATTEMPTS: u32 = 2;

/// The directory holds nothing secret, and the file is mounted for any user of a container.
const DIR_MODE: u32 = 0o755;

/// Writes an instance's file in place, so that a running container, which has this very file mounted, sees it
/// too.
///
/// # Errors
/// When it cannot be written.
pub fn write(places: &Places, deployment: DeploymentId, gateway: Ipv4Addr) -> Result<(), Reason> {
    let path = places.resolv_conf(deployment);
    let text = render(gateway);
    if fs::read_to_string(&path).is_ok_and(|held| held == text) {
        return Ok(());
    }
    let made = path.parent().map_or(Ok(()), |dir| fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir));
    made.and_then(|()| fs::write(&path, text)).map_err(|error| failed(&path, &error))
}

/// Removes an instance's file; none there is as good.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(places: &Places, deployment: DeploymentId) -> Result<(), Reason> {
    let path = places.resolv_conf(deployment);
    let Some(dir) = path.parent() else { return Ok(()) };
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn render(server: Ipv4Addr) -> String {
    format!(
        "# Written by launchpad-agent: this server answers also while dockerd is away.\n\
         nameserver {server}\n\
         options timeout:{TIMEOUT_SECONDS} attempts:{ATTEMPTS}\n"
    )
}

fn failed(path: &Path, error: &io::Error) -> Reason {
    Reason::new("resolv-conf", format!("cannot write {}", path.display())).because(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bots_one_server_changes_in_the_file_that_it_has_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::under(dir.path(), dir.path());
        let bot = "dep_00000000000000000000000000000001".parse().unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        write(&places, bot, "192.0.2.1".parse().unwrap()).unwrap();
        let before = inode(&places.resolv_conf(bot));
        write(&places, bot, "192.0.2.9".parse().unwrap()).unwrap();
        let text = fs::read_to_string(places.resolv_conf(bot)).unwrap();
        assert!(text.contains("nameserver 192.0.2.9\n") && text.matches("nameserver ").count() == 1, "{text}");
        assert_eq!(inode(&places.resolv_conf(bot)), before);
        remove(&places, bot).unwrap();
        remove(&places, bot).unwrap();
        assert!(!places.resolv_conf(bot).exists());
    }
}
