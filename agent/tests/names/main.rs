//! The bots' name server on real sockets: bots, gateways and the servers that it asks are addresses of 127/8,
//! so that no root is needed and nothing leaves the machine.
//!
//! - `ground.rs`: a name server, a kernel that takes all it is told, a witness. `bot.rs`: who asks.
//!   `server.rs`: the servers that are asked, which do as each test says.
//! - `answers.rs`, `servers.rs`, `abuse.rs`, `listening.rs`: what is proved.

mod abuse;
mod answers;
mod bot;
mod ground;
mod listening;
mod server;
mod servers;
