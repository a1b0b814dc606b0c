//! What stand-ins do: take whoever comes, write it down, and answer, so that the visitor knows that it
//! arrived.
//!
//! Called by [`super::World`], on its one thread. A visit is written down before it is answered.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::record::{Arrival, By, Record};
use super::zone::{Zone, plain};

/// Of what a visitor says.
const WORDS_MAX_BYTES: usize = 2048;
/// A visitor that says nothing is answered all the same, after this.
const PATIENCE: Duration = Duration::from_millis(200);
/// A DNS client that keeps its connection open is let go after this.
const IDLE: Duration = Duration::from_secs(10);

/// Takes connections for ever.
pub(super) async fn connections(listener: TcpListener, stand_in: String, record: Record) {
    loop {
        // A visitor that left before it was taken leaves an error; the next may be there already.
        let Ok((mut stream, from)) = listener.accept().await else { continue };
        let Ok(to) = stream.local_addr() else { continue };
        record.write(Arrival { stand_in: stand_in.clone(), to, from, by: By::Connection });
        let words = format!("HTTP/1.0 200 OK\r\n\r\nstand-in {stand_in}\n");
        tokio::spawn(async move {
            let mut heard = [0; WORDS_MAX_BYTES];
            // Whatever it says, or nothing.
            let _ = timeout(PATIENCE, stream.read(&mut heard)).await;
            let _ = stream.write_all(words.as_bytes()).await;
        });
    }
}

/// Takes datagrams for ever.
pub(super) async fn datagrams(socket: UdpSocket, stand_in: String, record: Record) {
    let mut heard = [0; WORDS_MAX_BYTES];
    loop {
        // An error is a report on an answer of ours that nobody took.
        let Ok((_, from)) = socket.recv_from(&mut heard).await else { continue };
        let Ok(to) = socket.local_addr() else { continue };
        record.write(Arrival { stand_in: stand_in.clone(), to, from, by: By::Datagram });
        let _ = socket.send_to(format!("stand-in {stand_in}\n").as_bytes(), from).await;
    }
}

/// A DNS server.
#[derive(Debug, Clone)]
pub(super) struct NameServer {
    pub(super) name: String,
    pub(super) zone: Arc<Mutex<Zone>>,
    pub(super) record: Record,
}

impl NameServer {
    /// Answers datagrams for ever.
    pub(super) async fn by_datagram(self, socket: UdpSocket) {
        let mut heard = [0; WORDS_MAX_BYTES];
        loop {
            let Ok((count, from)) = socket.recv_from(&mut heard).await else { continue };
            let Ok(to) = socket.local_addr() else { continue };
            if let Some(answer) = self.answer(&heard[..count], to, from) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }

    /// Answers connections for ever.
    pub(super) async fn by_connection(self, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else { continue };
            tokio::spawn(timeout(IDLE, self.clone().conversation(stream, from)));
        }
    }

    /// Answers one question after the other, until the client goes.
    async fn conversation(self, mut stream: TcpStream, from: SocketAddr) -> std::io::Result<()> {
        let to = stream.local_addr()?;
        // A connection without a question is a visit, too.
        self.record.write(Arrival { stand_in: self.name.clone(), to, from, by: By::Connection });
        loop {
            let mut question = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut question).await?;
            let Some(answer) = self.answer(&question, to, from) else { return Ok(()) };
            let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
            stream.write_u16(length).await?;
            stream.write_all(&answer).await?;
        }
    }

    /// Writes the question down and answers it. What is no question is written down as a datagram, and not
    /// answered.
    fn answer(&self, bytes: &[u8], to: SocketAddr, from: SocketAddr) -> Option<Vec<u8>> {
        let asked = Message::from_vec(bytes).ok();
        let question = asked.as_ref().and_then(|asked| asked.queries.first());
        let by = question.map_or(By::Datagram, |question| By::Question {
            name: plain(question.name()),
            kind: question.query_type().to_string(),
        });
        self.record.write(Arrival { stand_in: self.name.clone(), to, from, by });
        let zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.answer(&asked?).ok()?.to_vec().ok()
    }
}
