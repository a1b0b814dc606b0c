//! Who may be reached: the visits that were ordered, its own gateway, and whatever IPv6 there is.
//!
//! What a bot sees of the network is half of the proof: a datagram that gets through and is not answered
//! looks like one that was dropped. The other half is what the places that it visits have recorded.

mod dns;
mod inside;
mod visit;

use launchpad_hostile::{How, Transport};

use crate::attack::Attack;
pub(crate) use visit::visit;

/// The attacks of this room that need no orders.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "gateway", aim: "connects to services of its gateway, the host", run: inside::gateway },
    Attack { name: "ipv6", aim: "speaks IPv6 to its link", run: inside::ipv6 },
];

/// What a visit tries.
pub(crate) fn aim(how: &How) -> String {
    match how {
        How::Tcp { to } => format!("connects to {to}"),
        How::Udp { to } => format!("sends a datagram to {to}"),
        How::UdpLite { to } => format!("sends a UDP-Lite datagram to {to}"),
        How::Ping { to } => format!("pings {to}"),
        How::Spoof { from, to } => format!("sends a datagram to {to} as {from}"),
        How::Resolve { host } => format!("looks up {host}"),
        How::Connect { host, port } => format!("looks up {host} and connects to port {port}"),
        How::Dns { server, over: Transport::Udp, host } => format!("asks {server} for {host}"),
        How::Dns { server, over: Transport::Tcp, host } => format!("asks {server} for {host} over TCP"),
        How::Tunnel { below } => format!("carries data out in names below {below}"),
    }
}
