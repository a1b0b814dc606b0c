//! Which desired state is newer: generations of a host's spec, revisions of one instance, epochs of its lease.
//!
//! The ledger asks [`judge`] before it stores anything; the session asks it before it sends. All three numbers only
//! rise, across restarts of both sides and restores of the coordinator (invariant 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

macro_rules! rising {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

rising!(
    /// Counts the specs of one host. Zero: none was ever published.
    Generation
);
rising!(
    /// Counts the wishes for one deployment: a neighbour's change raises the host's generation, not this.
    Revision
);
rising!(
    /// Counts the leases of one deployment: whoever holds a lower one may not start it.
    Epoch
);
rising!(
    /// Counts the sessions of one host: reports of a lower one come from a connection that has been replaced.
    Fence
);

/// What identifies an accepted spec: its generation, and the digest of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The generation.
    pub generation: Generation,
    /// The digest of the bytes as they travelled.
    pub digest: Digest,
}

/// What to do with an offered spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Newer than what is held: take it.
    Accept,
    /// Exactly what is held: say so again, store nothing.
    Duplicate,
    /// Older than what is held: refuse it.
    Stale,
    /// The same generation with other bytes: two coordinators disagree. Refuse it, loudly.
    Conflict,
}

/// Judges an offered spec against the one that is held.
#[must_use]
pub fn judge(held: Option<Accepted>, offered: Accepted) -> Verdict {
    let Some(held) = held else { return Verdict::Accept };
    match offered.generation.cmp(&held.generation) {
        std::cmp::Ordering::Greater => Verdict::Accept,
        std::cmp::Ordering::Less => Verdict::Stale,
        std::cmp::Ordering::Equal if offered.digest == held.digest => Verdict::Duplicate,
        std::cmp::Ordering::Equal => Verdict::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(generation: u64, content: &str) -> Accepted {
        Accepted { generation: Generation(generation), digest: Digest::of(content.as_bytes()) }
    }

    #[test]
    fn the_first_spec_is_accepted() {
        assert_eq!(judge(None, spec(1, "a")), Verdict::Accept);
    }

    #[test]
    fn only_a_higher_generation_replaces_what_is_held() {
        let held = Some(spec(5, "a"));
        assert_eq!(judge(held, spec(6, "a")), Verdict::Accept);
        assert_eq!(judge(held, spec(4, "b")), Verdict::Stale);
        assert_eq!(judge(held, spec(5, "a")), Verdict::Duplicate);
    }

    #[test]
    fn the_same_generation_with_other_bytes_is_a_conflict() {
        assert_eq!(judge(Some(spec(5, "a")), spec(5, "b")), Verdict::Conflict);
    }
}
