//! The language of the fleet: what a coordinator wants of a host, what a host says it is, and how the two talk.
//!
//! Everything else imports this; it imports nothing of ours, opens no socket and no file. Coordinator and agent share no
//! other code, so what both must agree on is here, and only that.
//!
//! In reading order:
//!
//! ```text
//! the nouns      id ─ digest ─ image ─ generation ─ feature ─ limits ─ names ─ reason ─ egress ─ enforcement ─ seccomp
//! desired        profile ──(domain::compile, coordinator)──► spec
//! observed       report ◄──(observe, agent)
//! the talk       frame ─ what travels · session ─ what is said when · wire ─ as which bytes (proto/launchpad/v1)
//! the outside    time, entropy ─ the only doors to clocks and chance · killpoint ─ where a test may kill us ·
//!                settings ─ what an operator writes into /etc/launchpad
//! ```
//!
//! One deployment passes through here three times: as a [`spec::InstanceSpec`] in the coordinator's compiler, as bytes
//! with a digest ([`spec::SpecOffer`]) on the wire and in the agent's ledger, and on its way back as a
//! [`report::InstanceReport`].

pub mod id;

pub mod digest;
pub mod image;

pub mod generation;

pub mod capability;
pub mod feature;
pub mod limits;
pub mod names;
pub mod reason;

pub mod egress;
pub mod enforcement;
pub mod seccomp;

pub mod profile;
pub mod spec;

pub mod report;

pub mod frame;
pub mod session;
pub mod wire;

pub mod entropy;
pub mod killpoint;
pub mod rehearsal;
pub mod time;
pub mod version;

#[cfg(feature = "settings")]
pub mod settings;

#[cfg(feature = "arbitrary")]
pub mod arbitrary;
