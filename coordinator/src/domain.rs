//! The rules, as pure functions: what may happen, to whom, where, and what each host must then be.
//!
//! `app`, `jobs` and `fleet` load values, ask here, and commit the answer through `store`. Nothing here awaits, reads a
//! clock, draws chance or touches SQL: moments and ids arrive as arguments. A No is a [`refusal::Refusal`] with its
//! reason, as much a value as a Yes.
//!
//! ```text
//! actor ── may they? ──► deployment ── state × event ──► placement ── which host ──► compile ── HostSpec
//!                           ▲                                                             │
//!                           └──────────── fold ◄── HostReport ◄── (the host) ◄────────────┘
//! ```

pub mod actor;
pub mod refusal;

pub mod amend;
pub mod deployment;
pub mod dns_record;
pub mod domains;
pub mod host;
pub mod plan_table;
pub mod pool_table;
pub mod public_name;
pub mod revision;
pub mod secrets;
pub mod snapshots;

pub mod compile;
pub mod fold;
pub mod lease;
pub mod placement;
pub mod recovery;
pub mod recovery_gate;
pub mod rotation;
pub mod silence;
pub mod upgrade;
pub mod whereabouts;

pub mod audit;
