//! How many hosts are admitted at a time, when all of them come at once.
//!
//! The doors bound the handshakes that are under way (`pki`); this bounds what waits for the store behind them. Whoever
//! finds no turn is told so at once and comes again, after a pause with full jitter that doubles each time: so a fleet
//! that was cut off comes back at the rate at which the store takes it, and reports of those that are in are not kept
//! waiting by those that are not.

use std::sync::Arc;

use launchpad_protocol::reason::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Admissions under way at a time. Writers stand in one line, and an admission takes the store a millisecond or two: the
/// last of these waits for a fraction of a second.
const ADMISSIONS_MAX: usize = 128;

/// The turns.
#[derive(Debug, Clone)]
pub(super) struct Crowd(Arc<Semaphore>);

impl Default for Crowd {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ADMISSIONS_MAX)))
    }
}

impl Crowd {
    /// A turn to be admitted, given back when it is dropped.
    ///
    /// # Errors
    /// Why not now.
    pub(super) fn turn(&self) -> Result<OwnedSemaphorePermit, Reason> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Reason::new("coordinator-busy", format!("{ADMISSIONS_MAX} hosts are being admitted at this moment"))
                .because("many hosts connect at once, as after an outage")
                .mend("the agent tries again by itself within half a minute; its bots run on")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_turn_is_told_and_has_one_when_another_is_done() {
        let crowd = Crowd::default();
        let mut turns: Vec<_> = (0..ADMISSIONS_MAX).map(|_| crowd.turn().unwrap()).collect();
        assert_eq!(crowd.turn().unwrap_err().code, "coordinator-busy");
        turns.pop();
        assert!(crowd.turn().is_ok());
    }
}
