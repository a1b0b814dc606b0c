//! Sockets on an address that need not exist yet.

use std::io;
use std::net::{SocketAddrV4, TcpListener as StdListener, UdpSocket as StdSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, UdpSocket};

/// Connections that wait to be taken up: one from each of a tenant's bots.
const BACKLOG: i32 = 32;

pub(super) fn datagrams(at: SocketAddrV4) -> io::Result<UdpSocket> {
    UdpSocket::from_std(StdSocket::from(bound(SockType::Datagram, at)?))
}

pub(super) fn connections(at: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = bound(SockType::Stream, at)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    TcpListener::from_std(StdListener::from(socket))
}

fn bound(kind: SockType, at: SocketAddrV4) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    if kind == SockType::Stream {
        // A gate that starts anew finds its port held by connections that are about to end. Not for
        // datagrams: there it would let another program take the port from us.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrIn::from(at))?;
    Ok(socket)
}
