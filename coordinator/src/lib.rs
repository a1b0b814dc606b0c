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
//! process. `main.rs` builds an `Outside` and calls [`run`]; nothing here reads arguments or the environment.

pub mod command;
