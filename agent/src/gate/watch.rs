//! Who else changes rules: the kernel tells every listener of each change of nftables' rules and of routing rules, with
//! the port of whoever made it.
//!
//! `keeper.rs` waits in [`Watch::heard`]. Our own changes are known by the process id of the `nft` that makes them (its
//! netlink port, as libnftables binds it) and by the port of [`super::routes`].

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};

use launchpad_protocol::reason::Reason;
use nix::libc;
use nix::sys::socket::SockProtocol;
use tokio::io::unix::AsyncFd;

use super::netlink::{Message, Netlink, attributes, messages, text};
use super::rules::TABLE;

/// Groups of NETLINK_NETFILTER: nftables (NFNLGRP_NFTABLES, 7).
const GROUP_NFTABLES: u32 = 1 << 6;
/// Groups of NETLINK_ROUTE: rules of IPv4 and IPv6 (RTNLGRP_IPV4_RULE, 8, and RTNLGRP_IPV6_RULE, 19).
const GROUPS_RULES: u32 = 1 << 7 | 1 << 18;

/// The upper byte of an nftables message's kind (NFNL_SUBSYS_NFTABLES).
const SUBSYSTEM_NFTABLES: u16 = 10;
/// `struct nfgenmsg`: family, version, a number.
const NFTABLES_HEADER_BYTES: usize = 4;
/// The family of our table (NFPROTO_INET).
const FAMILY_INET: u8 = 1;
/// The attribute that names the table, in messages about tables, chains, rules, sets, elements and counters alike.
const ATTRIBUTE_TABLE: u16 = 1;

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Programs of ours that are remembered: what they have changed is heard long before as many others have run.
const OWN_MAX: usize = 256;

/// What somebody else has touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// Nobody knows: the kernel had to drop some of its news. Our own changes of many tenants do that, too.
    Perhaps,
    /// Some routing rule.
    Routes,
    /// Our table.
    Rules,
}

/// The ports under which our own changes are heard.
#[derive(Debug, Default)]
pub struct Own(Mutex<VecDeque<u32>>);

impl Own {
    /// Notes a program of ours, before it changes anything.
    pub fn note(&self, port: u32) {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ports.push_back(port);
        if ports.len() > OWN_MAX {
            ports.pop_front();
        }
    }

    fn knows(&self, port: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&port)
    }
}

/// Who listens.
#[derive(Debug)]
pub struct Watch {
    rules: AsyncFd<Netlink>,
    routes: AsyncFd<Netlink>,
    /// The port of our own [`super::routes::Routes`].
    own_routes: u32,
}

impl Watch {
    /// Listens from now on, in this process's network namespace.
    ///
    /// # Errors
    /// When the kernel lacks nftables, or does not let us listen.
    pub fn start(own_routes: u32) -> Result<Self, Reason> {
        let listen = |protocol, groups| follow(Netlink::listening(protocol, groups)?);
        let rules =
            listen(SockProtocol::NetlinkNetFilter, GROUP_NFTABLES).map_err(|error| failed("nftables", &error))?;
        let routes = listen(SockProtocol::NetlinkRoute, GROUPS_RULES).map_err(|error| failed("routing", &error))?;
        Ok(Self { rules, routes, own_routes })
    }

    /// Waits until somebody else has touched something of ours. Cancel safe: what was not read stays in its socket.
    ///
    /// # Errors
    /// When a socket cannot be read any more at all.
    pub async fn heard(&self, own: &Own) -> io::Result<Heard> {
        loop {
            let heard = tokio::select! {
                ready = self.rules.readable() => {
                    let strange = |message: Message<'_>| ours(message) && !own.knows(message.port);
                    drain(ready?, |message| strange(message).then_some(Heard::Rules))?
                }
                ready = self.routes.readable() => {
                    let strange = |message: Message<'_>| message.port != self.own_routes;
                    drain(ready?, |message| strange(message).then_some(Heard::Routes))?
                }
            };
            if let Some(heard) = heard {
                return Ok(heard);
            }
        }
    }
}

/// Has the runtime wake us when something has come in.
#[expect(
    deprecated,
    reason = "its successor is `unsafe`; a Netlink owns one descriptor for life, and closes it last"
)]
fn follow(netlink: Netlink) -> io::Result<AsyncFd<Netlink>> {
    AsyncFd::new(netlink)
}

/// Reads all that has come in; the most of what was heard.
fn drain(
    mut ready: tokio::io::unix::AsyncFdReadyGuard<'_, Netlink>,
    hear: impl Fn(Message<'_>) -> Option<Heard>,
) -> io::Result<Option<Heard>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut found = None;
    loop {
        match ready.get_inner().read(&mut buffer) {
            Ok(bytes) => found = found.max(messages(bytes).filter_map(&hear).max()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                return Ok(found);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => found = found.max(Some(Heard::Perhaps)),
            Err(error) => return Err(error),
        }
    }
}

/// Whether a change of nftables is about our table.
fn ours(message: Message<'_>) -> bool {
    let about = || attributes(message.body, NFTABLES_HEADER_BYTES).find(|(kind, _)| *kind == ATTRIBUTE_TABLE);
    message.kind >> 8 == SUBSYSTEM_NFTABLES
        && message.body.first() == Some(&FAMILY_INET)
        && about().and_then(|(_, name)| text(name)) == Some(TABLE)
}

fn failed(what: &str, error: &io::Error) -> Reason {
    Reason::new("netlink-failed", format!("the kernel does not tell of changes of its {what} rules"))
        .because(error.to_string())
        .mend("run launchpad-gate as root, on a kernel with nftables")
}
