//! The agent's hands and eyes on a real Docker engine.
//!
//! One test a promise of `execute/docker.rs` that only a real engine can keep. They run where `make test` has
//! started a private engine, and say so when they do not ([`ground`]).

mod around;
mod away;
mod drift;
mod gatekeeper;
mod ground;
mod keeper;
mod life;
mod network;
mod outside;
mod refusal;
