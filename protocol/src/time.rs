//! Time as the fleet speaks of it, and the one place that reads a clock.
//!
//! Pure code takes a [`Moment`] as an argument. Tasks that need the time hold a [`Clock`], which the simulator makes
//! skewed or steers by hand. Nothing else in the workspace reads the system's clocks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment on the wall: microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// The moment that many microseconds after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// How far apart the two are, whichever is first.
    #[must_use]
    pub fn apart(self, other: Self) -> Duration {
        self.since(other).max(other.since(self))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl std::ops::Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 in UTC, to the microsecond.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

/// Time since this machine booted, suspended time included: what leases and backoff are counted on, because nobody
/// can set it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootMoment(u64);

impl BootMoment {
    /// The moment that many microseconds after boot.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since boot.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for BootMoment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Where the time comes from: the machine, the machine with a skewed wall clock, or a test's hand.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Machine { wall_skew_micros: i64 },
    Stepped { wall_skew_micros: Arc<AtomicI64> },
    Manual { wall: Arc<AtomicI64>, boot: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's own clocks.
    #[must_use]
    pub const fn machine() -> Self {
        Self(Source::Machine { wall_skew_micros: 0 })
    }

    /// The machine's clocks, the wall clock off by that many microseconds (positive: ahead).
    #[must_use]
    pub const fn skewed(wall_skew_micros: i64) -> Self {
        Self(Source::Machine { wall_skew_micros })
    }

    /// The machine's clocks, the wall clock set by [`Clock::jump`], as by somebody with a wristwatch.
    #[must_use]
    pub fn stepped() -> Self {
        Self(Source::Stepped { wall_skew_micros: Arc::default() })
    }

    /// Sets the wall time of a stepped or manual clock by that many microseconds (positive: ahead); others stay. The time
    /// since boot does not notice.
    pub fn jump(&self, micros: i64) {
        if let Source::Stepped { wall_skew_micros: wall } | Source::Manual { wall, .. } = &self.0 {
            wall.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// A clock that stands still until [`Clock::advance`].
    #[must_use]
    pub fn manual(start: Moment) -> Self {
        let wall = Arc::new(AtomicI64::new(start.micros()));
        Self(Source::Manual { wall, boot: Arc::default() })
    }

    /// Moves a manual clock on; a machine's clock is not ours to move, and stays.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual { wall, boot } = &self.0 {
            let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
            wall.fetch_add(micros, Ordering::SeqCst);
            boot.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// The machine of a manual clock boots: the time since boot begins anew, the wall clock goes on.
    pub fn reboot(&self) {
        if let Source::Manual { boot, .. } = &self.0 {
            boot.store(0, Ordering::SeqCst);
        }
    }

    /// Wall time.
    #[must_use]
    pub fn wall(&self) -> Moment {
        match &self.0 {
            Source::Machine { wall_skew_micros } => {
                Moment(read_micros(ClockId::CLOCK_REALTIME).saturating_add(*wall_skew_micros))
            }
            Source::Stepped { wall_skew_micros } => {
                let skew = wall_skew_micros.load(Ordering::SeqCst);
                Moment(read_micros(ClockId::CLOCK_REALTIME).saturating_add(skew))
            }
            Source::Manual { wall, .. } => Moment(wall.load(Ordering::SeqCst)),
        }
    }

    /// Time since boot.
    #[must_use]
    pub fn boot(&self) -> BootMoment {
        let micros = match &self.0 {
            Source::Machine { .. } | Source::Stepped { .. } => read_micros(ClockId::CLOCK_BOOTTIME),
            Source::Manual { boot, .. } => boot.load(Ordering::SeqCst),
        };
        BootMoment(u64::try_from(micros).unwrap_or(0))
    }
}

fn read_micros(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux that this workspace supports, and reading them cannot fail otherwise.
    clock_gettime(clock).map_or(0, |at| at.tv_sec() * 1_000_000 + at.tv_nsec() / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Moment::from_micros(5_000_000));
        let held = clock.clone();
        assert_eq!(clock.boot(), BootMoment::from_micros(0));
        clock.advance(Duration::from_secs(2));
        assert_eq!(held.wall(), Moment::from_micros(7_000_000));
        assert_eq!(held.boot().since(BootMoment::from_micros(0)), Duration::from_secs(2));
    }

    #[test]
    fn setting_the_wall_clock_or_booting_moves_nothing_else() {
        let clock = Clock::manual(Moment::from_micros(5_000_000));
        clock.advance(Duration::from_secs(2));
        clock.jump(-6_999_999);
        assert_eq!((clock.wall(), clock.boot()), (Moment::from_micros(1), BootMoment::from_micros(2_000_000)));
        clock.reboot();
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            (clock.wall(), clock.boot()),
            (Moment::from_micros(1_000_001), BootMoment::from_micros(1_000_000))
        );
    }

    #[test]
    fn a_skewed_clock_is_off_by_its_skew_only_on_the_wall() {
        let hour = Duration::from_secs(3600);
        let skewed = Clock::skewed(3_600_000_000);
        let machine = Clock::machine();
        assert!(skewed.wall().apart(machine.wall() + hour) < Duration::from_secs(60));
        assert!(machine.boot().since(skewed.boot()) < Duration::from_secs(60));
    }

    #[test]
    fn a_moment_prints_as_rfc_3339() {
        assert_eq!(Moment::from_micros(1_500_000).to_string(), "1970-01-01T00:00:01.500000Z");
    }
}
