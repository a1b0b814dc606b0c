//! *No mark, no route*: routing rules for each tenant's bridge, so that only what nftables has marked finds a way. They
//! hold while nftables' rules are flushed, replaced or not yet there.
//!
//! ```text
//! 0     from all lookup local                                                the kernel's own: the host itself
//! 1900  from all iif lp0123456789ab fwmark 0x4c000000/0xff000000 lookup main
//! 1901  from all iif lp0123456789ab blackhole                                in IPv6 this one alone
//! ```
//! `kernel.rs` calls [`Routes::put`] before a bridge carries its first bot, [`Routes::missing`] whenever something about
//! routing rules was heard, and [`Routes::clear_but`] when a tenant has gone. A rule names its bridge, not its number: it
//! waits for a bridge that is not there yet, and stays when Docker makes the bridge anew. Other rules of the host are not
//! touched.

use std::collections::BTreeSet;
use std::io;

use launchpad_protocol::reason::Reason;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use super::netlink::{ACKNOWLEDGE, DUMP, Frame, MAKE, Message, Netlink, REQUEST, attributes, number, text};
use super::policy::is_bridge_of_ours;

/// The mark of what a bot may send: an `L` in the top byte. The byte below it is Tailscale's, those below that are
/// Docker's and Kubernetes'.
pub const MARK: u32 = 0x4c00_0000;
/// The bits of a packet's mark that are ours.
pub const MARK_MASK: u32 = 0xff00_0000;

/// Before the host's own default rules (32766), after most that administrators add for one source or interface.
const PRIORITY_PASS: u32 = 1900;
const PRIORITY_DROP: u32 = 1901;

/// What the kernel calls these (linux/rtnetlink.h, linux/fib_rules.h).
mod kernel {
    pub(super) const NEW_RULE: u16 = 32;
    pub(super) const DELETE_RULE: u16 = 33;
    pub(super) const GET_RULE: u16 = 34;
    /// Attributes.
    pub(super) const IIFNAME: u16 = 3;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const MARK: u16 = 10;
    pub(super) const SUPPRESS_PREFIX: u16 = 14;
    pub(super) const TABLE: u16 = 15;
    pub(super) const MARK_MASK: u16 = 16;
    pub(super) const PROTOCOL: u16 = 21;
    /// Actions.
    pub(super) const LOOK_UP: u8 = 1;
    pub(super) const BLACKHOLE: u8 = 6;
    pub(super) const TABLE_MAIN: u8 = 254;
    /// The rule means the opposite.
    pub(super) const INVERTED: u32 = 2;
    /// `struct fib_rule_hdr`: family, bits of both addresses, tos, table, two reserved, action, flags.
    pub(super) const HEADER_BYTES: usize = 12;
}

/// IPv4 and IPv6, as a rule's header has them.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// One of our routing rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    family: u8,
    bridge: String,
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Does {
    /// Drops everything.
    Drop,
    /// Lets what is marked pass.
    Pass,
}

impl Rule {
    fn frame(&self, kind: u16, flags: u16) -> Frame {
        let (table, action, priority) = match self.does {
            Does::Pass => (kernel::TABLE_MAIN, kernel::LOOK_UP, PRIORITY_PASS),
            Does::Drop => (0, kernel::BLACKHOLE, PRIORITY_DROP),
        };
        let header: [u8; kernel::HEADER_BYTES] = [self.family, 0, 0, 0, table, 0, 0, action, 0, 0, 0, 0];
        let name: Vec<u8> = self.bridge.bytes().chain([0]).collect();
        let frame = Frame::new(kind, REQUEST | ACKNOWLEDGE | flags, &header)
            .with(kernel::IIFNAME, &name)
            .with(kernel::PRIORITY, &priority.to_ne_bytes());
        match self.does {
            Does::Drop => frame,
            Does::Pass => {
                frame.with(kernel::MARK, &MARK.to_ne_bytes()).with(kernel::MARK_MASK, &MARK_MASK.to_ne_bytes())
            }
        }
    }

    /// Reads a rule back; none: it is not word for word one of ours.
    fn read(message: Message<'_>) -> Option<Self> {
        let header: &[u8; kernel::HEADER_BYTES] = message.body.first_chunk()?;
        let [family, to_bits, from_bits, tos, short_table, _, _, action, ..] = *header;
        let flags = number(&header[8..])?;
        let mut table = u32::from(short_table);
        let (mut bridge, mut priority, mut mark, mut mask) = (None, 0, 0, 0);
        for (kind, value) in attributes(message.body, kernel::HEADER_BYTES) {
            match kind {
                kernel::IIFNAME => bridge = text(value),
                kernel::PRIORITY => priority = number(value)?,
                kernel::MARK => mark = number(value)?,
                kernel::MARK_MASK => mask = number(value)?,
                kernel::TABLE => table = number(value)?,
                kernel::SUPPRESS_PREFIX if number(value) == Some(u32::MAX) => {}
                kernel::PROTOCOL => {}
                // Whatever else a rule says, it is about less than all that comes from the bridge.
                _ => return None,
            }
        }
        if (to_bits, from_bits, tos, flags & kernel::INVERTED) != (0, 0, 0, 0) {
            return None;
        }
        let does = match (action, priority, mark, mask) {
            (kernel::LOOK_UP, PRIORITY_PASS, MARK, MARK_MASK) if table == u32::from(kernel::TABLE_MAIN) => Does::Pass,
            (kernel::BLACKHOLE, PRIORITY_DROP, 0, _) => Does::Drop,
            _ => return None,
        };
        Some(Self { family, bridge: bridge?.to_owned(), does })
    }
}

