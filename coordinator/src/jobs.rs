//! The loops that make wishes come true: each wakes on a signal and on a timer, rereads the store, and does what is
//! left to do.
//!
//! ```text
//!   requested ──► placer ──► has a host; the host is marked in the outbox
//!                              outbox ──► compiler ──► the host's next spec ──► fleet::publish
//!   past their time ──► reaper        silent too long ──► watcher ──► failover
//!   a domain claimed, or long not looked at ──► domains ──► proved: it leads to its bot
//!   another version of agents wanted ──► upgrader ──► a wish in the specs of few hosts at once
//!   another key wanted ──► rotator ──► every file's data key is wrapped with it
//! ```
//! A round takes no hints: whatever a killed coordinator, or another replica, left half-done is found again in the
//! store. A round that fails is logged and comes again.

mod compiler;
mod domains;
mod failover;
mod placer;
mod reaper;
mod rotator;
mod upgrader;
mod watcher;

use std::time::Duration;

use launchpad_protocol::time::{BootMoment, Clock, Moment};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::silence::Heard;

/// How often each loop rereads the store without a signal: what another replica committed, or a crash interrupted,
/// waits this long at the most.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);
/// How often the job looks which domains are due: a young claim is looked at once a minute.
const DOMAIN_INTERVAL: Duration = Duration::from_secs(5);
/// How often what is past its time is cleared away: retention is counted in days.
const REAP_INTERVAL: Duration = Duration::from_secs(30);

/// Runs all jobs until the coordinator stops.
pub(crate) async fn run(app: &App, stop: CancellationToken) {
    tokio::join!(
        placing(app, &stop),
        compiling(app, &stop),
        reaping(app, &stop),
        rotating(app, &stop),
        upgrading(app, &stop),
        looking_after_domains(app, &stop),
        watching(app, &stop)
    );
}

/// When this life of the process began.
#[derive(Debug, Clone, Copy)]
struct Started {
    /// On the wall, to compare with what the store remembers.
    wall: Moment,
    /// On the boot clock, to measure how long ago that is: nobody sets it back.
    boot: BootMoment,
}

impl Started {
    fn now(clock: &Clock) -> Self {
        Self { wall: clock.wall(), boot: clock.boot() }
    }
}

async fn placing(app: &App, stop: &CancellationToken) {
    let started = Started::now(&app.clock);
    loop {
        if let Err(error) = placer::round(app, started).await {
            tracing::error!(%error, "cannot place deployments; trying again");
        }
        // Cancel-safe, as below: a signal that is not taken is found at the next wait, a lost one by the timer.
        tokio::select! {
            () = app.signals.placer.notified() => {}
            () = tokio::time::sleep(ROUND_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn compiling(app: &App, stop: &CancellationToken) {
    loop {
        if let Err(error) = compiler::round(app).await {
            tracing::error!(%error, "cannot compile specs; trying again");
        }
        app.signals.compiled.ring();
        tokio::select! {
            () = app.signals.compiler.notified() => {}
            () = tokio::time::sleep(ROUND_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn reaping(app: &App, stop: &CancellationToken) {
    loop {
        if let Err(error) = reaper::round(app).await {
            tracing::error!(%error, "cannot clear away what is past its time; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(REAP_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn looking_after_domains(app: &App, stop: &CancellationToken) {
    let mut settled = false;
    loop {
        settled = settled || domains::settle(app).await;
        if let Err(error) = domains::round(app).await {
            tracing::error!(%error, "cannot look after domains; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(DOMAIN_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn upgrading(app: &App, stop: &CancellationToken) {
    loop {
        if let Err(error) = upgrader::round(app).await {
            tracing::error!(%error, "cannot upgrade agents; trying again");
        }
        tokio::select! {
            () = app.signals.upgrader.notified() => {}
            () = tokio::time::sleep(ROUND_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn rotating(app: &App, stop: &CancellationToken) {
    let mut turn = rotator::Turn::default();
    loop {
        let more = rotator::round(app, &mut turn).await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot rotate the keys; trying again");
            false
        });
        if more && !stop.is_cancelled() {
            continue;
        }
        tokio::select! {
            () = app.signals.rotator.notified() => {}
            () = tokio::time::sleep(ROUND_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn watching(app: &App, stop: &CancellationToken) {
    let mut heard = Heard::default();
    loop {
        if let Err(error) = watcher::round(app, &mut heard).await {
            tracing::error!(%error, "cannot see which hosts are silent; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(ROUND_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests;
