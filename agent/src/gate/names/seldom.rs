//! A line in the log now and then, however often a bot gives cause for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about the same thing.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// What was said when, about what.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<BTreeMap<&'static str, Said>>);

#[derive(Debug, Clone, Copy)]
struct Said {
    at: Instant,
    since: u64,
}

impl Seldom {
    /// Warns, unless that was done within the minute; then it counts.
    pub(super) fn warn(&self, what: &'static str, detail: impl fmt::Display) {
        if let Some(kept_back) = self.due(what, Instant::now()) {
            tracing::warn!(kept_back, "{what}: {detail}");
        }
    }

    /// How many lines were kept back since the last, if one is due.
    fn due(&self, what: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(what) {
            Some(said) if now.duration_since(said.at) < LINE_EVERY => {
                said.since += 1;
                None
            }
            Some(_) | None => {
                let before = said.insert(what, Said { at: now, since: 0 });
                Some(before.map_or(0, |said| said.since))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_says_how_many_it_stands_for() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let due = |seconds| seldom.due("stranger", start + Duration::from_secs(seconds));
        assert_eq!([due(0), due(1), due(59)], [Some(0), None, None]);
        assert_eq!(seldom.due("other", start), Some(0));
        assert_eq!(due(60), Some(2));
    }
}
