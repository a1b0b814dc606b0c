//! The network between an agent and a coordinator: one port, UDP and TCP, on which datagrams may vanish.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// Forwards UDP and TCP to a coordinator, for one agent.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    udp_drops: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// A relay that forwards TCP, and lets datagrams vanish until it is told otherwise.
    pub(crate) async fn without_udp(to: SocketAddr) -> Self {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let (listener, outside) = loop {
            let listener = TcpListener::bind(any).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, udp);
            }
        };
        let address = listener.local_addr().unwrap();
        let udp_drops = Arc::new(AtomicBool::new(true));
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(outside, to, Arc::clone(&udp_drops)));
        tasks.spawn(connections(listener, to));
        Self { address, udp_drops, _tasks: tasks }
    }

    /// From now on datagrams arrive.
    pub(crate) fn let_udp_through(&self) {
        self.udp_drops.store(false, Ordering::SeqCst);
    }
}

async fn datagrams(outside: UdpSocket, to: SocketAddr, drops: Arc<AtomicBool>) {
    let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut client = None;
    let (mut out, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            Ok((length, from)) = outside.recv_from(&mut out) => {
                client = Some(from);
                if !drops.load(Ordering::SeqCst) {
                    drop(inside.send_to(&out[..length], to).await);
                }
            }
            Ok((length, _)) = inside.recv_from(&mut back) => {
                if let Some(client) = client {
                    drop(outside.send_to(&back[..length], client).await);
                }
            }
        }
    }
}

async fn connections(listener: TcpListener, to: SocketAddr) {
    let mut open = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        open.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            }
        });
    }
}
