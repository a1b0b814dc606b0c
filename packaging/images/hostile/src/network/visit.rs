//! One visit: goes where it is ordered to, and says whether anybody was there.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use launchpad_hostile::{How, Transport, Try};

use super::dns::{self, Answer};
use crate::sys::{Page, socket, sys};

/// Everything of a test's world is a millisecond away, and what is dropped never answers.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);
/// What it says: a record shows who came.
const GREETING: &[u8] = b"launchpad-hostile\r\n\r\n";
/// Of an answer.
const ANSWER_MAX_BYTES: usize = 256;
/// `IPPROTO_UDPLITE`.
const UDP_LITE: i32 = 136;
/// An ICMP echo request of both families, without its checksum, which the kernel adds.
const ECHO_V4: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 1];
const ECHO_V6: [u8; 8] = [128, 0, 0, 0, 0, 0, 0, 1];
/// Labels of this many bytes carry data out; below the 63 that a label may have.
const TUNNEL_LABEL_BYTES: usize = 48;
/// Bytes of an `int`, as `setsockopt` takes it.
const INT_BYTES: i32 = 4;

/// Goes there.
pub(crate) fn visit(how: &How) -> Vec<Try> {
    match how {
        How::Tcp { to } => vec![connect(*to)],
        How::Udp { to } => vec![exchange(format!("sends a datagram to {to}"), bound(to.ip()), *to, GREETING)],
        How::UdpLite { to } => {
            vec![exchange(format!("sends a UDP-Lite datagram to {to}"), lite(to.ip()), *to, GREETING)]
        }
        How::Ping { to } => vec![ping(*to)],
        How::Spoof { from, to } => {
            vec![exchange(format!("sends a datagram to {to} as {from}"), borrowed(*from), *to, GREETING)]
        }
        How::Resolve { host } => resolve(host).into_iter().map(|(tried, _)| tried).collect(),
        How::Connect { host, port } => {
            let addresses: Vec<IpAddr> = resolve(host).into_iter().flat_map(|(_, addresses)| addresses).collect();
            match &addresses[..] {
                [] => vec![Try::refused(format!("looks up {host}"), "no address")],
                all => all.iter().map(|address| connect(SocketAddr::new(*address, *port))).collect(),
            }
        }
        How::Dns { server, over, host } => vec![match over {
            Transport::Udp => answered(format!("asks {server} for {host}"), dns::ask_udp(*server, host, dns::A)).0,
            Transport::Tcp => answered(format!("asks {server} for {host}"), dns::ask_tcp(*server, host, dns::A)).0,
        }],
        How::Tunnel { below } => tunnel(below),
    }
}

/// Connects; whoever accepts was reached, whatever is said then.
pub(crate) fn connect(to: SocketAddr) -> Try {
    let what = format!("connects to {to}");
    match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(stream) => Try::reached(what, format!("connected; {}", conversation(stream))),
        Err(error) => Try::refused(what, error),
    }
}

fn conversation(mut stream: TcpStream) -> String {
    let mut answer = [0; ANSWER_MAX_BYTES];
    let said = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(GREETING))
        .and_then(|()| stream.read(&mut answer));
    match said {
        Ok(count) => format!("it said {:?}", String::from_utf8_lossy(&answer[..count])),
        Err(error) => format!("it said nothing: {error}"),
    }
}

