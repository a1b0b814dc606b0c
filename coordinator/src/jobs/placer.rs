//! Requested deployments, each to a host.
//!
//! One transaction a round: the hosts are read once, and each placement counts against the next. A deployment that
//! finds no host stays requested and says why. While publishing is frozen nothing is placed: it may run already. For the
//! same reason nothing is placed until the hosts have spoken to this life of the process: a store that was put back by
//! hand looks like any other until one of them shows what it holds.

use super::Started;
use crate::app::{App, candidates};
use crate::domain::deployment::{Event, State, step};
use crate::domain::host::HostState;
use crate::domain::placement::{Candidate, Placement, Wanted};
use crate::domain::recovery::place_unless;
use crate::store::deployments::Deployment;
use crate::store::hosts::Host;
use crate::store::{Commit, StoreError, Tx, deployments, hosts, meta, outbox, revisions};

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Placed {
    /// Deployments that have a host now.
    pub(super) placed: usize,
    /// Deployments whose reason for waiting is new.
    pub(super) told: usize,
}

/// Places what can be placed. `started` is when this process did.
pub(super) async fn round(app: &App, started: Started) -> Result<Placed, StoreError> {
    // Most rounds find nothing, and should not wait for writers to learn it.
    if app.store.read(async |tx| deployments::in_state(tx, State::Requested).await).await?.is_empty() {
        return Ok(Placed::default());
    }
    let done = app.store.write(Commit::Place, async |tx| place_all(app, tx, started).await).await?;
    if done.placed > 0 {
        app.signals.compiler.notify();
    }
    if done != Placed::default() {
        app.signals.timeline.ring();
    }
    Ok(done)
}

async fn place_all(app: &App, tx: &mut Tx, started: Started) -> Result<Placed, StoreError> {
    let frozen = meta::frozen(tx).await?;
    if frozen.is_none() && !have_spoken(&hosts::all(tx).await?, started, app) {
        return Ok(Placed::default());
    }
    let mut hosts = candidates(tx).await?;
    let mut done = Placed::default();
    for mut deployment in deployments::in_state(tx, State::Requested).await? {
        let revision = revisions::get(tx, deployment.id, deployment.revision).await?;
        let sealed_bytes = revisions::files_bytes(tx, deployment.id, deployment.revision).await?;
        let wanted = app.wanted(&revision.blueprint, &deployment, sealed_bytes);
        let placement = place_unless(frozen.as_ref(), &wanted, &hosts);
        if let Placement::Chosen(host) = placement {
            deployment.host = Some(host);
            deployment.epoch = deployment.epoch.next();
            outbox::mark(tx, host).await?;
            if let Some(chosen) = hosts.iter_mut().find(|one| one.id == host) {
                allot(chosen, &wanted);
            }
            done.placed += 1;
        }
        done.told += usize::from(tell(app, tx, &mut deployment, placement).await?);
    }
    Ok(done)
}

/// Whether every active host has reported since, or has had the time in which it would have fallen silent. A host that
/// joined since holds nothing that was forgotten.
fn have_spoken(hosts: &[Host], started: Started, app: &App) -> bool {
    let is_awaited = |host: &Host| {
        matches!(host.state, HostState::Active | HostState::Cordoned) && host.enrolled_at < started.wall
    };
    let has_spoken = |host: &Host| host.last_seen_at.is_some_and(|seen| seen >= started.wall);
    // Waiting has an end on a clock that nobody can set back.
    app.clock.boot().since(started.boot) > app.patience.silent_after
        || hosts.iter().all(|host| !is_awaited(host) || has_spoken(host))
}

/// Commits what became of it. Answers whether that was news.
async fn tell(app: &App, tx: &mut Tx, deployment: &mut Deployment, placement: Placement) -> Result<bool, StoreError> {
    let event = match placement {
        Placement::Chosen(_) => Event::Placed,
        Placement::Nowhere { reason, .. } => Event::Unplaceable(reason),
    };
    // Only requested deployments come here, and both steps exist for them.
    let Ok(transition) = step(deployment.state, event) else { return Ok(false) };
    let now = app.clock.wall();
    deployments::advance(tx, deployment, &transition, app.entropy.id(now), now).await
}

fn allot(host: &mut Candidate, wanted: &Wanted) {
    let size = wanted.size;
    host.instances += 1;
    host.tenants.insert(wanted.account);
    host.sealed_bytes = host.sealed_bytes.saturating_add(wanted.sealed_bytes);
    host.allocated.cpu_millis = host.allocated.cpu_millis.saturating_add(size.cpu_millis);
    host.allocated.memory_bytes = host.allocated.memory_bytes.saturating_add(size.memory_bytes);
    host.allocated.storage_bytes = host.allocated.storage_bytes.saturating_add(size.storage_bytes);
}