/// Who makes and sees routing rules.
#[derive(Debug)]
pub struct Routes {
    netlink: Netlink,
    /// Whether this kernel has IPv6 at all.
    has_ipv6: bool,
}

impl Routes {
    /// In this process's network namespace.
    ///
    /// # Errors
    /// When the kernel has no routing rules.
    pub fn open() -> Result<Self, Reason> {
        let failed = |error: io::Error| failed("look at", "the routing rules", &error);
        let netlink = Netlink::asking(SockProtocol::NetlinkRoute).map_err(failed)?;
        let mut routes = Self { netlink, has_ipv6: true };
        match routes.listed(IPV6) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => routes.has_ipv6 = false,
            Err(error) => return Err(failed(error)),
        }
        Ok(routes)
    }

    /// Under which port listeners see our own changes.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// Sees that a bridge's rules are there.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn put(&self, bridge: &str) -> Result<(), Reason> {
        self.of(bridge).iter().try_for_each(|rule| {
            match self.netlink.ask(rule.frame(kernel::NEW_RULE, MAKE), |_| {}) {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(failed("make", bridge, &error)),
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }

    /// Those of the bridges whose rules are not all there.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn missing<'b>(&self, bridges: impl Iterator<Item = &'b str>) -> Result<BTreeSet<String>, Reason> {
        let present = self.present()?;
        let wanted = bridges.flat_map(|bridge| self.of(bridge));
        Ok(wanted.filter(|rule| !present.contains(rule)).map(|rule| rule.bridge).collect())
    }

    /// Takes away every rule of ours for any other bridge.
    ///
    /// # Errors
    /// When the kernel does not tell, or refuses.
    pub fn clear_but<'b>(&self, bridges: impl Iterator<Item = &'b str>) -> Result<(), Reason> {
        let stay: BTreeSet<&str> = bridges.collect();
        let present = self.present()?;
        let goes = |rule: &&Rule| is_bridge_of_ours(&rule.bridge) && !stay.contains(rule.bridge.as_str());
        // What lets through goes first: in the order of what they do, it stands behind what drops.
        present.iter().rev().filter(goes).try_for_each(|rule| self.take_away(rule))
    }

    fn present(&self) -> Result<BTreeSet<Rule>, Reason> {
        let mut present = BTreeSet::new();
        for family in [IPV4, IPV6] {
            if family == IPV4 || self.has_ipv6 {
                present.extend(self.listed(family).map_err(|error| failed("list", "the tenants' bridges", &error))?);
            }
        }
        Ok(present)
    }

    /// A bridge's rules; what drops comes first, so that nothing passes before the rest is there.
    fn of(&self, bridge: &str) -> Vec<Rule> {
        let rule = |family, does| Rule { family, bridge: bridge.to_owned(), does };
        let inner = self.has_ipv6.then(|| rule(IPV6, Does::Drop));
        inner.into_iter().chain([rule(IPV4, Does::Drop), rule(IPV4, Does::Pass)]).collect()
    }

    fn listed(&self, family: u8) -> io::Result<Vec<Rule>> {
        let mut header = [0; kernel::HEADER_BYTES];
        header[0] = family;
        let mut found = Vec::new();
        self.netlink.ask(Frame::new(kernel::GET_RULE, REQUEST | DUMP, &header), |message| {
            found.extend(Rule::read(message));
        })?;
        Ok(found)
    }

    /// As often as it is there: somebody may have made it twice.
    fn take_away(&self, rule: &Rule) -> Result<(), Reason> {
        loop {
            match self.netlink.ask(rule.frame(kernel::DELETE_RULE, 0), |_| {}) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                Err(error) => return Err(failed("remove", &rule.bridge, &error)),
            }
        }
    }
}

fn failed(step: &str, what: &str, error: &io::Error) -> Reason {
    let reason = Reason::new("routing-failed", format!("the kernel could not {step} the routing rules of {what}"))
        .because(error.to_string());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => reason.mend("run launchpad-gate as root, in the host's own network"),
        _ => {
            reason.mend("boot a kernel with policy routing (CONFIG_IP_MULTIPLE_TABLES), as every distribution has it")
        }
    }
}
