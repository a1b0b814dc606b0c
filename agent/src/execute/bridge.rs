//! A tenant's bridge as the kernel has it. Docker makes it and takes it away, in all cases but one.
//!
//! An engine that dies between making a bridge and writing the network down leaves the bridge, and its own filters for
//! it. The one that comes back knows of neither; asked to make that network again it finds the bridge, takes it for
//! somebody else's, and later takes the filters away but not the bridge. So `network.rs` has the network made once more
//! where only a bridge [`is_there`], and calls [`remove`] when Docker has let go of all that it will.

use std::io;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::ExecuteError;
use super::places::bridge_name;
use crate::gate::netlink::{ACKNOWLEDGE, Frame, Netlink, REQUEST};

/// What the kernel calls these (linux/rtnetlink.h, linux/if_link.h).
mod kernel {
    pub(super) const DELETE_LINK: u16 = 17;
    /// An attribute.
    pub(super) const NAME: u16 = 3;
    /// `struct ifinfomsg`: all zero, because the link is known by its name.
    pub(super) const HEADER_BYTES: usize = 16;
}

/// Whether the tenant's bridge is there, in the network namespace that the agent is in.
#[must_use]
pub fn is_there(account: AccountId) -> bool {
    nix::net::if_::if_nametoindex(bridge_name(account).as_str()).is_ok()
}

/// Removes the tenant's bridge, if it is there.
///
/// # Errors
/// `Passing` when the kernel refuses.
pub fn remove(account: AccountId) -> Result<(), ExecuteError> {
    let bridge = bridge_name(account);
    match delete_link(&bridge) {
        Ok(()) => {
            tracing::info!(%account, %bridge, "removed a bridge that the engine had left behind");
            Ok(())
        }
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(()),
        Err(error) => Err(ExecuteError::Passing(
            Reason::new("bridge-stays", format!("cannot remove the bridge {bridge}"))
                .because(error.to_string())
                .mend("see that the agent runs as root; it is tried again"),
        )),
    }
}

fn delete_link(name: &str) -> io::Result<()> {
    let name: Vec<u8> = name.bytes().chain([0]).collect();
    let frame = Frame::new(kernel::DELETE_LINK, REQUEST | ACKNOWLEDGE, &[0; kernel::HEADER_BYTES]);
    Netlink::asking(SockProtocol::NetlinkRoute)?.ask(frame.with(kernel::NAME, &name), |_| {})
}
