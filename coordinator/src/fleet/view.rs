//! What a host reports, into the store: one transaction a report, and after it the host may forget what it told.
//!
//! ```text
//!  HostReport ── is the session still the host's? ──► domain::fold ──► states, timelines, answers, tombstones ──► commit
//!       └── the whole report, the latest of its host                          marks for the compiler ──┘
//! ```
//! The tenant of anything comes from placement: what a host says of a deployment that is not placed on it changes
//! nothing, and stays in its report for people to see. A report that comes twice is folded once.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::frame::Leases;
use launchpad_protocol::generation::{Accepted, Fence};
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::time::Moment;

use super::renew;
use super::seats::replaced;
use super::server::Ground;
use crate::domain::audit::AuditEntry;
use crate::domain::fold::{Folded, Standing, View, events_lost, fold};
use crate::domain::host::{self, HostEvent, HostState};
use crate::store::deployments::Deployment;
use crate::store::hosts::{Host, Seen};
use crate::store::timeline::TimelineEntry;
use crate::store::{
    Commit, StoreError, Tx, audit, deployments, hosts, meta, operations, outbox, reports, specs, timeline, tombstones,
};

/// Why a report was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum ViewError {
    /// The session is not the host's any more, or the host not ours.
    #[error("{0}")]
    Dismissed(Reason),
    /// The store cannot keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who else has to look at the store after a report.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct News {
    /// A deployment has changed.
    timeline: bool,
    /// The host's spec has to be compiled anew.
    spec: bool,
    /// There may be room where there was none.
    room: bool,
    /// The host holds all that is wished of it, as far as anybody knows.
    current: bool,
}

/// Stores a report that came in a session under that fence. Answers what that means for the host's leases: those that
/// have ended begin anew only under the newest wishes. A bot that was moved is not among them, whatever an older spec
/// says; and while publishing is frozen nobody knows where it was moved to.
///
/// # Errors
/// When the session has been replaced, the host was revoked, or the store is away.
pub(super) async fn store(
    ground: &Ground,
    host: HostId,
    fence: Fence,
    report: &HostReport,
) -> Result<Leases, ViewError> {
    let now = ground.clock.wall();
    let commit = async |tx: &mut Tx| {
        let row = current(tx, host, fence).await?;
        Ok(take(ground, tx, &row, report, now).await?)
    };
    let news: News = ground.store.write::<_, ViewError>(Commit::StoreReport, commit).await?;
    if news.spec {
        ground.signals.compiler.notify();
    }
    if news.room {
        ground.signals.placer.notify();
    }
    if news.timeline {
        ground.signals.timeline.ring();
    }
    Ok(if news.current { Leases::Granted } else { Leases::Extended })
}

/// The host, if the session with that fence is its newest.
async fn current(tx: &mut Tx, host: HostId, fence: Fence) -> Result<Host, ViewError> {
    match hosts::get(tx, host).await? {
        Some(row) if row.state == HostState::Retired => Err(ViewError::Dismissed(renew::revoked_or_unknown(host))),
        Some(row) if row.fence != fence => Err(ViewError::Dismissed(replaced(row.fence))),
        Some(row) => Ok(row),
        None => Err(ViewError::Dismissed(renew::revoked_or_unknown(host))),
    }
}

async fn take(
    ground: &Ground,
    tx: &mut Tx,
    host: &Host,
    report: &HostReport,
    now: Moment,
) -> Result<News, StoreError> {
    let state = host::step(host.state, host.cordoned, HostEvent::Reported);
    let seen = Seen { state, capacity: report.capacity, capabilities: &report.capabilities };
    hosts::seen(tx, host.id, seen, now).await?;
    reports::keep(tx, host.id, host.fence, report, now).await?;
    if let Some(held) = report.accepted {
        specs::raise_floor(tx, host.id, held, now).await?;
    }
    let mut placed = placed(tx, host.id).await?;
    let view = view(tx, host.id, &placed, report).await?;
    let folded = fold(report, view, now);
    note_lost(ground, tx, &placed, report, folded.lost, now).await?;
    let mut news = News {
        current: false,
        timeline: folded.lost > 0 || !folded.steps.is_empty() || !folded.answered.is_empty(),
        spec: !folded.buried.is_empty() || !folded.answered.is_empty(),
        room: state != host.state
            || report.capacity != host.capacity
            || report.capabilities != host.capabilities
            || !folded.buried.is_empty(),
    };
    commit_steps(ground, tx, &mut placed, &folded, now).await?;
    for (id, outcome) in &folded.answered {
        operations::answer(tx, *id, outcome, now).await?;
    }
    for id in &folded.buried {
        tombstones::bury(tx, *id, now).await?;
    }
    reports::fold(tx, host.id, report.events.journal, folded.folded).await?;
    if news.spec {
        outbox::mark(tx, host.id).await?;
    }
    news.current = match report.accepted {
        Some(held) => {
            specs::is_latest(tx, host.id, held).await?
                && !outbox::is_marked(tx, host.id).await?
                && meta::frozen(tx).await?.is_none()
        }
        None => false,
    };
    if !folded.foreign.is_empty() {
        tracing::warn!(host = %host.id, deployments = ?folded.foreign, "a host reports what is not placed on it");
    }
    Ok(news)
}

