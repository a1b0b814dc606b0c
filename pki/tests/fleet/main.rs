//! The PKI and the fleet link over real sockets on 127.0.0.1: who gets in, who does not, and what stays open.
//!
//! `world.rs` makes an installation: CA, listener, hosts. `relay.rs` is the bad network between them.

mod relay;
mod world;

mod certificates;
mod enrolment;
mod grpc;
mod reload;
mod renewal;
mod revocation;
mod rotation;
mod route;
mod trust;
