//! One tenant's connections (RFC 7766). The questions of one are answered in turn, as it sends them, so that
//! however many it sends take one place.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use launchpad_protocol::id::AccountId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::clerk::{Clerk, Heard};
use super::super::question::QUESTION_MAX_BYTES;
use super::super::reply::Way;
use super::super::turnstile::Turnstile;
use super::super::verdict::Sender;

/// How long a connection may say nothing, take to send one question, or leave an answer untaken (RFC 7766
/// §6.2.3: some seconds).
const IDLE_MAX: Duration = Duration::from_secs(5);

/// After the kernel could not hand out a connection, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is dropped. Its connections end with it.
pub(super) async fn answer(
    clerk: Arc<Clerk>,
    tenant: AccountId,
    listener: TcpListener,
    places: Arc<Mutex<Turnstile>>,
) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%tenant, %error, "no connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        let SocketAddr::V4(from) = from else { continue };
        let sender = Sender { tenant, address: *from.ip() };
        // Whoever has his share, or is nobody's bot, finds the connection closed.
        if !clerk.knows(sender) {
            continue;
        }
        let Some(place) = Turnstile::enter(&places, sender.address) else { continue };
        let clerk = Arc::clone(&clerk);
        open.spawn(async move {
            if let Err(error) = converse(&clerk, sender, stream).await {
                tracing::debug!(%tenant, %error, "a connection ended");
            }
            drop(place);
        });
    }
}

/// Until the bot closes, falls silent, or sends what is no question.
async fn converse(clerk: &Clerk, sender: Sender, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let Some(bytes) = timeout(IDLE_MAX, question(&mut stream)).await?? else { return Ok(()) };
        let reply = match clerk.hear(sender, &bytes, Way::Tcp) {
            Heard::Silence => return Ok(()),
            Heard::Reply(reply) => reply,
            Heard::Pending(pending) => clerk.finish(pending).await,
        };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        timeout(IDLE_MAX, stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat())).await??;
    }
}

/// The next question's bytes; none: it announces more than a question has.
async fn question(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_MAX_BYTES {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}
