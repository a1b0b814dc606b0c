//! A tiny bot to deploy: it answers the three HTTP probes and misbehaves exactly as it is told.
//!
//! Who runs it: the demo, the scenario tests and the benchmark, as the only process of a container, uid 1000, on a
//! read-only root. It stands in for a real bot, so it knows nothing of Launchpad: a config file, a folder of
//! secret files, a state folder and a port are all that it is given (`config::Surroundings`).
//!
//! ```text
//!  signal waiter ──┐
//!  SIGTERM → exit 0│   config ─► misbehaviour at start ─► listen ─► a thread per request ─► control
//! ```
//!
//! What never happens here: a secret's bytes leaving the container (only their SHA-256 is told), a connection out,
//! a crate other than std (the image is this one static binary).

mod config;
mod control;
mod http;
mod sha256;
mod signal;
mod start;
mod whoami;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::exit;
use std::sync::Arc;

use config::{Config, Surroundings};
use control::Bot;

/// `EX_CONFIG` of sysexits.h: the configuration is wrong, and starting again will not mend it.
const EXIT_CONFIG: i32 = 78;
/// `EX_UNAVAILABLE` of sysexits.h: something that the bot needs from its container is missing.
const EXIT_UNAVAILABLE: i32 = 69;

fn main() {
    let surroundings = Surroundings::from_env();
    let config = Config::load(&surroundings.config).unwrap_or_else(|refusal| {
        eprintln!("echo: {refusal}");
        exit(EXIT_CONFIG);
    });
    // Before any other thread exists, so that all of them inherit the blocked signals.
    signal::on_terminate(config.ignore_sigterm, start::lease_file(&surroundings));

    let ballast = start::misbehave(&config, &surroundings).unwrap_or_else(|last| {
        eprintln!("{}", last.line);
        exit(last.code);
    });
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, surroundings.port));
    let listener = TcpListener::bind(address).unwrap_or_else(|error| {
        eprintln!("echo: cannot listen on {address}: {error}; set PORT to a free one");
        exit(EXIT_UNAVAILABLE);
    });
    println!("echo: listening on {address}");
    http::serve(&listener, &Arc::new(Bot::new(config, surroundings, ballast)));
}
