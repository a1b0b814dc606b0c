//! How long what a name leads to may be used: by the bot that was told, by our memory, by the kernel. Pure.
//!
//! ```text
//! answered                     told to the bot ends              the kernel forgets
//!    ├──────── TTL_MIN … TTL_MAX ────────┤────────── GRACE ─────────────┤
//! ```
//! Nobody is told a time that outlasts the kernel's.

use std::time::Duration;

/// The shortest time that a bot is told: shorter ones of content networks would cost an nft call per
/// question.
pub(super) const TTL_MIN: Duration = Duration::from_secs(60);

/// The longest: what a name leads to is looked at anew within the hour.
pub(super) const TTL_MAX: Duration = Duration::from_secs(3600);

/// How much longer the kernel holds an address than the bot was told: for clients that connect late.
pub(super) const GRACE: Duration = Duration::from_secs(120);

/// How long it is remembered at most that a name leads nowhere, so that a name made new is soon found.
const NOTHING_MAX: Duration = Duration::from_secs(60);

/// How long that is remembered at least, and how long a failure is: who asks again and again is not handed on
/// (RFC 9520 §3.2 asks for one second).
pub(super) const FAILURE_KEPT: Duration = Duration::from_secs(1);

// A remembered answer is told for up to TTL_MIN after it ended, and the kernel must still hold it then.
const _: () = assert!(GRACE.as_secs() >= TTL_MIN.as_secs());

/// What a bot is told of an answer that is remembered that much longer, in whole seconds.
pub(super) fn told(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs()).clamp(TTL_MIN, TTL_MAX)
}

/// How long the kernel holds what a bot was told for that long.
pub(super) fn held(told: Duration) -> Duration {
    told + GRACE
}

/// How long addresses are remembered whose record says that many seconds.
pub(super) fn of_addresses(ttl_seconds: u32) -> Duration {
    seconds(ttl_seconds).min(TTL_MAX)
}

/// How long it is remembered that there are none; nothing was said about it: the least.
pub(super) fn of_nothing(ttl_seconds: Option<u32>) -> Duration {
    seconds(ttl_seconds.unwrap_or(0)).clamp(FAILURE_KEPT, NOTHING_MAX)
}

/// A TTL with its highest bit set means none at all (RFC 2181 §8).
fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(i32::try_from(ttl).map_or(0, |_| u64::from(ttl)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_a_bot_is_told_stays_in_its_bounds_and_ends_before_the_kernel_forgets(ttl: u32, passed in 0_u64..9000) {
            let left = of_addresses(ttl).saturating_sub(Duration::from_secs(passed));
            let told = told(left);
            prop_assert!((TTL_MIN..=TTL_MAX).contains(&told));
            prop_assert!(held(told) >= told + TTL_MIN);
            prop_assert!(of_nothing(Some(ttl)) <= NOTHING_MAX && of_nothing(Some(ttl)) >= FAILURE_KEPT);
        }
    }

    #[test]
    fn a_time_that_reads_as_negative_is_none() {
        assert_eq!(of_addresses(0x8000_0000), Duration::ZERO);
        assert_eq!(of_addresses(0x7fff_ffff), TTL_MAX);
    }
}
