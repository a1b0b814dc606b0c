//! How many laboratories there are at a time, over all tests of this suite.
//!
//! Most of a journey is waiting for a killed process's peer to notice, so that more run side by side than there are
//! cores; each takes some 300 MB.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use super::site::Site;

/// Laboratories for each core.
const PER_CORE: usize = 2;

/// Laboratories that are open, of the whole process.
static OPEN: Mutex<usize> = Mutex::new(0);
/// Rings when one closes.
static CLOSED: Condvar = Condvar::new();

/// The right to one laboratory.
struct Turn;

impl Turn {
    fn most() -> usize {
        thread::available_parallelism().map_or(1, NonZero::get) * PER_CORE
    }

    fn take() -> Self {
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = CLOSED.wait_while(open, |open| *open >= Self::most()).unwrap_or_else(PoisonError::into_inner);
        *open += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        CLOSED.notify_all();
    }
}

/// Visits each point once: in one laboratory after the other while there are few turns, side by side while there are many.
///
/// # Errors
/// The first visit's that failed; the others of its laboratory are not made then.
pub(crate) fn visit_all(
    points: &[String],
    open: fn() -> Result<Site>,
    visit: fn(&mut Site, &str) -> Result<()>,
) -> Result<()> {
    let left = Mutex::new(points.iter().collect::<VecDeque<_>>());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<()> {
        let _turn = Turn::take();
        let Some(mut point) = next() else { return Ok(()) };
        let mut site = open()?;
        loop {
            visit(&mut site, point).with_context(|| point.clone())?;
            let Some(another) = next() else { return site.close() };
            point = another;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..Turn::most().min(points.len())).map(|_| scope.spawn(work)).collect();
        let ends: Vec<Result<()>> = workers
            .into_iter()
            .map(|run| run.join().map_err(|_| anyhow!("a laboratory's thread panicked"))?)
            .collect();
        ends.into_iter().collect()
    })
}
