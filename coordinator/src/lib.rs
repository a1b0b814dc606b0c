//! The coordinator: the API, the rules, the store, and one session per host.
//!
//! ```text
//!   HTTP ─► api ─► command ─► app ─► domain (pure) ─► store (SQLite | Postgres)
//!                              │                        ▲          │ outbox, signals
//!                              ▼                        │          ▼
//!                            fleet ◄── host reports     │   jobs: placer, compiler, reaper
//!                              │  fold (domain) ────────┘          │
//!                              └────────── publish ◄── HostSpec ◄──┘
//! ```
//! One request goes down that line and comes back as a view; one host report comes up from `fleet` and ends in the
//! store. Imports follow it: `api → command, app`; `app → command, domain, store, fleet`; `jobs → app, domain, store,
//! fleet`; `fleet → domain, store`; `store → domain`; `domain` imports nothing local. `api` never sees `store`.
//!
//! No statics, no clock and no chance but those in [`outside::Outside`], so that several coordinators can run in one
//! process. `main.rs` builds an `Outside` and calls [`run`]; only `config` reads arguments and the environment.

pub mod api;
pub mod command;

pub mod app;
pub mod domain;
pub mod fleet;
pub mod jobs;
pub mod store;

pub mod catalogue;
pub mod config;
pub mod data_dir;
pub mod dns;
pub mod key_source;
pub mod outside;
pub mod run;
pub mod signals;
mod supervise;

pub use run::{CoordinatorError, run, run_over};

/// An error and what caused it, on one line. Causes that the error itself repeats are left out.
#[must_use]
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}
