//! Bytes for the fleet's language: the generated messages (`proto/launchpad/v1`) and every conversion between them and
//! the types of this crate. Nothing else; and nothing further in than `coordinator/src/fleet` and `agent/src/link.rs`,
//! who call this, sees a protobuf type.
//!
//! ```text
//! HostSpec ── encode_spec ─► SpecOffer {generation, digest, bytes} ── From ─► v1::CoordinatorFrame ─► the wire
//! HostSpec ◄─ decode_spec ── SpecOffer (ledgered as it is)        ◄ TryFrom ─ v1::CoordinatorFrame ◄─ the wire
//! ```
//! - `wire/spec.rs`: the offer, the host's spec; `wire/instance.rs`, `wire/policy.rs`: one instance and its parts.
//! - `wire/report.rs`: the report; `wire/contract.rs`: what it says of walls. `wire/frame.rs`: both sides' frames, and answers.
//! - `wire/field.rs`: how one field is read, and [`WireError`], which names the field that is wrong.
//! - `wire/service.rs`: clients and servers with our bounds on message size. `wire/refusal.rs`: a No across a call.
//!
//! **Out** never fails and never guesses: the same value always makes the same bytes. **In** is the door at which
//! everything is checked once: an unset `oneof`, an enum's zero or a value that this version does not know, a key that
//! comes twice, a zero that Docker would read as "no limit", a name that would leave its folder on the host. Nothing
//! that passed can be wrong further in.
//!
//! **What this does not protect.** Protobuf skips fields that it does not know: a newer coordinator's new field is
//! invisible here. What the bot's safety rests on therefore also has a name in [`crate::spec::InstanceSpec::requires`],
//! and an agent without that feature refuses the instance by name. A new *variant* (of an enum or a `oneof`) is refused
//! here, and with it the whole spec: a coordinator sends one only to a host whose Hello lists a feature for it.

mod contract;
mod field;
mod frame;
mod instance;
mod policy;
mod refusal;
mod report;
mod service;
mod spec;

pub use field::{Problem, WireError};
pub use frame::AnswerPart;
pub use refusal::{refusal, refused_because};
pub use service::{enrollment_client, enrollment_server, fleet_client, fleet_server};
pub use spec::{decode_spec, encode_spec, ledgered_spec};

/// The generated messages, clients and servers of package `launchpad.v1`; the `.proto` files document them.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::wildcard_enum_match_arm)]
pub mod v1 {
    tonic::include_proto!("launchpad.v1");
}

/// The derived one would print the join token's secret into the first log that meets a request.
impl std::fmt::Debug for v1::EnrollRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollRequest")
            .field("token_id", &self.token_id)
            .field("host_name", &self.host_name)
            .field("agent_version", &self.agent_version)
            .field("wall_us", &self.wall_us)
            .finish_non_exhaustive()
    }
}
