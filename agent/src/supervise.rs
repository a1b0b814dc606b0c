//! What systemd hears of agent and gate: ready, at work, ending. Nothing where nobody listens (`NOTIFY_SOCKET`).
//!
//! ```text
//! asked ──► the loop that matters ──answer──► READY=1 (the first), WATCHDOG=1 (each later one)
//!   ▲                                            │
//!   └──────────── a part of WatchdogSec= ────────┘
//! ```
//! A beat is an answer of the very loop that does the work, never a timer's: a loop that hangs falls silent, whatever
//! else of the process still turns. And an answer that takes its time is waited for, not counted as missing. Who waits for
//! a slow dockerd is not dead: `WatchdogSec=` in the unit has room for the longest turn.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Beats for each span of silence that systemd allows: it takes three that go astray in a row to be killed by mistake.
const BEATS: u32 = 4;

/// Before the loop is asked once more whether it is there, while the process starts.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Tells systemd how it goes until `stop`, and that it ends then. `answer` asks the loop; its words are what `systemctl
/// status` shows. None: nobody answered.
pub async fn supervise(mut answer: impl AsyncFnMut() -> Option<String>, stop: CancellationToken) {
    stop.run_until_cancelled(beat(&mut answer, sd_notify::watchdog_enabled(), &mut tell)).await;
    tell(&[NotifyState::Stopping]);
}

/// Never ends.
async fn beat(
    answer: &mut impl AsyncFnMut() -> Option<String>,
    silence_allowed: Option<Duration>,
    tell: &mut impl FnMut(&[NotifyState<'_>]),
) {
    loop {
        if let Some(words) = answer().await {
            tell(&[NotifyState::Ready, NotifyState::Status(&words)]);
            break;
        }
        sleep(ASK_AGAIN).await;
    }
    let Some(silence_allowed) = silence_allowed else { return std::future::pending().await };
    loop {
        sleep(silence_allowed / BEATS).await;
        if let Some(words) = answer().await {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&words)]);
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "systemd cannot be told how it goes");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, timeout};

    use super::*;

    const ALLOWED: Duration = Duration::from_secs(40);

    /// What is told within a while, by its seconds.
    async fn told(mut answer: impl AsyncFnMut() -> Option<String>, within: Duration) -> Vec<(u64, String)> {
        let (begun, mut heard) = (Instant::now(), Vec::new());
        let mut tell = |what: &[NotifyState<'_>]| {
            let words: Vec<String> = what.iter().map(ToString::to_string).collect();
            heard.push((begun.elapsed().as_secs(), words.join(" ")));
        };
        let ended = timeout(within, beat(&mut answer, Some(ALLOWED), &mut tell)).await;
        assert!(ended.is_err(), "it never ends");
        heard
    }

    fn heard(at: u64, words: &str) -> (u64, String) {
        (at, words.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_with_the_first_answer_and_beats_with_each_later_one() {
        let heard_of = told(async || Some("well".to_owned()), Duration::from_secs(25)).await;
        let beat = "WATCHDOG=1 STATUS=well";
        assert_eq!(heard_of, [heard(0, "READY=1 STATUS=well"), heard(10, beat), heard(20, beat)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_falls_silent() {
        let mut asked = 0;
        let answer = async || {
            asked += 1;
            if asked > 2 { pending().await } else { Some("well".to_owned()) }
        };
        let heard_of = told(answer, Duration::from_secs(1000)).await;
        assert_eq!(heard_of, [heard(0, "READY=1 STATUS=well"), heard(10, "WATCHDOG=1 STATUS=well")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_its_time_is_waited_for() {
        let mut asked = 0;
        let answer = async || {
            asked += 1;
            sleep(Duration::from_secs(if asked == 2 { 25 } else { 0 })).await;
            Some("well".to_owned())
        };
        let heard_of = told(answer, Duration::from_secs(46)).await;
        let times: Vec<u64> = heard_of.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0, 35, 45]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_ready_while_nobody_answers() {
        assert_eq!(told(async || None, Duration::from_secs(1000)).await, []);
    }
}
