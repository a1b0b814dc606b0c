//! How much may be used: each bomb grows until it is stopped, and stops by itself a little above what it may
//! have, so that a host whose limits are missing survives it.
//!
//! A bomb that is stopped within its bounds was contained; one that stops by itself got through. What it used
//! is given back. The parts that die of it are processes of their own, `hostile minion …`.

mod disk;
mod memory;
mod processes;

use std::process::ExitCode;

use crate::attack::Attack;
use crate::place::Place;

/// The attacks of this room.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "fork-bomb", aim: "starts processes until none can be started", run: processes::forks },
    Attack { name: "thread-bomb", aim: "starts threads until none can be started", run: processes::threads },
    Attack { name: "file-bomb", aim: "opens files until none can be opened", run: processes::files },
    Attack { name: "cpu-bomb", aim: "uses every core for a second", run: processes::cpu },
    Attack { name: "memory-bomb", aim: "takes memory until something is killed", run: memory::bomb },
    Attack { name: "tmpfs-bomb", aim: "fills every tmpfs that it may write to", run: disk::tmpfs },
    Attack { name: "disk-bomb", aim: "fills its volume", run: disk::volume },
];

/// Removes what a bomb that was killed has left.
pub(crate) fn tidy(place: &Place) {
    place.own_folders().iter().for_each(|folder| disk::remove(folder));
}

/// A part of a bomb: a process that waits, one that eats memory, one that crashes.
pub(crate) fn minion(orders: &[&str]) -> ExitCode {
    match orders {
        ["wait"] => processes::wait_for_the_end(),
        ["eat", megabytes] => memory::eat(megabytes.parse().unwrap_or_default()),
        ["crash"] => memory::crash(),
        _ => ExitCode::FAILURE,
    }
}
