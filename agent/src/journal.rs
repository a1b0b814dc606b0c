//! Events for the coordinator's timelines, numbered, until it has confirmed them.
//!
//! `reconcile` notes an event whenever an instance's standing changes; every report carries the oldest unconfirmed ones.
//! The coordinator knows repeats by (host, journal, number). When it is away for so long that the journal is full, the
//! oldest go, and the next report says how many.

use std::collections::BTreeMap;

use launchpad_protocol::id::{DeploymentId, JournalId};
use launchpad_protocol::limits::{EVENTS_PER_REPORT_MAX, JOURNAL_MAX_EVENTS};
use launchpad_protocol::report::{Event, EventBatch};
use launchpad_protocol::time::Moment;

use crate::book::{Changes, Pages};
use crate::plan::Standing;

/// The unconfirmed events.
#[derive(Debug)]
pub struct Journal {
    id: JournalId,
    next: u64,
    dropped: u64,
    events: BTreeMap<u64, Event>,
}

impl Journal {
    /// Continues the journal in those pages, or begins `fresh` and says so in `changes`.
    #[must_use]
    pub fn open(pages: &mut Pages, fresh: JournalId, changes: &mut Changes) -> Self {
        let events = std::mem::take(&mut pages.events);
        // Without unconfirmed events the last number used is unknown: another journal keeps numbers from coming twice.
        let continued = pages.journal.filter(|_| !events.is_empty());
        let id = continued.unwrap_or(fresh);
        if continued.is_none() {
            changes.journal = Some(id);
        }
        Self { id, next: events.keys().next_back().map_or(1, |last| last + 1), dropped: 0, events }
    }

    /// Notes where an instance stands now.
    pub fn note(&mut self, deployment: DeploymentId, standing: &Standing, at: Moment, changes: &mut Changes) {
        let event = Event { seq: self.next, at, deployment, phase: standing.phase, reason: standing.reason.clone() };
        self.next += 1;
        changes.events.push(event.clone());
        self.events.insert(event.seq, event);
        while self.events.len() > JOURNAL_MAX_EVENTS {
            if let Some((seq, _)) = self.events.pop_first() {
                self.dropped += 1;
                changes.forget_through = Some(seq);
            }
        }
    }

    /// Forgets what the coordinator has stored. A confirmation for another journal tells nothing.
    pub fn forget(&mut self, journal: JournalId, through: u64, changes: &mut Changes) {
        if journal == self.id && through < self.next {
            self.events.retain(|seq, _| *seq > through);
            self.dropped = 0;
            changes.forget_through = changes.forget_through.max(Some(through));
        }
    }

    /// Every unconfirmed event: what a book that could not be written has to be given again. Bounded, as the journal is.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<Event> {
        self.events.values().cloned().collect()
    }

    /// The oldest unconfirmed events, for a report.
    #[must_use]
    pub fn batch(&self) -> EventBatch {
        let events = self.events.values().take(EVENTS_PER_REPORT_MAX).cloned().collect();
        EventBatch { journal: self.id, dropped: self.dropped, events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use launchpad_protocol::entropy::Entropy;
    use launchpad_protocol::report::Phase;

    fn noted(count: u64) -> (Journal, JournalId, Changes) {
        let entropy = Entropy::seeded(3);
        let (fresh, deployment) = (entropy.id(Moment::default()), entropy.id(Moment::default()));
        let mut changes = Changes::default();
        let mut journal = Journal::open(&mut Pages::default(), fresh, &mut changes);
        for n in 0..count {
            let at = Moment::from_micros(i64::try_from(n).expect("small"));
            journal.note(deployment, &Standing::plain(Phase::Ready), at, &mut changes);
        }
        (journal, fresh, changes)
    }

    fn numbers(journal: &Journal) -> Vec<u64> {
        journal.batch().events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_are_repeated_until_they_are_confirmed() {
        let (mut journal, id, mut changes) = noted(3);
        assert_eq!(numbers(&journal), [1, 2, 3]);
        journal.forget(id, 2, &mut changes);
        assert_eq!(numbers(&journal), [3]);
        assert_eq!(changes.forget_through, Some(2));
    }

    #[test]
    fn a_confirmation_of_another_journal_forgets_nothing() {
        let (mut journal, _, mut changes) = noted(2);
        journal.forget(Entropy::seeded(9).id(Moment::default()), 2, &mut changes);
        assert_eq!(numbers(&journal), [1, 2]);
    }

    #[test]
    fn a_full_journal_drops_the_oldest_and_says_how_many() {
        let limit = u64::try_from(JOURNAL_MAX_EVENTS).expect("fits");
        let (journal, _, _) = noted(limit + 5);
        let batch = journal.batch();
        assert_eq!((batch.dropped, batch.events[0].seq), (5, 6));
        assert_eq!(batch.events.len(), EVENTS_PER_REPORT_MAX);
    }

    #[test]
    fn a_reopened_journal_goes_on_with_its_numbers_or_takes_another_name() {
        let (journal, id, changes) = noted(2);
        let mut pages = Pages { journal: Some(id), ..Pages::default() };
        pages.events = changes.events.iter().map(|event| (event.seq, event.clone())).collect();
        drop(journal);
        let mut none = Changes::default();
        let fresh = Entropy::seeded(8).id(Moment::default());
        let mut continued = Journal::open(&mut pages, fresh, &mut none);
        assert_eq!((continued.batch().journal, none.journal), (id, None));
        let deployment = Entropy::seeded(2).id(Moment::default());
        continued.note(deployment, &Standing::plain(Phase::Stopped), Moment::default(), &mut none);
        assert_eq!(numbers(&continued), [1, 2, 3]);
        let mut emptied = Pages { journal: Some(id), ..Pages::default() };
        assert_eq!(Journal::open(&mut emptied, fresh, &mut none).batch().journal, fresh);
    }
}
