//! What an agent has said stays said: through deaths at every durable step, full and lying disks, damaged files, clocks
//! that jump, and a reboot with nobody to ask.
//!
//! All of it on the real loop, ledger, disk and book; the bots' world is the complete fake, which outlives each agent
//! where a test says so. `storm` has its agent in a process of its own, because it is killed.

mod clock;
mod damage;
mod faults;
mod life;
mod orders;
mod reboot;
mod storm;
#[path = "../support/mod.rs"]
mod support;
