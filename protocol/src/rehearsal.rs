//! What a test may make shorter in a whole process, so that a day fits into seconds.
//!
//! Without the feature `killpoints` (that is: in every release) nothing is read and every [`setting`] is absent. With it,
//! `LAUNCHPAD_REHEARSE_<NAME>` holds a whole number. It is asked where a process is put together, and nowhere further in.

use std::time::Duration;

/// How long a host's certificate lives, in milliseconds.
pub const HOST_LIFE_MS: &str = "HOST_LIFE_MS";

/// How often a host asks whether it trusts and shows what it should, in milliseconds.
pub const TRUST_ASKED_MS: &str = "TRUST_ASKED_MS";

/// What the environment asks for.
#[cfg(feature = "killpoints")]
#[must_use]
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(format!("LAUNCHPAD_REHEARSE_{name}")).ok()?.parse().ok()
}

/// Nothing.
#[cfg(not(feature = "killpoints"))]
#[must_use]
pub const fn setting(_name: &str) -> Option<u64> {
    None
}

/// A span that the environment asks for, in milliseconds.
#[must_use]
pub fn millis(name: &str) -> Option<Duration> {
    setting(name).map(Duration::from_millis)
}
