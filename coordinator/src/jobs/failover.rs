//! Bots that may fail over, from a host that is not heard to another: under a higher epoch, once they have surely stopped.
//!
//! ```text
//!   host unheard for longer than lease, stop grace and margin ──► tombstone there, placement here ──► both are compiled
//! ```
//! A part of the watcher's transaction. Nothing moves while publishing is frozen (a restored store does not know where
//! bots run), and nothing while too many hosts are silent, but for what an operator has retired.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{Tombstone, TombstoneScope};

use crate::app::{App, candidates};
use crate::domain::compile::is_wished;
use crate::domain::deployment::{Event, step};
use crate::domain::host::HostState;
use crate::domain::lease::Policy;
use crate::domain::placement::{Placement, place};
use crate::domain::silence::Suspicion;
use crate::store::deployments::Deployment;
use crate::store::hosts::Host;
use crate::store::{StoreError, Tx, deployments, meta, outbox, revisions, tombstones};

/// Moves what may move. Answers of how many deployments there is news.
pub(super) async fn round(
    app: &App,
    tx: &mut Tx,
    fleet: &[Host],
    silences: &BTreeMap<HostId, Duration>,
    suspicion: &Suspicion,
) -> Result<usize, StoreError> {
    if meta::frozen(tx).await?.is_some() {
        return Ok(0);
    }
    let may_be_left = |host: &&Host| match host.state {
        HostState::Silent | HostState::Lost => suspicion.frozen.is_none(),
        HostState::Retired => true,
        HostState::Pending | HostState::Active | HostState::Cordoned => false,
    };
    let mut news = 0;
    for host in fleet.iter().filter(may_be_left) {
        let silent_for = silences.get(&host.id).copied().unwrap_or_default();
        // Reading what is there is cheap, and no lease is shorter.
        if silent_for <= app.patience.margin {
            continue;
        }
        for mut deployment in deployments::on_host(tx, host.id).await? {
            if deployment.policy == Policy::Failover && is_wished(deployment.state) {
                news += usize::from(leave(app, tx, &mut deployment, host, silent_for).await?);
            }
        }
    }
    Ok(news)
}

/// Has one deployment leave its host, if it has surely stopped there. Answers whether that is news.
async fn leave(
    app: &App,
    tx: &mut Tx,
    deployment: &mut Deployment,
    host: &Host,
    silent_for: Duration,
) -> Result<bool, StoreError> {
    let revision = revisions::get(tx, deployment.id, deployment.revision).await?;
    let (lease, grace) = (revision.blueprint.lease, revision.blueprint.stop_grace);
    if app.patience.stopped_after(lease, grace).is_none_or(|wait| silent_for <= wait) {
        return Ok(false);
    }
    let now = app.clock.wall();
    let bytes = revisions::files_bytes(tx, deployment.id, deployment.revision).await?;
    let wanted = app.wanted(&revision.blueprint, deployment, bytes);
    let mut hosts = candidates(tx).await?;
    let mut buried_first = Vec::new();
    for candidate in &hosts {
        // It has to take away what it had of this bot before it may have it again.
        let orders = tombstones::unburied(tx, candidate.id).await?;
        buried_first.extend(orders.iter().any(|order| order.deployment == deployment.id).then_some(candidate.id));
    }
    hosts.retain(|candidate| !buried_first.contains(&candidate.id));
    let event = match place(&wanted, &hosts) {
        Placement::Chosen(chosen) => {
            if host.state != HostState::Retired {
                let tombstone = Tombstone {
                    id: app.entropy.id(now),
                    deployment: deployment.id,
                    account: deployment.account,
                    scope: TombstoneScope::Container,
                    stop_grace: grace,
                };
                tombstones::create(tx, host.id, &tombstone, now).await?;
                outbox::mark(tx, host.id).await?;
            }
            outbox::mark(tx, chosen).await?;
            (deployment.host, deployment.epoch) = (Some(chosen), deployment.epoch.next());
            tracing::warn!(deployment = %deployment.id, from = %host.id, to = %chosen, epoch = %deployment.epoch,
                "a bot moves: its host is not heard, and its lease there has ended");
            Event::Moved
        }
        Placement::Nowhere { reason, .. } => Event::Unready(stranded(&reason)),
    };
    // Whatever is wished has such a step.
    let Ok(transition) = step(deployment.state, event) else { return Ok(false) };
    let line = app.entropy.id(now);
    if deployments::advance(tx, deployment, &transition, line, now).await? {
        return Ok(true);
    }
    // No news for its timeline, as of one that was being restarted; where it is has changed all the same.
    let moved = deployment.host != Some(host.id);
    if moved {
        deployments::update(tx, deployment).await?;
    }
    Ok(moved)
}

fn stranded(why: &Reason) -> Reason {
    Reason::new("failover-waits", "its host is not heard, and no other can take it")
        .because(why.sentence.clone())
        .mend("bring its host back, or add another to its pool")
}