/// Sends, and waits for any answer: one counts as reached, and nothing else does.
fn exchange(what: String, socket: io::Result<UdpSocket>, to: SocketAddr, words: &[u8]) -> Try {
    let mut answer = [0; ANSWER_MAX_BYTES];
    let answered = socket.and_then(|socket| {
        socket.set_read_timeout(Some(PATIENCE))?;
        // Not connected: a multicast is answered from another address.
        socket.send_to(words, to)?;
        socket.recv_from(&mut answer)
    });
    match answered {
        Ok((count, from)) => Try::reached(what, format!("{count} bytes from {from}")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Try::refused(what, "no answer"),
        Err(error) => Try::refused(what, error),
    }
}

/// A datagram socket for the family of `peer`.
fn bound(peer: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(match peer {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    })
}

/// The number of an address's family.
fn family(peer: IpAddr) -> i32 {
    if peer.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

fn lite(peer: IpAddr) -> io::Result<UdpSocket> {
    socket(family(peer), libc::SOCK_DGRAM, UDP_LITE).map(UdpSocket::from)
}

fn ping(to: IpAddr) -> Try {
    let (protocol, echo) = if to.is_ipv4() { (libc::IPPROTO_ICMP, ECHO_V4) } else { (libc::IPPROTO_ICMPV6, ECHO_V6) };
    let socket = socket(family(to), libc::SOCK_DGRAM, protocol).map(UdpSocket::from);
    exchange(format!("pings {to}"), socket, SocketAddr::new(to, 0), &echo)
}

/// A socket under an address that is not its own, which Linux lets everybody bind to.
fn borrowed(from: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut one = Page::new().with(0, 1_i32.to_ne_bytes());
    sys!(SYS_setsockopt, socket.as_raw_fd(), libc::SOL_IP, libc::IP_FREEBIND, &mut one, INT_BYTES)?;
    // struct sockaddr_in: family, port, address.
    let family = u16::try_from(libc::AF_INET).map_err(io::Error::other)?;
    let mut address = Page::new().with(0, family.to_ne_bytes()).with(4, from.octets());
    sys!(SYS_bind, socket.as_raw_fd(), &mut address, 16)?;
    Ok(UdpSocket::from(socket))
}

/// The resolver that the bot was given, first of those that its file names.
fn resolver() -> Option<SocketAddr> {
    let file = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = file.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|server| server.trim().parse().ok()).map(|address| SocketAddr::new(address, 53)).next()
}

/// Looks a name up in both families.
fn resolve(host: &str) -> Vec<(Try, Vec<IpAddr>)> {
    let Some(server) = resolver() else {
        return vec![(Try::untried(format!("looks up {host}"), "no name server in /etc/resolv.conf"), Vec::new())];
    };
    let ask = |(name, kind)| answered(format!("looks up {host} ({name})"), dns::ask_udp(server, host, kind));
    [("A", dns::A), ("AAAA", dns::AAAA)].into_iter().map(ask).collect()
}

/// An address in an answer is what was wanted.
fn answered(what: String, answer: io::Result<Answer>) -> (Try, Vec<IpAddr>) {
    match answer {
        Ok(answer) if answer.addresses.is_empty() => (Try::refused(what, answer), Vec::new()),
        Ok(answer) => (Try::reached(what, &answer), answer.addresses),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Try::refused(what, "no answer"), Vec::new()),
        Err(error) => (Try::refused(what, error), Vec::new()),
    }
}

/// Asks for names that carry data, in every kind that tunnels use. Any record in an answer is a way back in.
fn tunnel(below: &str) -> Vec<Try> {
    let Some(server) = resolver() else {
        return vec![Try::untried(format!("asks for names below {below}"), "no name server in /etc/resolv.conf")];
    };
    let kinds = [
        ("A", dns::A),
        ("AAAA", dns::AAAA),
        ("TXT", dns::TXT),
        ("NULL", dns::NULL),
        ("CNAME", dns::CNAME),
        ("MX", dns::MX),
        ("HTTPS", dns::HTTPS),
    ];
    let ask = |(index, (name, kind)): (usize, (&str, u16))| {
        let data = format!("{index:0width$x}", width = TUNNEL_LABEL_BYTES);
        let what = format!("carries {TUNNEL_LABEL_BYTES} bytes out in a name below {below} ({name})");
        match dns::ask_udp(server, &format!("{data}.{below}"), kind) {
            Ok(answer) if answer.records > 0 => Try::reached(what, answer),
            Ok(answer) => Try::refused(what, answer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Try::refused(what, "no answer"),
            Err(error) => Try::refused(what, error),
        }
    };
    kinds.into_iter().enumerate().map(ask).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use launchpad_hostile::Outcome;

    use super::*;

    #[test]
    fn whoever_listens_is_reached_and_a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let there = std::thread::spawn(move || drop(listener.accept()));
        assert_eq!(visit(&How::Tcp { to: address })[0].outcome, Outcome::Reached);
        there.join().unwrap();
        assert_eq!(visit(&How::Tcp { to: address })[0].outcome, Outcome::Refused);
    }

    #[test]
    fn a_datagram_that_is_answered_has_reached() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap();
        let there = std::thread::spawn(move || {
            let (_, from) = peer.recv_from(&mut [0; 64]).unwrap();
            peer.send_to(b"here", from).unwrap();
        });
        assert_eq!(visit(&How::Udp { to: address })[0].outcome, Outcome::Reached);
        there.join().unwrap();
    }
}
