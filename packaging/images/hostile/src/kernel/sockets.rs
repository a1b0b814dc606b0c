//! Sockets below and beside TCP and UDP, and changes of the network itself.

use std::fs::OpenOptions;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use launchpad_hostile::Try;

use super::{permission, permission_or};
use crate::place::Place;
use crate::sys::{Page, socket, sys};

/// What a kernel answers that was built without a family or a protocol.
const NOT_BUILT: [i32; 4] = [libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT, libc::ENOPROTOOPT];
/// Every protocol's frames, in network order.
const ALL_FRAMES: i32 = (libc::ETH_P_ALL as u16).to_be() as i32;
/// The interface of a container on a bridge.
const INTERFACE: [u8; 4] = *b"eth0";
/// Bytes of an `int`, as `setsockopt` takes it.
const INT_BYTES: i32 = 4;

/// Opens raw sockets of both families.
pub(crate) fn raw(_: &Place) -> Vec<Try> {
    let kinds = [
        ("ICMP", libc::AF_INET, libc::IPPROTO_ICMP),
        ("TCP", libc::AF_INET, libc::IPPROTO_TCP),
        ("any protocol", libc::AF_INET, libc::IPPROTO_RAW),
        ("ICMPv6", libc::AF_INET6, libc::IPPROTO_ICMPV6),
    ];
    let each = |(name, family, protocol)| {
        permission_or(format!("opens a raw socket for {name}"), socket(family, libc::SOCK_RAW, protocol), &NOT_BUILT)
    };
    kinds.into_iter().map(each).collect()
}

/// Opens packet sockets, with and without the link's header.
pub(crate) fn packet(_: &Place) -> Vec<Try> {
    let each = |(name, kind)| {
        permission_or(format!("opens a packet socket {name}"), socket(libc::AF_PACKET, kind, ALL_FRAMES), &NOT_BUILT)
    };
    [("for frames", libc::SOCK_RAW), ("for packets", libc::SOCK_DGRAM)].into_iter().map(each).collect()
}

/// Opens sockets of families that lead to the hypervisor, to other subsystems, or to nothing that a bot
/// needs.
pub(crate) fn odd(_: &Place) -> Vec<Try> {
    let stream = libc::SOCK_STREAM;
    let kinds = [
        ("vsock, to the hypervisor", libc::AF_VSOCK, stream, 0),
        ("alg, the kernel's ciphers", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("xdp", libc::AF_XDP, libc::SOCK_RAW, 0),
        ("key, for IPsec", libc::AF_KEY, libc::SOCK_RAW, 2),
        ("bluetooth", libc::AF_BLUETOOTH, libc::SOCK_SEQPACKET, 0),
        ("can", libc::AF_CAN, libc::SOCK_RAW, 1),
        ("tipc", libc::AF_TIPC, libc::SOCK_SEQPACKET, 0),
        ("rds", libc::AF_RDS, libc::SOCK_SEQPACKET, 0),
        ("sctp", libc::AF_INET, stream, libc::IPPROTO_SCTP),
    ];
    let each = |(name, family, kind, protocol)| {
        permission_or(format!("opens a socket of {name}"), socket(family, kind, protocol), &NOT_BUILT)
    };
    kinds.into_iter().map(each).collect()
}

/// Marks its packets as if they were let through, borrows addresses, changes its interface, makes a tunnel.
pub(crate) fn change_network(_: &Place) -> Vec<Try> {
    let socket = match UdpSocket::bind("0.0.0.0:0") {
        Ok(socket) => socket,
        Err(error) => return vec![Try::untried("opens a socket", error)],
    };
    let option = |level: i32, name: i32| {
        let mut one = Page::new().with(0, 1_i32.to_ne_bytes());
        sys!(SYS_setsockopt, socket.as_raw_fd(), level, name, &mut one, INT_BYTES)
    };
    let mut interface = Page::new().with(0, INTERFACE);
    let mut flags = |request: u64| sys!(SYS_ioctl, socket.as_raw_fd(), request.cast_signed(), &mut interface);
    // What was read is set again, so that nothing changes where it may.
    let changed = flags(libc::SIOCGIFFLAGS).and_then(|_| flags(libc::SIOCSIFFLAGS));
    let tunnel = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    vec![
        permission("marks its packets", option(libc::SOL_SOCKET, libc::SO_MARK)),
        permission("makes its socket transparent", option(libc::SOL_IP, libc::IP_TRANSPARENT)),
        permission("forces a larger buffer", option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE)),
        permission_or("sets the flags of its interface", changed, &[libc::ENODEV]),
        permission_or("opens the tunnel device", tunnel, &[libc::ENOENT, libc::ENXIO, libc::ENODEV]),
    ]
}
