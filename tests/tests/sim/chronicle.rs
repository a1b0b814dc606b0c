//! What everybody in a run tells to: the story of it, and the oracle that listens.
//!
//! Clones are the same chronicle. All of a run is one thread; the lock is for the compiler's sake.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launchpad_tests::cluster::trace::Trace;

use crate::oracle::{Oracle, Violation};

/// The story so far, and what it means.
#[derive(Clone)]
pub(crate) struct Chronicle(Arc<Mutex<Pages>>);

struct Pages {
    now: Duration,
    trace: Trace,
    oracle: Oracle,
}

impl Chronicle {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Pages { now: Duration::ZERO, trace: Trace::new(true), oracle: Oracle::default() })))
    }

    /// The time of what is told from now on.
    pub(crate) fn set_now(&self, now: Duration) {
        self.with(|pages| pages.now = now);
    }

    /// Adds a line to the story.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        self.with(|pages| pages.trace.line(i64::try_from(pages.now.as_micros()).unwrap_or(i64::MAX), what));
    }

    /// Tells the oracle something, or asks it.
    pub(crate) fn oracle<T>(&self, tell: impl FnOnce(&mut Oracle) -> T) -> T {
        self.with(|pages| tell(&mut pages.oracle))
    }

    /// The first violation.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.with(|pages| pages.oracle.violation.clone())
    }

    /// The hash of the story, and its last lines.
    pub(crate) fn told(&self) -> (u64, String) {
        self.with(|pages| (pages.trace.hash(), pages.trace.story()))
    }

    fn with<T>(&self, body: impl FnOnce(&mut Pages) -> T) -> T {
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
