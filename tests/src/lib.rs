//! A laboratory: the real programs, on a private Docker engine, in network namespaces of their own.
//!
//! Who uses it: the scenario tests in `tests/tests/`, and the programs in `bin/`, behind `make demo` and
//! `make bench`. It needs root and the Debian packages of `packaging/setup.sh`, and never touches the
//! machine's own Docker, registry or Postgres.
//!
//! ```text
//!  fabric: a namespace of the test's own         ┌─ host 1: namespace lp-<run>-h1 ───────────┐
//!  (the demo: the machine's)                     │ containerd · dockerd · gate · agent       │
//!   198.18.0.1  coordinator, registry            │ 198.18.1.2, default route to 198.18.1.1   │
//!   198.18.1.1 ◄────────── veth ────────────────►│ bots on bridges of the agent's            │
//!   198.18.2.1 ◄────────── veth ──────────┐      └───────────────────────────────────────────┘
//!   no way out                            └─────► host 2 …
//! ```
//!
//! Read in this order: [`lab`] puts it all together, [`host`] is one host of it; [`netns`], [`engine`],
//! [`registry`], [`images`], [`postgres`], [`coordinator`], [`gate`], [`caddy`] and [`agent`] start one thing each, all by
//! [`process`]; [`api`], [`deployment`], [`accounts`], [`bot`] and [`hostile`] talk to what runs;
//! [`stand_in`] is the world outside, which records who came; [`contract`] judges what was seen of a hostile
//! bot, [`held`] whether a bot is held as its host tells; [`search`] looks for a text in all that is left; [`kernel`]
//! reads the limits that the kernel holds; [`wait`] is how a test waits; [`sweep`] removes whatever a killed run left
//! behind, and [`interrupt`] sees that a program in `bin/` leaves nothing. [`guest`] has whole hosts instead of
//! namespaces. Apart from all of it, and without root or network: [`cluster`], a whole fleet in one heap of events.
//! No product code lives here, and nothing here sleeps for a fixed time.

pub mod accounts;
pub mod agent;
pub mod api;
pub mod bot;
pub mod caddy;
pub mod cluster;
pub mod contract;
pub mod coordinator;
pub mod deployment;
pub mod engine;
pub mod gate;
pub mod guest;
pub mod held;
pub mod host;
pub mod hostile;
pub mod images;
pub mod interrupt;
pub mod kernel;
pub mod lab;
mod lock;
pub mod netns;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod registry;
pub mod remains;
pub mod search;
pub mod stand_in;
pub mod sweep;
pub mod wait;
