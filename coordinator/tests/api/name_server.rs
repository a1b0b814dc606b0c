//! A name server on loopback that knows what a test tells it: TXT records, over UDP.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record};

/// What it knows: texts by name in lower case, with a final dot.
type Zone = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// Seconds for which an answer may be believed.
const TTL: u32 = 60;
/// The longest datagram that a resolver of ours sends.
const QUERY_MAX_BYTES: usize = 1500;

/// A running name server.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Zone,
    _thread: JoinHandle<()>,
}

impl NameServer {
    /// Starts one that knows nothing. It ends with the process.
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Zone::default());
        let known = Arc::clone(&zone);
        let thread = std::thread::spawn(move || serve(&socket, &known));
        Self { address, zone, _thread: thread }
    }

    /// Sets the texts of a name; none: there is no such name.
    pub(crate) fn set(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.zone.lock().unwrap().insert(format!("{name}."), texts);
    }
}

fn serve(socket: &UdpSocket, zone: &Zone) {
    let mut buffer = [0; QUERY_MAX_BYTES];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        let _sent = socket.send_to(&answer(&query, zone).to_vec().unwrap(), from);
    }
}

fn answer(query: &Message, zone: &Zone) -> Message {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&query.queries);
    let Some(asked) = query.queries.first() else { return answer };
    let texts = zone.lock().unwrap().get(&asked.name().to_string().to_lowercase()).cloned().unwrap_or_default();
    if texts.is_empty() {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    for text in texts {
        // A long text travels in parts of at most 255 bytes.
        let parts = text.as_bytes().chunks(100).map(|part| String::from_utf8(part.to_vec()).unwrap());
        let data = RData::TXT(TXT::new(parts.collect()));
        answer.answers.push(Record::from_rdata(asked.name().clone(), TTL, data));
    }
    answer
}
