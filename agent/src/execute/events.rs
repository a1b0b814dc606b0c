//! Docker's events about containers of ours: what makes an old observation stale.
//!
//! [`Watch::start`] runs one task for as long as the host is held. It says nothing about what is so, only
//! which container to look at again; when the stream breaks, everything is stale until it is back.
//!
//! ```text
//!  away ── connected ──► listening ── event of id ──► stale.ids += id, wake
//!    ▲  (all stale, wake)     │
//!    └──── stream ended ──────┘  (all stale, wake)
//! ```

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::query_parameters::EventsOptions;
use futures::StreamExt as _;
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::{Clock, Moment};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::engine::{CALL_TIMEOUT, Engine};
use crate::observe::LABEL_HOST;

/// Before the first attempt to reach an engine that went away. It is away for a second or two when it is
/// upgraded.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Between later attempts: soon enough to see its return, too seldom to be noticed by the host.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// Moments count microseconds, Docker seconds.
const MICROS_PER_SECOND: i64 = 1_000_000;

/// What has to be looked at again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// Everything: the stream was away, or something is suspected.
    pub all: bool,
    /// Something that is no container: networks, volumes, files.
    pub rest: bool,
    /// These containers.
    pub ids: BTreeSet<String>,
    /// The list itself: a container of ours was made or removed by us.
    pub list: bool,
}

/// What is stale, and the bell that rings when it becomes so.
#[derive(Debug, Default)]
pub struct Board {
    stale: Mutex<Stale>,
    bell: Notify,
}

impl Board {
    /// Writes something down, and rings.
    pub fn mark(&self, note: impl FnOnce(&mut Stale)) {
        note(&mut self.locked());
        self.bell.notify_one();
    }

    /// Takes what is stale; what becomes so later is on the next list.
    pub fn take(&self) -> Stale {
        std::mem::take(&mut *self.locked())
    }

    /// Waits for the bell. One that rang since the last wait is not lost; cancel-safe.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Stale> {
        self.stale.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The task that listens.
#[derive(Debug)]
pub struct Watch {
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Listens until this is dropped.
    #[must_use]
    pub fn start(engine: Arc<Engine>, host: HostId, board: Arc<Board>) -> Self {
        Self { _task: AbortOnDropHandle::new(tokio::spawn(listen(engine, host, board))) }
    }
}

async fn listen(engine: Arc<Engine>, host: HostId, board: Arc<Board>) {
    let mut pause = RETRY_FIRST;
    loop {
        if let Ok(client) = engine.client().await {
            // From before everything is looked at: what happens between is told again, not missed.
            let since = Clock::machine().wall();
            if engine
                .ask(CALL_TIMEOUT, |docker| async move { docker.ping().await })
                .await
                .is_ok_and(|pong| pong.is_ok())
            {
                pause = RETRY_FIRST;
                board.mark(|stale| stale.all = true);
                let mut events = client.events(Some(options(host, since)));
                while let Some(Ok(event)) = events.next().await {
                    if let Some(id) = event.actor.and_then(|actor| actor.id) {
                        board.mark(|stale| {
                            stale.ids.insert(id);
                        });
                    }
                }
                tracing::info!("Docker's events ended; bots run on, and are looked at again when it is back");
                board.mark(|stale| stale.all = true);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_CAP);
    }
}

fn options(host: HostId, since: Moment) -> EventsOptions {
    let filter = |key: &str, values: &[&str]| (key.to_owned(), values.iter().map(|v| (*v).to_owned()).collect());
    // Not `exec_*` and `top`, which change nothing, and not `attach`.
    let changes =
        ["create", "start", "die", "oom", "kill", "stop", "pause", "unpause", "destroy", "update", "rename"];
    let label = format!("{LABEL_HOST}={host}");
    let filters: HashMap<String, Vec<String>> =
        HashMap::from([filter("type", &["container"]), filter("label", &[&label]), filter("event", &changes)]);
    EventsOptions { since: Some(unix_time(since)), until: None, filters: Some(filters) }
}

/// Seconds since 1970 with a fraction, as the events API takes them.
fn unix_time(at: Moment) -> String {
    let micros = at.micros();
    format!("{}.{:06}", micros.div_euclid(MICROS_PER_SECOND), micros.rem_euclid(MICROS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_is_asked_from_a_moment_on() {
        assert_eq!(unix_time(Moment::from_micros(1_700_000_000_000_042)), "1700000000.000042");
    }

    #[tokio::test]
    async fn a_bell_that_rang_before_anyone_waited_is_heard_and_its_note_is_taken_once() {
        let board = Board::default();
        board.mark(|stale| {
            stale.ids.insert("c1".to_owned());
        });
        board.mark(|stale| stale.rest = true);
        board.rung().await;
        let taken = board.take();
        assert!(taken.rest && taken.ids.contains("c1") && !taken.all);
        assert_eq!(board.take(), Stale::default());
    }
}
