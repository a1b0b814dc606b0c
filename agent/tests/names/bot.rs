//! Who asks: sockets with a bot's address.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::ground::{Ground, within};

/// A bot's datagrams.
pub(crate) struct Bot(UdpSocket);

impl Bot {
    /// The bot with that last byte.
    pub(crate) async fn new(ground: &Ground, last: u8) -> Self {
        Self::at(ground.address(last), ground.gateway()).await
    }

    /// One that asks at that gateway.
    pub(crate) async fn at(address: Ipv4Addr, gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind((address, 0)).await.expect("a bot's address");
        socket.connect(gateway).await.expect("its gateway");
        Self(socket)
    }

    pub(crate) async fn send(&self, bytes: &[u8]) {
        self.0.send(bytes).await.expect("a datagram sent");
    }

    pub(crate) async fn hear(&self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let length = within("a datagram", self.0.recv(&mut buffer)).await.expect("a datagram");
        buffer.truncate(length);
        buffer
    }

    /// Asks for a name's addresses.
    pub(crate) async fn ask(&self, name: &str) -> Message {
        self.wish(name, RecordType::A).await
    }

    pub(crate) async fn wish(&self, name: &str, wanted: RecordType) -> Message {
        let question = question(name, wanted);
        self.send(&question.to_vec().expect("bytes")).await;
        loop {
            let reply = Message::from_vec(&self.hear().await).expect("a message");
            // Answers to what this bot no longer waits for.
            if reply.metadata.id == question.metadata.id {
                return reply;
            }
        }
    }
}

pub(crate) fn question(name: &str, wanted: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), wanted));
    message
}

/// A connection from a bot's address.
pub(crate) async fn connect(ground: &Ground, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((ground.address(last), 0))).expect("a bot's address");
    within("a connection", socket.connect(ground.gateway())).await.expect("a connection")
}

/// One message with its length before it.
pub(crate) fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().expect("bytes");
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes(), bytes.as_slice()].concat()
}

pub(crate) async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("bytes sent");
}

/// The next message; none: the connection was closed.
pub(crate) async fn receive(stream: &mut TcpStream) -> Option<Message> {
    let length = within("an answer, or an end", stream.read_u16()).await.ok()?;
    let mut bytes = vec![0; usize::from(length)];
    within("an answer", stream.read_exact(&mut bytes)).await.expect("a whole answer");
    Some(Message::from_vec(&bytes).expect("a message"))
}

/// The addresses in a reply.
pub(crate) fn addresses(reply: &Message) -> Vec<Ipv4Addr> {
    let address = |record: &Record| {
        let RData::A(address) = &record.data else { panic!("a record of another type: {record}") };
        address.0
    };
    reply.answers.iter().map(address).collect()
}