/// The deployments placed on that host.
async fn placed(tx: &mut Tx, host: HostId) -> Result<BTreeMap<DeploymentId, Deployment>, StoreError> {
    let rows = deployments::on_host(tx, host).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// What the store knows about the host, for folding.
async fn view(
    tx: &mut Tx,
    host: HostId,
    placed: &BTreeMap<DeploymentId, Deployment>,
    report: &HostReport,
) -> Result<View, StoreError> {
    let standing = |row: &Deployment| Standing {
        state: row.state,
        reason: row.reason.clone(),
        revision: row.revision,
        epoch: row.epoch,
    };
    let unburied = tombstones::unburied(tx, host).await?;
    let waiting = operations::unanswered_on_host(tx, host).await?;
    Ok(View {
        standings: placed.iter().map(|(id, row)| (*id, standing(row))).collect(),
        tombstones: unburied.into_iter().map(|one| (one.id, (one.deployment, one.scope))).collect(),
        operations: waiting.into_iter().map(|(deployment, operation)| (operation.id, deployment)).collect(),
        folded: reports::folded(tx, host, report.events.journal).await?,
    })
}

/// A line in the timeline of each bot of the host, where events are missing: one of them may have been its own.
async fn note_lost(
    ground: &Ground,
    tx: &mut Tx,
    placed: &BTreeMap<DeploymentId, Deployment>,
    report: &HostReport,
    lost: u64,
    now: Moment,
) -> Result<(), StoreError> {
    if lost == 0 {
        return Ok(());
    }
    for row in placed.values().filter(|row| report.instances.contains_key(&row.id)) {
        let line = TimelineEntry {
            id: ground.entropy.id(now),
            account: row.account,
            deployment: row.id,
            at: now,
            state: row.state,
            cause: "events of its host were lost".to_owned(),
            reason: Some(events_lost(lost)),
        };
        timeline::append(tx, &line).await?;
    }
    Ok(())
}

/// Writes the folded steps, each with its line in the timeline.
async fn commit_steps(
    ground: &Ground,
    tx: &mut Tx,
    placed: &mut BTreeMap<DeploymentId, Deployment>,
    folded: &Folded,
    now: Moment,
) -> Result<(), StoreError> {
    for (turn, step) in (0_u64..).zip(&folded.steps) {
        let Some(row) = placed.get_mut(&step.deployment) else { continue };
        // Ids sort by the microsecond: one each keeps the order in which things happened.
        let line = ground.entropy.id(now + Duration::from_micros(turn));
        deployments::advance(tx, row, &step.transition, line, step.at).await?;
    }
    Ok(())
}

/// The host holds a spec that this store has not made, or has forgotten: publishing freezes until an operator has
/// looked. The first reason stays, and what an operator has looked at freezes nothing again.
///
/// # Errors
/// When the store is away.
pub(super) async fn floor_above(ground: &Ground, host: HostId, held: Accepted) -> Result<(), StoreError> {
    let now = ground.clock.wall();
    let commit = async |tx: &mut Tx| {
        let life = meta::incarnation(tx).await?;
        if specs::is_confirmed(tx, host, held.generation, life).await? {
            // Its next spec, above that, is on its way.
            return Ok(());
        }
        specs::raise_floor(tx, host, held, now).await?;
        let name = hosts::get(tx, host).await?.map_or_else(|| host.to_string(), |row| row.name);
        let reason =
            Reason::new("host-above-store", format!("host {name} holds a newer spec than this store has made"))
                .because(format!(
                    "it holds generation {}: the store was restored from an older copy",
                    held.generation
                ))
                .mend(LOOK_AND_CONFIRM);
        freeze(tx, host, &reason, now).await
    };
    ground.store.write(Commit::Freeze, commit).await
}

/// How publishing goes on after a host has shown that the store is older than it.
pub(super) const LOOK_AND_CONFIRM: &str = "see `launchpad recover status`, then `launchpad recover confirm`";

/// Freezes publishing because of that host, with an audit entry. Where it is frozen already nothing changes.
pub(super) async fn freeze(tx: &mut Tx, host: HostId, reason: &Reason, now: Moment) -> Result<(), StoreError> {
    if meta::freeze(tx, reason, now).await? {
        let entry = AuditEntry::by_coordinator(now, "publishing.freeze", host.to_string(), reason.to_string());
        audit::append(tx, &entry).await?;
        tracing::error!(%host, code = reason.code, "publishing is frozen: {reason}");
    }
    Ok(())
}
