//! The gate's walls on the real kernel: nftables, routing rules, bots and a world outside, in namespaces of their own.
//!
//! Nothing leaves the machine: no namespace has an uplink. Where none can be made the tests say so, and pass.

mod keeping;
mod lab;
mod life;
mod mending;
mod reach;
mod scale;
mod world;
