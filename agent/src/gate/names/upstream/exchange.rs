//! One question to one server: by datagram, and on a connection where the answer is cut short.
//!
//! Each datagram leaves from a port of its own, which the kernel draws, with a number of its own, and on a
//! socket that hears that server alone: who cannot see the question must guess both to forge its answer (RFC
//! 5452).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::super::reply::UDP_MAX_BYTES;

/// Bytes of a datagram that are read: more than was said that we take, for servers that do not listen.
const DATAGRAM_MAX_BYTES: usize = 4096;

/// Datagrams of that server that are not the answer: late ones to an earlier question from the same port.
const STRAYS_MAX: usize = 16;

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Miss {
    /// Nothing came.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// What came is no answer to what was asked.
    #[error("it answers what was not asked, or what nobody can read")]
    Garbage,
    /// It says that it could not, or would not.
    #[error("it answers: {0}")]
    Code(ResponseCode),
}

impl Miss {
    /// Whether asking once more may help.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Silent(_) | Self::Unreachable(_) | Self::Garbage => true,
            Self::Code(_) => false,
        }
    }
}

/// Asks for a name's IPv4 addresses.
///
/// # Errors
/// [`Miss`] says why there is no answer; a name that does not exist is one.
pub(super) async fn ask(server: SocketAddr, name: &Name, within: Duration) -> Result<Message, Miss> {
    let query = Query::query(name.clone(), RecordType::A);
    // `query` draws its number.
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    let mut options = Edns::new();
    options.set_max_payload(UDP_MAX_BYTES);
    question.set_edns(options);
    let bytes = question.to_vec().map_err(|_| Miss::Garbage)?;
    let asked = Asked { id: question.metadata.id, query };

    let timed = |_| Miss::Silent(within);
    let mut answer = timeout(within, by_datagram(server, &bytes, &asked)).await.map_err(timed)??;
    if answer.metadata.truncation {
        answer = timeout(within, by_connection(server, &bytes, &asked)).await.map_err(timed)??;
    }
    let code = answer.metadata.response_code;
    let is_answer = [ResponseCode::NoError, ResponseCode::NXDomain].contains(&code);
    if is_answer { Ok(answer) } else { Err(Miss::Code(code)) }
}

async fn by_datagram(server: SocketAddr, bytes: &[u8], asked: &Asked) -> Result<Message, Miss> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    for _ in 0..STRAYS_MAX {
        let length = socket.recv(&mut buffer).await?;
        let datagram = buffer.get(..length).unwrap_or_default();
        if asked.is_numbered(datagram) {
            return asked.answered(datagram);
        }
    }
    Err(Miss::Garbage)
}

async fn by_connection(server: SocketAddr, bytes: &[u8], asked: &Asked) -> Result<Message, Miss> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| Miss::Garbage)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if asked.is_numbered(&answer) { asked.answered(&answer) } else { Err(Miss::Garbage) }
}

/// What an answer has to fit.
struct Asked {
    id: u16,
    query: Query,
}

impl Asked {
    fn is_numbered(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&self.id.to_be_bytes())
    }

    fn answered(&self, bytes: &[u8]) -> Result<Message, Miss> {
        // One question, looked at before room is made for as many as the head promises.
        if bytes.get(4..6) != Some(&[0, 1]) {
            return Err(Miss::Garbage);
        }
        let message = Message::from_vec(bytes).map_err(|_| Miss::Garbage)?;
        let fits = message.metadata.message_type == MessageType::Response
            && message.queries.iter().all(|query| {
                query.name() == self.query.name()
                    && query.query_type() == RecordType::A
                    && query.query_class() == DNSClass::IN
            });
        if fits { Ok(message) } else { Err(Miss::Garbage) }
    }
}
