//! Stand-ins for the world outside: servers that carry the addresses which a hostile bot tries, and record
//! who came.
//!
//! Called by the scenario and the program of the contract, in a laboratory whose fabric is a namespace of its
//! own. Nothing there has a way out, so 8.8.8.8 is as safe an address as any.
//!
//! ```text
//!  host's namespace            fabric                                          one thread
//!  bot ─► bridge ─► eth0 ────► prerouting ─► 169.254.169.254, 10.1.2.3, … ───► [`serve`] answers, so that
//!           ▲                  [`wire`] counts every                           whoever came knows it
//!           │ a stand-in can   address, protocol and port                        ▼
//!           └ listen in here                                                   [`record`] of every connection,
//!                                                                              datagram and question
//! ```
//!
//! Two records, because each sees what the other cannot: a server knows the question that was asked, the wire
//! knows packets that no server was waiting for. [`zone`] is what the DNS servers say; [`cast`] is who plays
//! in the contract.
//!
//! What never happens here: a judgement. A stand-in answers everybody; the scenario decides who should not
//! have come.

pub mod cast;
pub mod record;
mod serve;
pub mod wire;
pub mod zone;

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::{fs, thread};

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::netns::ip;
use record::Record;
use wire::Wire;
use zone::Zone;

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

/// A port on which a stand-in waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// For connections.
    Tcp(u16),
    /// For datagrams.
    Udp(u16),
}

/// Sockets that wait for visitors, in the namespace in which they were opened.
#[derive(Debug)]
pub struct Sockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Sockets {
    /// Opens these ports of `address` in the calling thread's namespace.
    ///
    /// # Errors
    /// When one is taken, or the address is nobody's here.
    pub fn open(address: IpAddr, ports: &[Port]) -> Result<Self> {
        let mut sockets = Self { tcp: Vec::new(), udp: Vec::new() };
        for port in ports {
            match *port {
                Port::Tcp(port) => {
                    let at = SocketAddr::new(address, port);
                    sockets.tcp.push(TcpListener::bind(at).with_context(|| format!("listen on {at}, tcp"))?);
                }
                Port::Udp(port) => {
                    let at = SocketAddr::new(address, port);
                    sockets.udp.push(UdpSocket::bind(at).with_context(|| format!("listen on {at}, udp"))?);
                }
            }
        }
        for socket in &sockets.tcp {
            socket.set_nonblocking(true)?;
        }
        for socket in &sockets.udp {
            socket.set_nonblocking(true)?;
        }
        Ok(sockets)
    }
}

/// All stand-ins of a laboratory. Dropping it ends them; their addresses end with the fabric.
#[derive(Debug)]
pub struct World {
    record: Record,
    wire: Wire,
    tasks: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// An empty world around the calling thread's namespace, which must be a fabric:
    /// [`crate::lab::Lab::world`] is the way here.
    ///
    /// # Errors
    /// When nft or a thread cannot be had.
    pub(crate) fn start() -> Result<Self> {
        let wire = Wire::watch()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let tasks = runtime.handle().clone();
        let thread = thread::Builder::new().name("stand-ins".to_owned()).spawn(move || {
            // An error is the sender's end: the same.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { record: Record::default(), wire, tasks, stop: Some(stop), thread: Some(thread) })
    }

    /// Adds a stand-in that carries `address` and waits on these ports.
    ///
    /// # Errors
    /// When the address cannot be added, or a port is taken.
    pub fn stand_in(&self, name: &str, address: &str, ports: &[Port]) -> Result<()> {
        let address = carry(address)?;
        self.listen(name, Sockets::open(address, ports)?)
    }

    /// Adds a stand-in that waits on sockets which were opened elsewhere: inside a host, or inside a bot's
    /// neighbour.
    ///
    /// # Errors
    /// When the sockets cannot be waited on.
    pub fn listen(&self, name: &str, sockets: Sockets) -> Result<()> {
        let _inside = self.tasks.enter();
        for socket in sockets.tcp {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            self.tasks.spawn(serve::connections(socket, name.to_owned(), self.record.clone()));
        }
        for socket in sockets.udp {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            self.tasks.spawn(serve::datagrams(socket, name.to_owned(), self.record.clone()));
        }
        Ok(())
    }

    /// Adds a DNS server that carries `address` and says what is in `zone`, which may change meanwhile.
    ///
    /// # Errors
    /// As [`World::stand_in`].
    pub fn dns(&self, name: &str, address: &str, zone: &Arc<Mutex<Zone>>) -> Result<()> {
        let sockets = Sockets::open(carry(address)?, &[Port::Tcp(DNS_PORT), Port::Udp(DNS_PORT)])?;
        let _inside = self.tasks.enter();
        let server = serve::NameServer { name: name.to_owned(), zone: Arc::clone(zone), record: self.record.clone() };
        for socket in sockets.tcp {
            self.tasks.spawn(server.clone().by_connection(tokio::net::TcpListener::from_std(socket)?));
        }
        for socket in sockets.udp {
            self.tasks.spawn(server.clone().by_datagram(tokio::net::UdpSocket::from_std(socket)?));
        }
        Ok(())
    }

    /// Who came to which stand-in.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What came over the links, whether or not anybody waited for it.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Forgets who came so far.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn forget(&self) -> Result<()> {
        self.record.forget();
        self.wire.forget()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread has ended already: nothing to stop.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Has the fabric carry `address`, if it does not yet.
fn carry(address: &str) -> Result<IpAddr> {
    let parsed: IpAddr = address.parse().with_context(|| format!("`{address}` is no address"))?;
    if Sockets::open(parsed, &[Port::Udp(0)]).is_err() {
        let whole = if parsed.is_ipv4() { "32" } else { "128" };
        // Without the search for duplicates, during which an IPv6 address cannot be used yet.
        let nodad: &[&str] = if parsed.is_ipv4() { &[] } else { &["nodad"] };
        ip(&[&["address", "add", &format!("{address}/{whole}"), "dev", "lo"], nodad].concat())?;
    }
    Ok(parsed)
}

/// Opens sockets in the network namespace of the process `pid`, such as a container's first one.
///
/// # Errors
/// When the process is gone, or a port is taken there.
pub fn open_beside(pid: u64, address: IpAddr, ports: &[Port]) -> Result<Sockets> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(&path).with_context(|| format!("open {path}"))?;
    crate::netns::inside(namespace, || Sockets::open(address, ports))
}
