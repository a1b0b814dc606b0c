//! What names led to, remembered for all bots together for as long as their records say. Pure: the time is an
//! argument.
//!
//! Bounded: the name that was asked for longest ago goes first, so that a bot with many names crowds out its
//! own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, Found};

/// Names remembered at once: some ten for each bot of a full host, and most of them the same. At the longest
/// name and the most addresses they take 1.5 MB.
pub(super) const NAMES_MAX: usize = 2048;

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Cache {
    names: HashMap<Arc<str>, Entry>,
    /// By when it was last asked for, oldest first.
    order: BTreeMap<u64, Arc<str>>,
    turn: u64,
}

#[derive(Debug)]
struct Entry {
    found: Arc<Found>,
    until: Instant,
    turn: u64,
}

impl Cache {
    /// Where a name leads, and for how much longer that is so.
    pub(super) fn get(&mut self, name: &str, now: Instant) -> Option<(Arc<Found>, Duration)> {
        let (name, entry) = self.names.get_key_value(name)?;
        let (name, old, left) = (Arc::clone(name), entry.turn, entry.until.saturating_duration_since(now));
        self.order.remove(&old);
        if left.is_zero() {
            self.names.remove(&name);
            return None;
        }
        self.turn += 1;
        self.order.insert(self.turn, Arc::clone(&name));
        let entry = self.names.get_mut(&name)?;
        entry.turn = self.turn;
        Some((Arc::clone(&entry.found), left))
    }

    /// Remembers an answer, in place of an earlier one.
    pub(super) fn put(&mut self, name: &str, answer: Answer, now: Instant) {
        let name: Arc<str> = name.into();
        self.turn += 1;
        let entry = Entry { found: Arc::new(answer.found), until: now + answer.kept, turn: self.turn };
        if let Some(earlier) = self.names.insert(Arc::clone(&name), entry) {
            self.order.remove(&earlier.turn);
        }
        self.order.insert(self.turn, name);
        while self.names.len() > NAMES_MAX {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.names.remove(&oldest);
        }
    }

    /// How many names it holds.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn answer(seconds: u64) -> Answer {
        let found = Found::Addresses(vec![Ipv4Addr::new(203, 0, 113, 1)]);
        Answer { found, kept: Duration::from_secs(seconds) }
    }

    #[test]
    fn an_answer_is_remembered_for_as_long_as_it_says_and_no_longer() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.put("a.example", answer(300), start);
        let (_, left) = cache.get("a.example", start + Duration::from_secs(100)).expect("remembered");
        assert_eq!(left, Duration::from_secs(200));
        assert!(cache.get("a.example", start + Duration::from_secs(300)).is_none());
        assert_eq!((cache.len(), cache.order.len()), (0, 0));
    }

    #[test]
    fn ten_thousand_names_leave_the_one_that_is_asked_for_in_between() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put("used.example", answer(300), now);
        for n in 0..10_000 {
            cache.put(&format!("{n}.example"), answer(300), now);
            assert!(cache.get("used.example", now).is_some());
        }
        assert_eq!((cache.len(), cache.order.len()), (NAMES_MAX, NAMES_MAX));
        assert!(cache.get("0.example", now).is_none() && cache.get("9999.example", now).is_some());
    }

    #[test]
    fn an_answer_that_says_nothing_is_not_remembered() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put("a.example", answer(0), now);
        assert!(cache.get("a.example", now).is_none());
    }
}
