//! A server that is asked for names, by datagram and on connections, and does as the test says.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What it says to a question.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// These records, in the answer.
    Records(Vec<Record>),
    /// That it failed, or that there is no such name.
    Code(ResponseCode),
    /// Nothing.
    Nothing,
    /// By datagram that it is too long for one; on a connection these.
    CutShort(Vec<Record>),
    /// First bytes that nobody can read, answers to other questions and with other numbers; then these.
    AfterNoise(Vec<Record>),
    /// Bytes that nobody can read, with the question's number.
    Garbage,
    /// These, to a question for another name.
    Astray(Vec<Record>),
    /// These, once the test lets go of one.
    Held(Vec<Record>),
}

/// One question that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) name: String,
    pub(crate) by_connection: bool,
    pub(crate) from: SocketAddr,
    pub(crate) id: u16,
    pub(crate) wanted: String,
}

/// A server. It ends when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

struct Inner {
    zone: Mutex<BTreeMap<String, Says>>,
    came: Mutex<Vec<Came>>,
    held: Semaphore,
}

impl Server {
    pub(crate) async fn new() -> Self {
        // Another port than the connections' may be taken: until one is free for both.
        let (datagrams, connections) = loop {
            let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
            let address = datagrams.local_addr().expect("its address");
            if let Ok(connections) = TcpListener::bind(address).await {
                break (datagrams, connections);
            }
        };
        let address = datagrams.local_addr().expect("its address");
        let inner = Arc::new(Inner { zone: Mutex::default(), came: Mutex::default(), held: Semaphore::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&inner).answer_datagrams(Arc::new(datagrams)));
        tasks.spawn(Arc::clone(&inner).answer_connections(connections));
        Self { address, inner, _tasks: tasks }
    }

    /// What it says to questions for a name; to others nothing.
    pub(crate) fn says(&self, name: &str, says: Says) {
        self.inner.zone.lock().unwrap().insert(name.to_owned(), says);
    }

    /// Who came, in order.
    pub(crate) fn came(&self) -> Vec<Came> {
        self.inner.came.lock().unwrap().clone()
    }

    pub(crate) fn let_go(&self, answers: usize) {
        self.inner.held.add_permits(answers);
    }
}

impl Inner {
    async fn answer_datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut answers = JoinSet::new();
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            let (inner, socket) = (Arc::clone(&self), Arc::clone(&socket));
            answers.spawn(async move {
                for datagram in inner.answer(&question, from, false).await {
                    socket.send_to(&datagram, from).await.expect("a datagram sent");
                }
            });
        }
    }

    async fn answer_connections(self: Arc<Self>, listener: TcpListener) {
        let mut answers = JoinSet::new();
        while let Ok((stream, from)) = listener.accept().await {
            answers.spawn(Arc::clone(&self).converse(stream, from));
        }
    }

    async fn converse(self: Arc<Self>, mut stream: TcpStream, from: SocketAddr) {
        let length = stream.read_u16().await.expect("a length");
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.expect("a question");
        let question = Message::from_vec(&bytes).expect("a question");
        for answer in self.answer(&question, from, true).await {
            let length = u16::try_from(answer.len()).expect("short");
            stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat()).await.expect("an answer sent");
        }
    }

    async fn answer(&self, question: &Message, from: SocketAddr, by_connection: bool) -> Vec<Vec<u8>> {
        let query = &question.queries[0];
        let name = query.name().to_ascii().trim_end_matches('.').to_owned();
        let (id, wanted) = (question.metadata.id, query.query_type().to_string());
        self.came.lock().unwrap().push(Came { name: name.clone(), by_connection, from, id, wanted });
        let says = self.zone.lock().unwrap().get(&name).cloned().unwrap_or(Says::Nothing);
        let bytes = |message: Message| message.to_vec().expect("bytes");
        let records = |records: Vec<Record>| bytes(with(reply(question), records));
        match says {
            Says::Nothing => Vec::new(),
            Says::Records(list) => vec![records(list)],
            Says::Code(code) => {
                let mut reply = reply(question);
                reply.metadata.response_code = code;
                vec![bytes(reply)]
            }
            Says::CutShort(list) if by_connection => vec![records(list)],
            Says::CutShort(_) => vec![bytes(reply(question).truncate())],
            Says::AfterNoise(list) => {
                let mut other = reply(question);
                other.metadata.id = id.wrapping_add(1);
                vec![b"noise".to_vec(), bytes(other), Vec::new(), records(list)]
            }
            Says::Garbage => vec![[&id.to_be_bytes(), &b"\xff\xff\x00\x01 garbage"[..]].concat()],
            Says::Astray(list) => {
                let mut other = reply(question);
                other.queries[0].set_name(absolute("another.example.com"));
                vec![bytes(with(other, list))]
            }
            Says::Held(list) => {
                self.held.acquire().await.expect("open").forget();
                vec![records(list)]
            }
        }
    }
}

fn reply(question: &Message) -> Message {
    let mut reply = Message::response(question.metadata.id, OpCode::Query);
    reply.add_queries(question.queries.iter().cloned());
    reply
}

fn with(mut message: Message, records: Vec<Record>) -> Message {
    message.add_answers(records);
    message
}

/// Records of that name's addresses.
pub(crate) fn leads(name: &str, ttl: u32, to: &[[u8; 4]]) -> Vec<Record> {
    to.iter().map(|to| Record::from_rdata(absolute(name), ttl, RData::A(A((*to).into())))).collect()
}

/// A record by which one name is another.
pub(crate) fn alias(name: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(absolute(name), ttl, RData::CNAME(CNAME(absolute(target))))
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).expect("a name")
}
