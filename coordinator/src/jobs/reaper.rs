//! What is past its time.
//!
//! A deleted deployment's data is ordered away when its plan's retention has passed: by a tombstone, which its host
//! carries out and acknowledges, and never by leaving something out; the audit log says that the coordinator did it. Answered operations, carried-out tombstones, old
//! kept answers and ended certificates are forgotten.

use std::time::Duration;

use launchpad_protocol::spec::{Tombstone, TombstoneScope};
use launchpad_protocol::time::Moment;

use crate::app::App;
use crate::domain::audit::AuditEntry;
use crate::domain::deployment::State;
use crate::store::deployments::Deployment;
use crate::store::{
    Commit, StoreError, Tx, audit, certificates, deployments, idempotency, operations, outbox, revisions, tombstones,
};

/// How long answered operations and carried-out tombstones are kept, for people who ask what happened.
const HISTORY: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a repeated request is recognised: a day covers any retry that still means the same wish.
const IDEMPOTENCY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an ended certificate is remembered: as long as its host may still renew it (30 days), and a day more.
const CERTIFICATES: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// Clears away what is past its time. Answers how many deployments' data was ordered away.
pub(super) async fn round(app: &App) -> Result<usize, StoreError> {
    let now = app.clock.wall();
    let reap = async |tx: &mut Tx| {
        let ordered = order_data_away(app, tx, now).await?;
        operations::sweep(tx, now - HISTORY).await?;
        tombstones::sweep(tx, now - HISTORY).await?;
        idempotency::sweep(tx, now - IDEMPOTENCY).await?;
        certificates::sweep(tx, now - CERTIFICATES).await?;
        Ok::<_, StoreError>(ordered)
    };
    let ordered = app.store.write(Commit::Reap, reap).await?;
    if ordered > 0 {
        app.signals.compiler.notify();
    }
    Ok(ordered)
}

async fn order_data_away(app: &App, tx: &mut Tx, now: Moment) -> Result<usize, StoreError> {
    let mut ordered = 0;
    for deployment in deployments::in_state(tx, State::Terminating).await? {
        ordered += usize::from(order_away(app, tx, &deployment, now).await?);
    }
    Ok(ordered)
}

async fn order_away(app: &App, tx: &mut Tx, deployment: &Deployment, now: Moment) -> Result<bool, StoreError> {
    let (Some(host), Some(deleted_at)) = (deployment.host, deployment.deleted_at) else { return Ok(false) };
    let revision = revisions::get(tx, deployment.id, deployment.revision).await?;
    let kept_until = deleted_at + revision.plan.retention();
    if now < kept_until || tombstones::data_is_ordered_away(tx, deployment.id).await? {
        return Ok(false);
    }
    let tombstone = Tombstone {
        id: app.entropy.id(now),
        deployment: deployment.id,
        account: deployment.account,
        scope: TombstoneScope::Data,
        stop_grace: revision.blueprint.stop_grace,
    };
    tombstones::create(tx, host, &tombstone, now).await?;
    let detail = format!("retention ended at {kept_until}");
    let entry = AuditEntry {
        account: Some(deployment.account),
        ..AuditEntry::by_coordinator(now, "deployment.data-away", deployment.id.to_string(), detail)
    };
    audit::append(tx, &entry).await?;
    outbox::mark(tx, host).await?;
    Ok(true)
}
