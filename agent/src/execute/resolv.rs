//! The resolver configuration of an instance: a file of ours, because Docker's own resolver dies with
//! dockerd.
//!
//! `create.rs` writes it before a container is made and before each start (it is gone after a boot). Which
//! servers go in is decided here, from the agent's configuration or the host's own file.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;

use super::places::Places;

/// The host's own configuration, and where systemd-resolved keeps the servers behind its stub.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Servers that libc asks at most (resolv.conf(5), MAXNS).
const SERVERS_MAX: usize = 3;

/// Writes an instance's file in place, so that a running container, which has this very file mounted, sees it
/// too.
///
/// # Errors
/// When it cannot be written.
pub fn write(places: &Places, deployment: DeploymentId, resolvers: &[IpAddr]) -> Result<(), Reason> {
    let path = places.resolv_conf(deployment);
    let text = render(&servers(resolvers));
    if fs::read_to_string(&path).is_ok_and(|held| held == text) {
        return Ok(());
    }
    let made = path.parent().map_or(Ok(()), |dir| fs::DirBuilder::new().recursive(true).mode(0o755).create(dir));
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

/// The configured servers, or else the host's own that a container can reach.
fn servers(configured: &[IpAddr]) -> Vec<IpAddr> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let found = HOST_FILES.iter().map(|path| reachable(&fs::read_to_string(path).unwrap_or_default()));
    found.into_iter().find(|servers| !servers.is_empty()).unwrap_or_default()
}

/// Servers named in a resolv.conf, without those on the host's own loopback, which is not the container's,
/// and without IPv6, which tenants do not have.
fn reachable(resolv_conf: &str) -> Vec<IpAddr> {
    let named = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    named.filter(|address| address.is_ipv4() && !address.is_loopback()).collect()
}

fn render(servers: &[IpAddr]) -> String {
    let mut text = "# Written by launchpad-agent: these servers answer also while dockerd is away.\n".to_owned();
    for server in servers.iter().take(SERVERS_MAX) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str("options timeout:2 attempts:2\n");
    text
}

fn failed(path: &Path, error: &io::Error) -> Reason {
    Reason::new("resolv-conf", format!("cannot write {}", path.display())).because(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_stub_is_no_server_for_a_container() {
        let stub = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n";
        assert_eq!(reachable(stub), Vec::<IpAddr>::new());
        let real =
            "search example.org\nnameserver 192.0.2.1\nnameserver fe80::1\nnameserver ::1\nnameserver 192.0.2.2\n";
        assert_eq!(render(&reachable(real)).matches("nameserver ").count(), 2);
    }

    #[test]
    fn configured_servers_come_before_the_hosts_and_the_file_is_kept_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::under(dir.path(), dir.path());
        let bot = "dep_00000000000000000000000000000001".parse().unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        write(&places, bot, &["192.0.2.1".parse().unwrap()]).unwrap();
        let before = inode(&places.resolv_conf(bot));
        write(&places, bot, &["192.0.2.9".parse().unwrap()]).unwrap();
        assert!(fs::read_to_string(places.resolv_conf(bot)).unwrap().contains("nameserver 192.0.2.9\n"));
        assert_eq!(inode(&places.resolv_conf(bot)), before);
        remove(&places, bot).unwrap();
        remove(&places, bot).unwrap();
        assert!(!places.resolv_conf(bot).exists());
    }
}
