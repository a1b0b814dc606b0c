//! One tenant's datagrams. What is known is answered at once; what is not waits beside, so that it holds up
//! nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::id::AccountId;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::clerk::{Clerk, Heard};
use super::super::question::QUESTION_MAX_BYTES;
use super::super::reply::Way;
use super::super::verdict::Sender;

/// After the kernel could not hand out a datagram.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is dropped. Questions that wait are dropped with it.
pub(super) async fn answer(clerk: Arc<Clerk>, tenant: AccountId, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    // One more than a question may have, so that a longer one is seen to be too long.
    let mut buffer = [0; QUESTION_MAX_BYTES + 1];
    loop {
        while waiting.try_join_next().is_some() {}
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%tenant, %error, "no datagram");
                sleep(PAUSE).await;
                continue;
            }
        };
        let SocketAddr::V4(address) = from else { continue };
        let sender = Sender { tenant, address: *address.ip() };
        match clerk.hear(sender, buffer.get(..length).unwrap_or_default(), Way::Udp) {
            Heard::Silence => {}
            Heard::Reply(bytes) => reply(&socket, &bytes, from),
            Heard::Pending(pending) => {
                let (clerk, socket) = (Arc::clone(&clerk), Arc::clone(&socket));
                waiting.spawn(async move { reply(&socket, &clerk.finish(pending).await, from) });
            }
        }
    }
}

/// A reply for which the kernel has no room is lost, like any datagram: the client asks again.
fn reply(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    let _ = socket.try_send_to(bytes, to);
}
