//! One message of every kind, with every field set: what the wire's tests record, cut, flip and spoil.
//!
//! Fixed to the last byte, because `recorded/` holds their bytes. Each test binary uses a part of this.

#![allow(dead_code, reason = "every test binary compiles this module and uses its own part of it")]

pub(crate) mod dropped;
pub(crate) mod enrollment;
pub(crate) mod frames;
pub(crate) mod spec;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::TypedId;
use launchpad_protocol::reason::Reason;
use uuid::Uuid;

/// The id of that kind and number.
pub(crate) fn id<I: TypedId>(number: u128) -> I {
    I::from(Uuid::from_u128(0x0198_c2aa_0000_7000_8000_0000_0000_0000 + number))
}

/// The digest of that text.
pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// A reason with all of its parts.
pub(crate) fn reason(code: &str) -> Reason {
    Reason::new(code, "host web-2 has 400 MiB free, the plan needs 1024 MiB")
        .because("7 instances hold 7168 MiB of 7568 MiB")
        .mend("add a host to pool `shared`")
}
