//! The HTTP API of a whole coordinator, over a socket: who may do what, what is refused and how, what happens once.

#[path = "api/authorisation.rs"]
mod authorisation;
#[path = "api/contract.rs"]
mod contract;
#[path = "api/lab.rs"]
mod lab;
#[path = "api/name_server.rs"]
mod name_server;
#[path = "api/once.rs"]
mod once;
#[path = "api/problems.rs"]
mod problems;
#[path = "api/resources.rs"]
mod resources;
#[path = "api/secrets.rs"]
mod secrets;
