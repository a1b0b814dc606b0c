//! A bot that answers its probes like a good one and, on command, attacks whatever it can see.
//!
//! Who runs it: the scenario and the program behind `make check-contract`, as the only process of a
//! container, to prove from inside what isolation, egress and quotas hold. There is no shell and no other
//! file in its image. It knows nothing of Launchpad: a config file of [`launchpad_hostile::Orders`], a folder
//! of secrets, a volume and a port.
//!
//! ```text
//!  GET  /healthz /startupz /readyz    probes: 200 {"ok":true}
//!  GET  /attacks                      the catalogue
//!  POST /attack/NAME ──► runner ──► a process of its own: `hostile attack NAME` ──► kernel · looks · files ·
//!                          │                                                        bombs · network
//!  Report as JSON ◄────────┘ also when that process was killed
//! ```
//!
//! Every attack runs in a process of its own, with one thread: a filter or a killer that ends it ends nothing
//! else, and the kernel refuses some calls to a process with threads that it would grant to others. `hostile
//! minion` is what bombs are made of; `hostile uid` is what the image's set-user-id copy is asked.
//!
//! What never happens here: harm. An attack that succeeds undoes what it did, stops a little above its
//! bounds, or asks with arguments that a privileged caller would be refused for another reason, so that the
//! answer alone tells. So it may also run where nothing holds it, which is how the proof itself is tested.

mod attack;
mod bombs;
mod files;
mod http;
mod kernel;
mod looks;
mod network;
mod place;
mod runner;
mod sys;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ExitCode, exit};
use std::sync::Arc;

use place::Place;

/// `EX_CONFIG` of sysexits.h: the configuration is wrong, and starting again will not mend it.
const EXIT_CONFIG: i32 = 78;
/// `EX_UNAVAILABLE` of sysexits.h: something that the bot needs from its container is missing.
const EXIT_UNAVAILABLE: i32 = 69;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => serve(&Arc::new(place())),
        ["attack", name] => match attack::run(&place(), name) {
            Some(report) => {
                // A report holds texts only, which JSON can say.
                println!("{}", serde_json::to_string(&report).unwrap_or_default());
                ExitCode::SUCCESS
            }
            None => ExitCode::FAILURE,
        },
        ["minion", ref orders @ ..] => bombs::minion(orders),
        ["uid"] => {
            println!("{}", looks::effective_uid());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: hostile | hostile attack NAME | hostile minion … | hostile uid");
            ExitCode::FAILURE
        }
    }
}

fn place() -> Place {
    Place::from_env().unwrap_or_else(|refusal| {
        eprintln!("hostile: {refusal}");
        exit(EXIT_CONFIG);
    })
}

fn serve(place: &Arc<Place>) -> ! {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, place.port));
    let listener = TcpListener::bind(address).unwrap_or_else(|error| {
        eprintln!("hostile: cannot listen on {address}: {error}; set PORT to a free one");
        exit(EXIT_UNAVAILABLE);
    });
    println!("hostile: listening on {address}");
    http::serve(&listener, place)
}
