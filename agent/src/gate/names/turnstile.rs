//! How much one bot may want at once, so that none starves its neighbours or makes the gate grow. Pure but
//! for a lock.
//!
//! [`Turnstile`]: places for what waits, half of them for bots that hold none yet, so that a newcomer finds
//! one while others hold all they can get. [`Pace`]: how fast one bot may have questions handed on.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two questions of one bot that are handed on, in the long run: the server behind, and what it takes
/// from this host, are shared by everybody on the host.
const HAND_ON_EVERY: Duration = Duration::from_millis(20);

/// Questions that a bot may have handed on in one go: a browser's start, twice.
const HAND_ON_BURST: u32 = 200;

/// Places for a number of bots, by address.
#[derive(Debug)]
pub(super) struct Turnstile {
    places: usize,
    each: usize,
    taken: usize,
    by: HashMap<Ipv4Addr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Mutex<Turnstile>>,
    who: Ipv4Addr,
}

impl Turnstile {
    /// So many places, and so many for one bot.
    pub(super) fn new(places: usize, each: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { places, each, taken: 0, by: HashMap::new() }))
    }

    /// A place for that bot, if it may have one more.
    pub(super) fn enter(of: &Arc<Mutex<Self>>, who: Ipv4Addr) -> Option<Place> {
        let mut turnstile = lock(of);
        let held = turnstile.by.get(&who).copied().unwrap_or(0);
        let open = if held == 0 { turnstile.places } else { turnstile.places / 2 };
        if turnstile.taken >= open || held >= turnstile.each {
            return None;
        }
        turnstile.taken += 1;
        *turnstile.by.entry(who).or_default() += 1;
        Some(Place { of: Arc::clone(of), who })
    }

    /// How many places are taken.
    pub(super) fn taken(of: &Arc<Mutex<Self>>) -> usize {
        lock(of).taken
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut turnstile = lock(&self.of);
        turnstile.taken -= 1;
        if let Some(held) = turnstile.by.get_mut(&self.who) {
            *held -= 1;
            if *held == 0 {
                turnstile.by.remove(&self.who);
            }
        }
    }
}

/// A panic elsewhere leaves the counts as they were: each is changed in one step.
fn lock(of: &Mutex<Turnstile>) -> MutexGuard<'_, Turnstile> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When each bot's questions would all have been handed on, had they come evenly ("generic cell rate
/// algorithm").
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<Ipv4Addr, Instant>);

impl Pace {
    /// Whether that bot may have one more question handed on now; then it counts.
    pub(super) fn allows(&mut self, who: Ipv4Addr, now: Instant) -> bool {
        let due = self.0.get(&who).copied().unwrap_or(now).max(now);
        let is_slow_enough = due.duration_since(now) < HAND_ON_EVERY * HAND_ON_BURST;
        if is_slow_enough {
            self.0.insert(who, due + HAND_ON_EVERY);
        }
        is_slow_enough
    }

    /// Forgets whom nothing is held against.
    pub(super) fn forget_patient(&mut self, now: Instant) {
        self.0.retain(|_, due| *due > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot(n: usize) -> Ipv4Addr {
        Ipv4Addr::from(u32::try_from(n).expect("few"))
    }

    #[test]
    fn a_newcomer_finds_a_place_while_hundreds_hold_all_they_can_get() {
        let turnstile = Turnstile::new(512, 32);
        let mut held = Vec::new();
        for hostile in 0..250 {
            while let Some(place) = Turnstile::enter(&turnstile, bot(hostile)) {
                held.push(place);
            }
        }
        assert_eq!(held.iter().filter(|place| place.who == bot(0)).count(), 32);
        assert!(Turnstile::enter(&turnstile, bot(999)).is_some());
        drop(held);
        assert_eq!((Turnstile::taken(&turnstile), lock(&turnstile).by.len()), (0, 0));
    }

    #[test]
    fn there_are_never_more_than_all_places() {
        let turnstile = Turnstile::new(16, 4);
        let held: Vec<_> = (0..100).filter_map(|n| Turnstile::enter(&turnstile, bot(n))).collect();
        assert_eq!(held.len(), 16);
    }

    #[test]
    fn a_burst_passes_and_then_one_question_at_a_time() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| pace.allows(bot(1), now)).count(), 200);
        assert!(pace.allows(bot(2), now), "others are not held back");
        assert!(pace.allows(bot(1), now + HAND_ON_EVERY) && !pace.allows(bot(1), now + HAND_ON_EVERY));
        pace.forget_patient(now + Duration::from_secs(3600));
        assert!(pace.0.is_empty());
    }
}
