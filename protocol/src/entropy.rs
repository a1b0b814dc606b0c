//! Chance, from one place: jitter, backoff and new ids.
//!
//! Real processes seed it from the operating system, the simulator with its seed. Keys are not made here: they come from
//! the TLS provider's generator (`launchpad-pki`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::id::TypedId;
use crate::time::Moment;

/// A shared source of chance. Clones draw from the same stream.
#[derive(Debug, Clone)]
pub struct Entropy(Arc<Mutex<StdRng>>);

impl Entropy {
    /// Seeded from the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// Seeded by hand: the same seed draws the same stream.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A duration between nothing and `most`, evenly: "full jitter" (AWS Architecture Blog, Exponential Backoff And
    /// Jitter, 2015).
    #[must_use]
    pub fn full_jitter(&self, most: Duration) -> Duration {
        most.mul_f64(self.with(|rng| rng.random::<f64>()))
    }

    /// `span` made longer or shorter by at most `share` of itself.
    #[must_use]
    pub fn around(&self, span: Duration, share: f64) -> Duration {
        span.mul_f64(1.0 + share * self.with(|rng| rng.random_range(-1.0..=1.0)))
    }

    /// A new id of the wanted kind.
    #[must_use]
    pub fn id<I: TypedId>(&self, now: Moment) -> I {
        self.with(|rng| IdGen { rng }.next(now))
    }

    /// Gives pure code a generator of ids for the length of one call.
    pub fn with_ids<T>(&self, body: impl FnOnce(&mut IdGen<'_>) -> T) -> T {
        self.with(|rng| body(&mut IdGen { rng }))
    }

    fn with<T>(&self, body: impl FnOnce(&mut StdRng) -> T) -> T {
        // A panic elsewhere leaves the generator as random as before.
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes ids in pure code, which receives it as an argument.
#[derive(Debug)]
pub struct IdGen<'a> {
    rng: &'a mut StdRng,
}

impl<'a> IdGen<'a> {
    /// A generator over the caller's own stream of chance, as the simulator wants it.
    #[must_use]
    pub const fn over(rng: &'a mut StdRng) -> Self {
        Self { rng }
    }

    /// A new UUIDv7 (RFC 9562 §5.7): the moment's milliseconds, 12 bits of what is left of it (§6.2, method 3), so that
    /// ids sort by the microsecond, and 62 random bits.
    #[must_use]
    pub fn next<I: TypedId>(&mut self, now: Moment) -> I {
        let micros = u64::try_from(now.micros()).unwrap_or(0);
        let (millis, part) = (micros / 1_000, micros % 1_000 * 4_096 / 1_000);
        let mut random = [0_u8; 10];
        self.rng.fill_bytes(&mut random);
        random[..2].copy_from_slice(&(part as u16).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DeploymentId;

    #[test]
    fn the_same_seed_draws_the_same_ids() {
        let now = Moment::from_micros(1_000_000);
        let draw = || Entropy::seeded(7).id::<DeploymentId>(now);
        assert_eq!(draw(), draw());
    }

    #[test]
    fn ids_sort_by_the_moment_they_were_made() {
        let entropy = Entropy::seeded(7);
        let early: DeploymentId = entropy.id(Moment::from_micros(1_000_000));
        let late: DeploymentId = entropy.id(Moment::from_micros(2_000_000));
        assert!(early < late);
    }

    #[test]
    fn ids_of_one_millisecond_sort_by_the_microsecond() {
        let entropy = Entropy::seeded(7);
        let ids: Vec<DeploymentId> =
            (0..2_000).map(|micros| entropy.id(Moment::from_micros(1_000_000 + micros))).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        let entropy = Entropy::seeded(1);
        let span = Duration::from_secs(100);
        for _ in 0..1_000 {
            assert!(entropy.full_jitter(span) <= span);
            let near = entropy.around(span, 0.1);
            assert!(near >= Duration::from_secs(89) && near <= Duration::from_secs(111), "{near:?}");
        }
    }
}
