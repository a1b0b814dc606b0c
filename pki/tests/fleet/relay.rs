//! The network between a host and a coordinator, with its faults: datagrams that vanish, a coordinator that
//! is another one than a moment ago.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::world::any_port;

/// Forwards UDP and TCP from one port of its own to another, for one client.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    to: Arc<AtomicU16>,
    udp_drops: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let (listener, outside) = loop {
            let listener = TcpListener::bind(any_port()).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, udp);
            }
        };
        let address = listener.local_addr().unwrap();
        let to = Arc::new(AtomicU16::new(server.port()));
        let udp_drops = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(outside, Arc::clone(&to), Arc::clone(&udp_drops)));
        tasks.spawn(connections(listener, Arc::clone(&to)));
        Self { address, to, udp_drops, _tasks: tasks }
    }

    /// From now on it leads to another server.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        self.to.store(server.port(), Ordering::SeqCst);
    }

    /// From now on datagrams vanish.
    pub(crate) fn drop_udp(&self) {
        self.udp_drops.store(true, Ordering::SeqCst);
    }
}

async fn datagrams(outside: UdpSocket, to: Arc<AtomicU16>, drops: Arc<AtomicBool>) {
    let inside = UdpSocket::bind(any_port()).await.unwrap();
    let mut client = None;
    let (mut out, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            Ok((length, from)) = outside.recv_from(&mut out) => {
                client = Some(from);
                if !drops.load(Ordering::SeqCst) {
                    let server = SocketAddr::new(from.ip(), to.load(Ordering::SeqCst));
                    drop(inside.send_to(&out[..length], server).await);
                }
            }
            Ok((length, from)) = inside.recv_from(&mut back) => {
                // What the old server still says is lost with it.
                let current = from.port() == to.load(Ordering::SeqCst);
                if let (Some(client), true, false) = (client, current, drops.load(Ordering::SeqCst)) {
                    drop(outside.send_to(&back[..length], client).await);
                }
            }
        }
    }
}

async fn connections(listener: TcpListener, to: Arc<AtomicU16>) {
    let mut open = JoinSet::new();
    while let Ok((mut client, from)) = listener.accept().await {
        let server = SocketAddr::new(from.ip(), to.load(Ordering::SeqCst));
        open.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(server).await {
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            }
        });
    }
}
