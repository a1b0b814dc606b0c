//! The kernel's own language for rules and routes: netlink frames, and the socket that carries them (netlink(7)).
//!
//! `routes.rs` asks and changes routing rules through it, `watch.rs` listens to what others change. The kernel answers a
//! question while it is being sent, so asking waits for nothing that could hang; a bound holds all the same. Which
//! numbers mean what stands with those who use them.
//!
//! ```text
//! frame      length u32 · kind u16 · flags u16 · sequence u32 · port u32 · body       (struct nlmsghdr)
//! attribute  length u16 · kind u16 · value, each padded to 4 bytes                     (struct nlattr)
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recvfrom, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// A question.
pub const REQUEST: u16 = 0x1;
/// Tell whether it was done.
pub const ACKNOWLEDGE: u16 = 0x4;
/// Everything there is (NLM_F_ROOT and NLM_F_MATCH).
pub const DUMP: u16 = 0x300;
/// Make it, and refuse if it is there (NLM_F_CREATE and NLM_F_EXCL).
pub const MAKE: u16 = 0x600;

/// The kind of frame that carries an error, or zero for "done".
const ERROR: u16 = 2;
/// The kind of frame that ends a dump.
const END: u16 = 3;

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The two bits of an attribute's kind that say how its value is written (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
const KIND_MASK: u16 = 0x3fff;

/// Bytes read at once: the kernel sends dumps in parts of at most 32 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of what others changed that wait to be read: some thousand changes, before the kernel says that it lost some.
const BACKLOG_BYTES: usize = 1024 * 1024;

/// How long the kernel may take to answer. It takes microseconds.
const ANSWER_WITHIN_SECONDS: i64 = 5;

/// One frame that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is; what that means is the protocol's.
    pub kind: u16,
    /// The port of whoever brought it about; zero: the kernel itself.
    pub port: u32,
    /// What it carries: the protocol's own header, and attributes.
    pub body: &'a [u8],
}

/// The frames in what was read, up to the first that is cut off.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let frame = bytes.get(..length).filter(|frame| frame.len() >= HEADER_BYTES)?;
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some(Message { kind: u16_at(frame, 4)?, port: u32_at(frame, 12)?, body: frame.get(HEADER_BYTES..)? })
    })
}

/// The attributes in a body behind its protocol's own header, up to the first that is cut off.
pub fn attributes(body: &[u8], header_bytes: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = body.get(header_bytes..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A text as the kernel writes it, with a final zero or without.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

/// A number of 32 bits in the machine's own order.
#[must_use]
pub fn number(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

const fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A frame in the making.
#[derive(Debug, Clone)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// A frame of that kind, with its protocol's own header.
    #[must_use]
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(header);
        Self(bytes)
    }

    /// The same, with one attribute more.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(padded(self.0.len()), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// A socket to the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    port: u32,
}

impl Netlink {
    /// One that asks.
    ///
    /// # Errors
    /// When the kernel does not have that protocol.
    pub fn asking(protocol: SockProtocol) -> io::Result<Self> {
        let made = Self::open(protocol, 0, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&made.socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_WITHIN_SECONDS))?;
        Ok(made)
    }

    /// One that is told what those groups (a bit each) are told.
    ///
    /// # Errors
    /// When the kernel does not have that protocol, or does not let us listen.
    pub fn listening(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let made = Self::open(protocol, groups, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        // Without the right to exceed the host's usual bound, that bound has to do.
        if setsockopt(&made.socket, sockopt::RcvBufForce, &BACKLOG_BYTES).is_err() {
            setsockopt(&made.socket, sockopt::RcvBuf, &BACKLOG_BYTES)?;
        }
        Ok(made)
    }

    fn open(protocol: SockProtocol, groups: u32, flags: SockFlag) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
        Ok(Self { socket, port })
    }

    /// Under which port others see what this socket brings about.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Asks, and hands each frame of the answer on. The question has to ask for a dump or for an acknowledgement: that is
    /// how the end of the answer is known.
    ///
    /// # Errors
    /// What the kernel says: `EEXIST`, `ENOENT`, `EPERM`, …
    pub fn ask(&self, frame: Frame, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        let bytes = frame.finish();
        sendto(self.socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = self.read(&mut buffer)?;
            for message in messages(read) {
                match message.kind {
                    END => return Ok(()),
                    ERROR => {
                        let code = number(message.body).unwrap_or_default().cast_signed();
                        return if code == 0 { Ok(()) } else { Err(Errno::from_raw(-code).into()) };
                    }
                    _ => each(message),
                }
            }
        }
    }

    /// What has come in; for a listening socket `WouldBlock` where nothing has.
    ///
    /// # Errors
    /// `ENOBUFS` when the kernel had to drop some of it.
    pub fn read<'buffer>(&self, buffer: &'buffer mut [u8]) -> io::Result<&'buffer [u8]> {
        loop {
            let (length, sender) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), buffer)?;
            // Another process may send to this port; only the kernel is believed.
            if sender.is_some_and(|sender| sender.pid() == 0) {
                return Ok(buffer.get(..length).unwrap_or_default());
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Netlink {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_with_its_attributes() {
        let frame = Frame::new(32, REQUEST, &[2, 0, 0, 0]).with(3, b"lp0\0").with(6, &1900_u32.to_ne_bytes());
        let mut bytes = frame.clone().finish();
        bytes.extend(Frame::new(33, 0, &[]).finish());
        let found: Vec<Message<'_>> = messages(&bytes).collect();
        assert_eq!(found.iter().map(|message| message.kind).collect::<Vec<_>>(), [32, 33]);
        let attributes: Vec<_> = attributes(found[0].body, 4).collect();
        assert_eq!(text(attributes[0].1), Some("lp0"));
        assert_eq!((attributes[1].0, number(attributes[1].1)), (6, Some(1900)));
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let whole = Frame::new(32, 0, &[0; 12]).with(3, b"lp0\0").finish();
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
        let lying = [255, 255, 3, 0, 1, 2, 3, 4];
        assert_eq!(attributes(&lying, 0).count(), 0);
        assert_eq!(attributes(&[0; 8], 0).count(), 0, "an attribute shorter than its own header");
    }
}
