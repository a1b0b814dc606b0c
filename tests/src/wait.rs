//! Waiting for a condition, with a deadline, and an account of what was seen last when it passes.
//!
//! Every wait of the harness and of the scenarios is one of these: no test sleeps for a time that somebody guessed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The first pause between two looks: short, because most conditions hold at once on a quiet machine.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
/// The longest pause, so that a long wait neither burns a core nor overshoots by much.
const PAUSE_LONGEST: Duration = Duration::from_millis(200);

/// Real time since a start: the laboratory lives in it, unlike the code under test.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "waits for real processes on the real clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks until `condition` gives a value. `Ok(Err(seen))` means "not yet, and this is what I saw".
///
/// # Errors
/// The condition's own error, at once; or, after `deadline`, `what` together with what was seen last.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    condition: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    wait_at_most_every(PAUSE_LONGEST, what, deadline, condition)
}

/// As [`wait_for`], with pauses no longer than `longest`: for a benchmark, whose figure they are part of.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_at_most_every<T>(
    longest: Duration,
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let started = Stopwatch::start();
    let mut pause = PAUSE_FIRST.min(longest);
    loop {
        let seen = match condition()? {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if started.elapsed() >= deadline {
            bail!("after {:.1} s still waiting for {what}; last seen: {seen}", deadline.as_secs_f64());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

/// Looks until `condition` holds.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, deadline, || Ok(if condition()? { Ok(()) } else { Err("not yet".to_owned()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let value = wait_for("the third look", Duration::from_secs(5), || {
            looks += 1;
            Ok(if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) })
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn a_deadline_tells_what_was_seen_last() {
        let error = wait_for::<()>("rain", Duration::from_millis(1), || Ok(Err("sunshine".to_owned()))).unwrap_err();
        assert!(error.to_string().contains("waiting for rain; last seen: sunshine"), "{error}");
    }
}
