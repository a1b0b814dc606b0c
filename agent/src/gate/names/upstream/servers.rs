//! Which servers there are: those of `--resolver`, or what the host's own file says now.
//!
//! The gate runs on the host, so that a stub on its loopback will do, other than for a container
//! (`execute/resolv.rs`).

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Where the host says which servers it uses itself.
const HOST_FILE: &str = "/etc/resolv.conf";

/// Servers that are asked at most, as libc does (resolv.conf(5), MAXNS).
const SERVERS_MAX: usize = 3;

/// Where name servers listen.
const PORT: u16 = 53;

/// How old what we know of the host's file may be: a new lease or a VPN rewrites it.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Why a text is no name server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name server: write IP or IP:PORT, such as 9.9.9.9, 127.0.0.53:53 or [2620:fe::fe]:53")]
pub struct ServerError(String);

/// Reads a name server as the command line names it; port 53 where none is given.
///
/// # Errors
/// [`ServerError`] when it is no address, or the unspecified one.
pub fn server(text: &str) -> Result<SocketAddr, ServerError> {
    let plain = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT));
    let server = plain.or_else(|_| text.parse::<SocketAddr>()).map_err(|_| ServerError(text.to_owned()))?;
    let is_one = !server.ip().is_unspecified() && !server.ip().is_multicast() && server.port() != 0;
    is_one.then_some(server).ok_or_else(|| ServerError(text.to_owned()))
}

/// The servers that are asked.
#[derive(Debug)]
pub(super) struct Servers {
    configured: Vec<SocketAddr>,
    /// The host's own, and when they were read.
    found: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Servers {
    pub(super) fn new(mut configured: Vec<SocketAddr>) -> Self {
        configured.truncate(SERVERS_MAX);
        Self { configured, found: Mutex::new(None) }
    }

    /// In the order in which they stand.
    pub(super) fn list(&self, now: Instant) -> Vec<SocketAddr> {
        if !self.configured.is_empty() {
            return self.configured.clone();
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, servers)) = found.as_ref()
            && now.duration_since(*at) < READ_EVERY
        {
            return servers.clone();
        }
        let servers = named(&fs::read_to_string(HOST_FILE).unwrap_or_default());
        *found = Some((now, servers.clone()));
        servers
    }
}

/// Servers named in a resolv.conf. One with a zone (`fe80::1%eth0`) is passed over: no host has nothing else.
fn named(resolv_conf: &str) -> Vec<SocketAddr> {
    let named = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| server(words.next()?).ok()).flatten()
    });
    named.take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_with_or_without_its_port() {
        let shown = |text| server(text).map(|server| server.to_string());
        assert_eq!(shown("9.9.9.9").as_deref(), Ok("9.9.9.9:53"));
        assert_eq!(shown("127.0.0.53:5353").as_deref(), Ok("127.0.0.53:5353"));
        assert_eq!(shown("2620:fe::fe").as_deref(), Ok("[2620:fe::fe]:53"));
        for bad in ["dns.example", "0.0.0.0", "9.9.9.9:0", "224.0.0.251", ""] {
            assert_eq!(server(bad), Err(ServerError(bad.to_owned())));
        }
    }

    #[test]
    fn the_hosts_own_stub_will_do_for_the_gate_and_three_are_asked_at_most() {
        assert_eq!(
            named("# systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n"),
            [server("127.0.0.53").unwrap()]
        );
        let many = "search example.org\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 192.0.2.2\n\
                    nameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        assert_eq!(named(many).len(), SERVERS_MAX);
    }

    #[test]
    fn what_we_were_told_comes_instead_of_the_hosts() {
        let told = vec![server("192.0.2.53").unwrap()];
        assert_eq!(Servers::new(told.clone()).list(Instant::now()), told);
    }
}
