//! The resolver configuration of an instance: a file of ours, because Docker's own resolver dies with
//! dockerd.
//!
//! `create.rs` writes it before a container is made and before each start (it is gone after a boot). Which
//! servers go in is decided here, from the agent's configuration or the host's own file; where none is left,
//! bots resolve nothing, and `doctor.rs` says so.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;

use super::places::Places;

/// The host's own configuration, and where systemd-resolved keeps the servers behind its stub.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Servers that libc asks at most (resolv.conf(5), MAXNS).
const SERVERS_MAX: usize = 3;

/// How long libc waits for one server, in seconds, instead of its five: probes and chats do not wait so long.
const TIMEOUT_SECONDS: u32 = 2;
/// How often it asks them all, before a name counts as unresolvable: its default, which a lost packet needs.
const ATTEMPTS: u32 = 2;

/// The directory holds nothing secret, and the file is mounted for any user of a container.
const DIR_MODE: u32 = 0o755;

/// Why an address is no name server for bots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// No address at all.
    #[error("`{0}` is no IP address")]
    NoAddress(String),
    /// Tenants' networks are without IPv6.
    #[error("{0} is out of the bots' reach: their networks have IPv4 only; name a server's IPv4 address")]
    Ipv6(String),
    /// The host's loopback is not the container's.
    #[error("{0} is, inside a container, the container itself; name an address that the host answers on")]
    Loopback(Ipv4Addr),
}

/// Reads the address of a server that bots can reach, as the command line names it.
///
/// # Errors
/// [`ServerError`] says why they could not.
pub fn server(text: &str) -> Result<Ipv4Addr, ServerError> {
    match text.parse() {
        Ok(IpAddr::V4(address)) if address.is_loopback() || address.is_unspecified() => {
            Err(ServerError::Loopback(address))
        }
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(ServerError::Ipv6(text.to_owned())),
        Err(_) => Err(ServerError::NoAddress(text.to_owned())),
    }
}

/// Writes an instance's file in place, so that a running container, which has this very file mounted, sees it
/// too.
///
/// # Errors
/// When it cannot be written.
pub fn write(places: &Places, deployment: DeploymentId, gateway: Ipv4Addr) -> Result<(), Reason> {
    let path = places.resolv_conf(deployment);
    let text = render(&[gateway]);
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

/// The configured servers, or else the host's own that a container can reach; not more than are asked.
#[must_use]
pub fn servers(configured: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let mut servers = configured.to_vec();
    if servers.is_empty() {
        let found = HOST_FILES.iter().map(|path| reachable(&fs::read_to_string(path).unwrap_or_default()));
        servers = found.into_iter().find(|servers| !servers.is_empty()).unwrap_or_default();
    }
    servers.truncate(SERVERS_MAX);
    servers
}

/// Servers named in a resolv.conf that a container can reach, too.
fn reachable(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let named = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| server(words.next()?).ok()).flatten()
    });
    named.collect()
}

fn render(servers: &[Ipv4Addr]) -> String {
    let mut text = "# Written by launchpad-agent: these servers answer also while dockerd is away.\n".to_owned();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str(&format!("options timeout:{TIMEOUT_SECONDS} attempts:{ATTEMPTS}\n"));
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
        assert_eq!(reachable(stub), Vec::<Ipv4Addr>::new());
        let real =
            "search example.org\nnameserver 192.0.2.1\nnameserver fe80::1\nnameserver ::1\nnameserver 192.0.2.2\n";
        assert_eq!(render(&reachable(real)).matches("nameserver ").count(), 2);
    }

    #[test]
    fn a_server_that_no_bot_can_reach_is_refused_with_its_reason() {
        assert_eq!(server("9.9.9.9"), Ok(Ipv4Addr::new(9, 9, 9, 9)));
        assert_eq!(server("2620:fe::fe"), Err(ServerError::Ipv6("2620:fe::fe".to_owned())));
        assert_eq!(server("127.0.0.53"), Err(ServerError::Loopback(Ipv4Addr::new(127, 0, 0, 53))));
        assert_eq!(server("dns.example"), Err(ServerError::NoAddress("dns.example".to_owned())));
    }

    #[test]
    fn configured_servers_come_before_the_hosts_and_the_file_is_kept_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::under(dir.path(), dir.path());
        let bot = "dep_00000000000000000000000000000001".parse().unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        write(&places, bot, "192.0.2.1".parse().unwrap()).unwrap();
        let before = inode(&places.resolv_conf(bot));
        write(&places, bot, "192.0.2.9".parse().unwrap()).unwrap();
        assert!(fs::read_to_string(places.resolv_conf(bot)).unwrap().contains("nameserver 192.0.2.9\n"));
        assert_eq!(inode(&places.resolv_conf(bot)), before);
        remove(&places, bot).unwrap();
        remove(&places, bot).unwrap();
        assert!(!places.resolv_conf(bot).exists());
    }
}
