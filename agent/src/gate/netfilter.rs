//! Two questions to nftables that need no `nft`: its generation, and how much was refused.
//!
//! Both are answered in microseconds; `kernel.rs` asks them before it has anything listed. Nothing is changed here.

use std::io;

use nix::sys::socket::SockProtocol;

use super::netlink::{ACKNOWLEDGE, DUMP, Frame, Netlink, REQUEST, attributes};
use super::rules::TABLE;

/// What the kernel calls these (linux/netfilter/nfnetlink.h, nf_tables.h).
mod kernel {
    const SUBSYSTEM: u16 = 10 << 8;
    pub(super) const GET_GENERATION: u16 = SUBSYSTEM | 16;
    pub(super) const GET_OBJECT: u16 = SUBSYSTEM | 19;
    pub(super) const GENERATION: u16 = 1;
    pub(super) const OBJECT_TABLE: u16 = 1;
    pub(super) const OBJECT_TYPE: u16 = 3;
    pub(super) const OBJECT_DATA: u16 = 4;
    pub(super) const TYPE_COUNTER: u32 = 1;
    pub(super) const COUNTER_PACKETS: u16 = 2;
    /// `struct nfgenmsg`: family, version, a number.
    pub(super) const HEADER_ANY: [u8; 4] = [0; 4];
    pub(super) const HEADER_INET: [u8; 4] = [1, 0, 0, 0];
}

/// Who asks.
#[derive(Debug)]
pub struct Netfilter(Netlink);

impl Netfilter {
    /// Of this process's network namespace.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open() -> io::Result<Self> {
        Netlink::asking(SockProtocol::NetlinkNetFilter).map(Self)
    }

    /// A number that rises by one with every change that anybody makes to nftables' rules; none: the kernel does not tell.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        let question = Frame::new(kernel::GET_GENERATION, REQUEST | ACKNOWLEDGE, &kernel::HEADER_ANY);
        let mut found = None;
        let asked = self.0.ask(question, |message| {
            let generation = value(message.body, kernel::HEADER_ANY.len(), kernel::GENERATION);
            found = generation.and_then(|value| value.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
        });
        asked.ok().and(found)
    }

    /// The packets that all named counters of our table have counted: those that were refused. None: there is no such
    /// table, or the kernel does not tell.
    #[must_use]
    pub fn refused(&self) -> Option<u64> {
        let table: Vec<u8> = TABLE.bytes().chain([0]).collect();
        let question = Frame::new(kernel::GET_OBJECT, REQUEST | DUMP, &kernel::HEADER_INET)
            .with(kernel::OBJECT_TABLE, &table)
            .with(kernel::OBJECT_TYPE, &kernel::TYPE_COUNTER.to_be_bytes());
        let mut sum = 0_u64;
        let asked = self.0.ask(question, |message| {
            let counter = value(message.body, kernel::HEADER_INET.len(), kernel::OBJECT_DATA);
            let packets = counter.and_then(|data| value(data, 0, kernel::COUNTER_PACKETS));
            let packets = packets.and_then(|value| value.first_chunk()).map(|bytes| u64::from_be_bytes(*bytes));
            sum = sum.saturating_add(packets.unwrap_or_default());
        });
        asked.ok().map(|()| sum)
    }
}

fn value(body: &[u8], header_bytes: usize, kind: u16) -> Option<&[u8]> {
    attributes(body, header_bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}
