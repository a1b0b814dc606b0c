//! Hosts that are not heard: silent, then lost; what of theirs may move does, unless too many fell silent together.
//!
//! ```text
//!   last reports ──► domain::silence (how long, in this life) ──► states ──► suspicion ──► failover
//! ```
//! One transaction: a report that is stored before it keeps its host's bots where they are, and one that comes after it
//! renews no lease that has ended, because the host does not hold what is wished of it any more.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::id::HostId;
use launchpad_protocol::time::{BootMoment, Moment};

use super::failover;
use crate::app::App;
use crate::domain::audit::AuditEntry;
use crate::domain::host::{HostEvent, HostState, silence, step};
use crate::domain::lease::{Patience, Policy};
use crate::domain::silence::{Heard, Suspicion};
use crate::store::hosts::Host;
use crate::store::timeline::{self, TimelineEntry};
use crate::store::{Commit, StoreError, Tx, audit, deployments, failover as suspicions, hosts};

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Watched {
    /// Hosts that fell silent, or were given up.
    pub(super) hosts: usize,
    /// Deployments that have another host now, or a reason why they have none.
    pub(super) moved: usize,
}

/// Notes which hosts fell silent or are lost, and moves what may. `heard` is what this life knows.
pub(super) async fn round(app: &App, heard: &mut Heard) -> Result<Watched, StoreError> {
    let now = app.clock.boot();
    let seen =
        app.store.read(async |tx| Ok::<_, StoreError>((hosts::all(tx).await?, suspicions::suspicion(tx).await?)));
    let (seen, suspicion) = seen.await?;
    // Most rounds find nothing, and should not wait for writers to learn it.
    let any_quiet = quiet(&seen, heard, now).values().any(|silent_for| *silent_for > app.patience.silent_after);
    if !any_quiet && suspicion == Suspicion::default() {
        return Ok(Watched::default());
    }
    let watch = async |tx: &mut Tx| look(app, tx, heard, now).await;
    let watched: Watched = app.store.write(Commit::Silence, watch).await?;
    if watched.moved > 0 {
        app.signals.compiler.notify();
    }
    if watched != Watched::default() {
        app.signals.timeline.ring();
    }
    Ok(watched)
}

/// For how long each host has been silent that may hold anything.
fn quiet(hosts: &[Host], heard: &mut Heard, now: BootMoment) -> BTreeMap<HostId, Duration> {
    let holds = hosts.iter().filter(|host| host.state != HostState::Pending);
    holds.map(|host| (host.id, heard.silent_for(host.id, host.last_seen_at, now))).collect()
}

async fn look(app: &App, tx: &mut Tx, heard: &mut Heard, now: BootMoment) -> Result<Watched, StoreError> {
    let mut fleet = hosts::all(tx).await?;
    let silences = quiet(&fleet, heard, now);
    let mut watched = Watched::default();
    for host in &mut fleet {
        let silent_for = silences.get(&host.id).copied().unwrap_or_default();
        let next = after(host, silent_for, &app.patience);
        if next != host.state {
            hosts::set_state(tx, host.id, next).await?;
            tracing::warn!(host = %host.id, name = host.name, state = %next, "a host is not heard");
            host.state = next;
            watched.hosts += 1;
            if next == HostState::Lost {
                mark_lost(app, tx, host).await?;
            }
        }
    }
    let suspicion = weigh(tx, &fleet, app.clock.wall()).await?;
    watched.moved = failover::round(app, tx, &fleet, &silences, &suspicion).await?;
    Ok(watched)
}

/// What a host is after so long a silence.
fn after(host: &Host, silent_for: Duration, patience: &Patience) -> HostState {
    let mut state = host.state;
    if silent_for > patience.silent_after {
        state = step(state, host.cordoned, HostEvent::FellSilent);
    }
    if silent_for > patience.lost_after {
        state = step(state, host.cordoned, HostEvent::GivenUp);
    }
    state
}

/// A line in the timeline of each bot that stays on a lost host. What they are shown to be is what they were.
async fn mark_lost(app: &App, tx: &mut Tx, host: &Host) -> Result<(), StoreError> {
    let now = app.clock.wall();
    for row in deployments::on_host(tx, host.id).await?.iter().filter(|row| row.policy == Policy::Keep) {
        let mut line = TimelineEntry::of(row, app.entropy.id(now), now, "its host is lost");
        line.reason = silence(host.state, host.last_seen_at, row.policy);
        timeline::append(tx, &line).await?;
    }
    Ok(())
}

/// Whether so many are silent together that nothing may move. What is new of that is logged and audited.
async fn weigh(tx: &mut Tx, fleet: &[Host], now: Moment) -> Result<Suspicion, StoreError> {
    let before = suspicions::suspicion(tx).await?;
    let after = before.weigh(&fleet.iter().map(|host| (host.id, host.state)).collect(), now);
    if after != before {
        suspicions::keep(tx, &after).await?;
    }
    let (action, detail) = match (&before.frozen, &after.frozen) {
        (None, Some(frozen)) => ("failover.freeze", frozen.reason().to_string()),
        (Some(_), None) => ("failover.thaw", "enough hosts are heard again".to_owned()),
        (None, None) | (Some(_), Some(_)) => return Ok(after),
    };
    tracing::error!(action, "{detail}");
    audit::append(tx, &AuditEntry::by_coordinator(now, action, "fleet".to_owned(), detail)).await?;
    Ok(after)
}
