//! What systemd hears of the coordinator: ready, at work, ending. Nothing where nobody listens (`NOTIFY_SOCKET`).
//!
//! It is ready when every door is bound. A beat is a round of the compiler, which turns wishes into specs: it wakes every
//! two seconds, reads the store and ends, well or not. A store that answers with an error is no reason to be killed,
//! because another life would meet the same store; one that never answers is, because another life has a new connection.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::outside::Addresses;

/// Beats for each span of silence that systemd allows: it takes three that go astray in a row to be killed by mistake.
const BEATS: u32 = 4;

/// Tells systemd how it goes until `stop`, and that it ends then.
pub(crate) async fn supervise(addresses: Addresses, rounds: watch::Receiver<u64>, stop: CancellationToken) {
    let words = format!("API {}, fleet {}, enrolment {}", addresses.http, addresses.fleet, addresses.enroll);
    tell(&[NotifyState::Ready, NotifyState::Status(&words)]);
    if let Some(silence_allowed) = sd_notify::watchdog_enabled() {
        let beat = || tell(&[NotifyState::Watchdog]);
        stop.run_until_cancelled(beat_with(rounds, silence_allowed, beat)).await;
    }
    stop.cancelled().await;
    tell(&[NotifyState::Stopping]);
}

/// Ends when nobody is left to end a round.
async fn beat_with(mut rounds: watch::Receiver<u64>, silence_allowed: Duration, mut beat: impl FnMut()) {
    while rounds.changed().await.is_ok() {
        beat();
        sleep(silence_allowed / BEATS).await;
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "systemd cannot be told how it goes");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::signals::Bell;

    /// What is not told within ten times the pause between two beats is not told.
    const PAUSE: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_beat_is_a_round_and_nothing_else_is() {
        let (compiled, (tell, mut told)) = (Bell::default(), mpsc::channel(8));
        let beating = beat_with(compiled.listen(), PAUSE * BEATS, move || tell.try_send(()).expect("room"));
        let rounds = async {
            for _ in 0..3 {
                compiled.ring();
                assert_eq!(told.recv().await, Some(()));
            }
            // The compiler hangs.
            assert!(timeout(PAUSE * 10, told.recv()).await.is_err(), "a timer beats");
        };
        tokio::select! {
            () = rounds => {}
            () = beating => panic!("rounds may begin again"),
        }
    }

    #[tokio::test]
    async fn many_rounds_are_no_more_beats_than_are_needed() {
        let (compiled, (tell, mut told)) = (Bell::default(), mpsc::channel(8));
        let day = Duration::from_secs(24 * 3600);
        let beating = beat_with(compiled.listen(), day, move || tell.try_send(()).expect("room"));
        let rounds = async {
            compiled.ring();
            assert_eq!(told.recv().await, Some(()));
            compiled.ring();
            assert!(timeout(PAUSE * 10, told.recv()).await.is_err(), "systemd is told at every round");
        };
        tokio::select! {
            () = rounds => {}
            () = beating => panic!("rounds may begin again"),
        }
    }
}
