//! A DNS client of a few lines: asks, and reads codes and addresses. It trusts nothing but its own test
//! world's servers.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Kinds of record, with their numbers.
pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const NULL: u16 = 10;
pub(crate) const MX: u16 = 15;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const HTTPS: u16 = 65;

/// A resolver that asks its own upstream first answers within a second or two, or never.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of a datagram; nothing larger is asked for.
const ANSWER_MAX_BYTES: usize = 4096;
/// Of the header.
const HEADER_BYTES: usize = 12;
/// Of type, class, TTL and length, after a record's name.
const RECORD_HEAD_BYTES: usize = 10;
/// RFC 1035 §2.3.4.
const LABEL_MAX_BYTES: usize = 63;
/// The Internet's class.
const IN: u16 = 1;

/// Apart from each other within a process, apart from other processes by its id.
static QUESTION: AtomicU16 = AtomicU16::new(0);

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 is "no error", 3 "no such name", 5 "refused".
    pub(crate) code: u8,
    /// Records in the answer, of any kind.
    pub(crate) records: usize,
    /// The addresses among them.
    pub(crate) addresses: Vec<IpAddr>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}, {} records, addresses {:?}", self.code, self.records, self.addresses)
    }
}

/// Asks `server` by one datagram.
pub(crate) fn ask_udp(server: SocketAddr, name: &str, kind: u16) -> io::Result<Answer> {
    let local = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((local, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(&question(name, kind)?)?;
    let mut buffer = [0; ANSWER_MAX_BYTES];
    let count = socket.recv(&mut buffer)?;
    parse(&buffer[..count])
}

/// Asks `server` over a connection.
pub(crate) fn ask_tcp(server: SocketAddr, name: &str, kind: u16) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let question = question(name, kind)?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    parse(&answer)
}

/// The bytes of a question that asks for recursion.
fn question(name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let number = QUESTION.fetch_add(1, Ordering::Relaxed) ^ (process::id() as u16);
    let mut bytes = [number, 0x0100, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > LABEL_MAX_BYTES {
            return Err(io::Error::other(format!("`{name}` is no name")));
        }
        // At most 63, so it fits.
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend([kind, IN].map(u16::to_be_bytes).concat());
    Ok(bytes)
}

/// Reads an answer; one that ends in the middle of a record is an error.
fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let cut = || io::Error::other("a DNS answer that is cut off");
    let number = |at: usize| -> io::Result<u16> {
        let pair = bytes.get(at..at + 2).ok_or_else(cut)?;
        Ok(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let mut at = HEADER_BYTES;
    for _ in 0..number(4)? {
        at = after_name(bytes, at).ok_or_else(cut)? + 4;
    }
    let records = usize::from(number(6)?);
    let mut addresses = Vec::new();
    for _ in 0..records {
        at = after_name(bytes, at).ok_or_else(cut)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = bytes.get(at + RECORD_HEAD_BYTES..at + RECORD_HEAD_BYTES + length).ok_or_else(cut)?;
        match kind {
            A => addresses.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
            AAAA => addresses.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
            _ => {}
        }
        at += RECORD_HEAD_BYTES + length;
    }
    Ok(Answer { code: bytes.get(3).ok_or_else(cut)? & 0x0f, records, addresses })
}

/// Where a name that starts at `at` ends: at its zero, or after a pointer.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 != 0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_asks_for_one_name_with_recursion() {
        let bytes = question("a.test.", A).unwrap();
        assert_eq!(&bytes[2..], b"\x01\x00\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01");
        assert!(question("a..test", A).is_err() && question(&"x".repeat(64), A).is_err());
    }

    #[test]
    fn an_answer_gives_its_code_and_addresses_past_pointers_and_other_records() {
        let mut bytes = question("a.test", A).unwrap();
        bytes[3] = 0x80;
        bytes[7] = 2;
        // A CNAME to `b` below the question's name, then its address.
        bytes.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0e");
        bytes.extend(b"\x01b\xc0\x0e\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07");
        let answer = parse(&bytes).unwrap();
        assert_eq!(answer, Answer { code: 0, records: 2, addresses: vec!["203.0.113.7".parse().unwrap()] });
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
