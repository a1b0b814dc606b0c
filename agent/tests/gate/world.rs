//! Stand-ins for the world: servers that note who came and send back what they get, and a name server.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use crate::lab::{AT_ONCE, Bot, until, within};

/// A server at one address, which ends with the test's process.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    visitors: Arc<Mutex<Vec<IpAddr>>>,
}

impl Server {
    /// Listens there, in that namespace.
    pub(crate) fn at(namespace: &str, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let listener = within(namespace, move || TcpListener::bind(address).unwrap());
        let server = Self { visitors: Arc::default() };
        let noted = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                noted.visitors.lock().unwrap().push(stream.peer_addr().map_or([0, 0, 0, 0].into(), |peer| peer.ip()));
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..length]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    /// How often somebody came.
    pub(crate) fn visits(&self) -> usize {
        self.visitors.lock().unwrap().len()
    }

    /// That somebody came that often and not more: who is connected may not be accepted yet.
    #[track_caller]
    pub(crate) fn was_visited(&self, times: usize) {
        until(&format!("{times} visits, not {}", self.visits()), || self.visits() >= times);
        assert_eq!(self.visits(), times);
    }

    /// From where somebody came last.
    pub(crate) fn last_visitor(&self) -> IpAddr {
        *self.visitors.lock().unwrap().last().expect("a visitor")
    }
}

/// Answers questions for addresses in that namespace, at that address's port 53; nothing for names that it does not know.
pub(crate) fn name_server(namespace: &str, at: Ipv4Addr, names: &[(&str, Ipv4Addr)]) {
    let socket = within(namespace, move || UdpSocket::bind((at, 53)).unwrap());
    let names: BTreeMap<Vec<u8>, Ipv4Addr> = names.iter().map(|(name, address)| (encoded(name), *address)).collect();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            // Header, name with its final zero, type and class.
            let end = query[12..].iter().position(|byte| *byte == 0).unwrap() + 12 + 1;
            let name = query[12..end].to_ascii_lowercase();
            let mut answer = query[..end + 4].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
            if let Some(address) = names.get(&name) {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address.octets());
            } else {
                answer[3] |= 3;
            }
            let _ = socket.send_to(&answer, from);
        }
    });
}

/// Asks the bot's own name server for an address.
pub(crate) fn resolve(bot: &Bot, name: &str) -> Option<Ipv4Addr> {
    let server = bot.tenant.told().gateway();
    let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(encoded(name));
    query.extend([0, 1, 0, 1]);
    within(&bot.namespace, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(AT_ONCE)).unwrap();
        socket.send_to(&query, (server, 53)).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).ok()?;
        let answer = &answer[..length];
        // The only answer's address stands last, where nothing follows it; a pseudo-record of EDNS is not asked for.
        let address: [u8; 4] = *answer.last_chunk()?;
        (answer[7] > 0).then(|| address.into())
    })
}

fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}
