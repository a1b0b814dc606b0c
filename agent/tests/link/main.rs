//! The agent's link, enrolment and local socket against a small coordinator, over real sockets on 127.0.0.1.
//!
//! - `coordinator.rs`: the small coordinator: protocol, certificates, no store. `relay.rs`: a network with faults.
//! - `world.rs`: an installation, and an agent's link without a reconciler.
//! - `session.rs`, `routes.rs`, `answers.rs`, `certificates.rs`, `enrolment.rs`, `identity.rs`, `socket.rs`,
//!   `supervised.rs`: what is proved.

mod answers;
mod certificates;
mod coordinator;
mod enrolment;
mod identity;
mod relay;
mod routes;
mod session;
mod socket;
mod supervised;
mod world;
