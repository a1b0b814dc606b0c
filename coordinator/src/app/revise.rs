//! A new revision of a deployment that exists: the one way in which anything of a bot changes after it was made.
//!
//! ```text
//!   current(tx) ─► revision n: what it pins, its files
//!                      └─► domain::{amend, secrets} make of it revision n+1
//!   commit(tx)  ◄───────────┘  row, state and timeline, mark for its host: all in the caller's transaction
//! ```
//! The verbs of `app` that change something call both: they authorise, write the audit entry, and wake who goes on from
//! there. Nothing is encrypted here: a key provider may be far away, and a transaction awaits nothing but SQL.

use std::collections::BTreeMap;

use launchpad_protocol::spec::InstanceSpec;
use launchpad_protocol::time::Moment;

use super::operations::{host_retired, is_retired};
use super::{App, AppError};
use crate::domain::deployment::{Event, step};
use crate::domain::secrets::have_room;
use crate::store::deployments::Deployment;
use crate::store::revisions::{PinnedRevision, StoredFile};
use crate::store::timeline::TimelineEntry;
use crate::store::{StoreError, Tx, deployments, outbox, revisions, timeline};

/// What a revision pins, and its files by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// What it pins.
    pub(super) revision: PinnedRevision,
    /// Its files, the config among them. A name and a version are one content for ever.
    pub(super) files: BTreeMap<String, StoredFile>,
}

/// The current revision of a deployment that can still be changed.
///
/// # Errors
/// A refusal when it is being removed, or its host was revoked; or the store failed.
pub(super) async fn current(tx: &mut Tx, deployment: &Deployment) -> Result<Content, AppError> {
    step(deployment.state, Event::Update)?;
    if let Some(host) = deployment.host
        && is_retired(tx, host).await?
    {
        return Err(host_retired().into());
    }
    Ok(read(tx, deployment).await?)
}

/// Makes `next`, whose blueprint bears the next number, the deployment's revision. `cause` is its line in the timeline.
/// Answers false, and changes nothing, when it says what the current one says. The caller calls
/// [`App::wake_after_change`] once all is committed.
///
/// # Errors
/// A refusal when there is no room for longer files, or the deployment cannot be changed any more; or the store failed.
pub(super) async fn commit(
    app: &App,
    tx: &mut Tx,
    deployment: &mut Deployment,
    next: Content,
    cause: &'static str,
    now: Moment,
) -> Result<bool, AppError> {
    let transition = step(deployment.state, Event::Update)?;
    let before = read(tx, deployment).await?;
    if next.says_the_same(&before) {
        return Ok(false);
    }
    check_room(tx, deployment, before.bytes(), next.bytes()).await?;
    let Content { mut revision, files } = next;
    revision.created_at = now;
    revisions::create(tx, &revision, &files.into_values().collect::<Vec<_>>()).await?;
    deployment.revision = revision.blueprint.revision;
    deployment.advance(&transition, now);
    deployments::update(tx, deployment).await?;
    // A second change before the first is applied leaves the state as it is, and is told all the same.
    let line = TimelineEntry::of(deployment, app.entropy.id(now), now, cause);
    timeline::append(tx, &line).await?;
    if let Some(host) = deployment.host {
        outbox::mark(tx, host).await?;
    }
    Ok(true)
}

impl Content {
    fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    /// Whether it differs from another in nothing but number and age.
    fn says_the_same(&self, other: &Self) -> bool {
        let blueprint =
            InstanceSpec { revision: other.revision.blueprint.revision, ..self.revision.blueprint.clone() };
        let created_at = other.revision.created_at;
        let aligned = PinnedRevision { blueprint, created_at, ..self.revision.clone() };
        aligned == other.revision && self.files == other.files
    }
}

async fn read(tx: &mut Tx, deployment: &Deployment) -> Result<Content, StoreError> {
    Ok(Content {
        revision: revisions::get(tx, deployment.id, deployment.revision).await?,
        files: revisions::files(tx, deployment.id, deployment.revision).await?,
    })
}

/// Longer files must have room in the deployment's share of a spec, and in the spec of its host.
async fn check_room(tx: &mut Tx, deployment: &Deployment, before: u64, after: u64) -> Result<(), AppError> {
    if after <= before {
        return Ok(());
    }
    let on_host = match deployment.host {
        Some(host) => revisions::files_bytes_on_hosts(tx).await?.get(&host).copied().unwrap_or_default(),
        None => 0,
    };
    Ok(have_room(after, on_host.saturating_sub(before) + after)?)
}
