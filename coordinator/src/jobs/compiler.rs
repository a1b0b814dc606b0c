//! Marked hosts, each to its next spec.
//!
//! ```text
//!   read: what is wished on the host, what is sealed already
//!     └─► seal what is not (decrypt by the keyring, HPKE to the host): outside of any transaction
//!           └─► one transaction: reread, compile, publish n+1 if it differs from n, take the mark away
//! ```
//! The number is above both the latest spec and the host's floor. While publishing is frozen nothing happens here, and
//! the marks stay.

use std::collections::BTreeMap;

use launchpad_pki::envelope::EnvelopeError;
use launchpad_pki::sealing::{SealContext, SealError, SealingPublicKey};
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::limits::SPEC_MAX_BYTES;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{Operation, SpecOffer};

use crate::app::App;
use crate::domain::compile::{Basis, CompileError, PlacedDeployment, is_wished, next_spec, power};
use crate::store::outbox::Mark;
use crate::store::revisions::StoredFile;
use crate::store::sealed::SealedFor;
use crate::store::{
    Commit, StoreError, Tx, deployments, hosts, meta, operations, outbox, revisions, sealed, specs, tombstones,
    upgrades,
};

/// Why a host's spec was not compiled.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompileFailed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{deployment}, file `{file}`: {source}")]
    Decrypt { deployment: DeploymentId, file: String, source: EnvelopeError },
    #[error("{host} cannot be sealed to: {source}")]
    Seal { host: HostId, source: SealError },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("the spec of {host} would be {bytes} bytes, a host takes {SPEC_MAX_BYTES}")]
    TooLarge { host: HostId, bytes: usize },
}

impl CompileFailed {
    /// What people are told; none: it passes by itself, and comes again.
    fn reason(&self) -> Option<Reason> {
        let reason = Reason::new("spec-not-made", crate::sentence(self));
        match self {
            // A file that came after the sealing, or another who was faster.
            Self::Compile(CompileError::Unsealed { .. }) | Self::Store(StoreError::Raced { .. }) => None,
            Self::Store(_) => Some(reason.mend("see whether the database is well; it is tried again")),
            Self::Decrypt { .. } => {
                Some(reason.mend(
                    "bring the keyring back from its backup; if only this file is damaged, delete its deployment",
                ))
            }
            Self::Seal { .. } => Some(reason.mend("revoke the host and enrol it anew: its sealing key is unusable")),
            Self::TooLarge { .. } => Some(reason.mend("delete deployments from it, and deploy them on another host")),
        }
    }
}

/// Compiles every marked host. Answers how many have a newer spec. One host's trouble is told, and does not keep the
/// others waiting.
pub(super) async fn round(app: &App) -> Result<usize, StoreError> {
    let marked = app.store.read(async |tx| {
        let frozen = meta::frozen(tx).await?.is_some();
        if frozen { Ok(Vec::new()) } else { outbox::marked(tx).await }
    });
    let mut published = 0;
    for mark in marked.await? {
        match host(app, mark).await {
            Ok(newer) => published += usize::from(newer),
            Err(failed) => tell(app, mark.host, &failed).await?,
        }
    }
    if published > 0 {
        app.signals.publisher.notify();
    }
    Ok(published)
}

/// Writes down why a host's spec is not made, for whoever looks at the host. The same trouble again is no news.
async fn tell(app: &App, host: HostId, failed: &CompileFailed) -> Result<(), StoreError> {
    let Some(reason) = failed.reason() else {
        tracing::debug!(%host, error = %failed, "a host's spec is compiled next time");
        return Ok(());
    };
    let known = app.store.read(async |tx| outbox::trouble(tx, host).await).await?;
    if known.as_ref() != Some(&reason) {
        let keep = async |tx: &mut Tx| outbox::keep_trouble(tx, host, &reason).await;
        app.store.write::<_, StoreError>(Commit::Publish, keep).await?;
        tracing::error!(%host, code = reason.code, "cannot compile a host's spec, trying again: {reason}");
    }
    Ok(())
}

async fn host(app: &App, mark: Mark) -> Result<bool, CompileFailed> {
    let unsealed = app.store.read(async |tx| sealed::missing(tx, mark.host).await).await?;
    if !unsealed.is_empty() {
        let key = sealing_key(app, mark.host).await?;
        let fresh = seal(app, key, unsealed).await?;
        let keep = async |tx: &mut Tx| {
            for (of, file, ciphertext) in &fresh {
                sealed::keep(tx, *of, file, ciphertext).await?;
            }
            Ok::<_, StoreError>(())
        };
        app.store.write(Commit::Seal, keep).await?;
    }
    app.store.write(Commit::Publish, async |tx| publish(app, tx, mark).await).await
}

async fn sealing_key(app: &App, host: HostId) -> Result<SealingPublicKey, CompileFailed> {
    let row = app.store.read(async |tx| hosts::get(tx, host).await).await?;
    let row = row.ok_or(StoreError::Missing { what: "host of a placed deployment" })?;
    SealingPublicKey::from_bytes(&row.sealing_key).map_err(|source| CompileFailed::Seal { host, source })
}

/// Opens each envelope and seals its content to the host. The content is wiped as soon as it is sealed.
async fn seal(
    app: &App,
    key: SealingPublicKey,
    unsealed: Vec<(SealedFor, StoredFile)>,
) -> Result<Vec<(SealedFor, StoredFile, Vec<u8>)>, CompileFailed> {
    let mut fresh = Vec::with_capacity(unsealed.len());
    for (of, file) in unsealed {
        let decrypted = file.envelope.decrypt(&*app.keys, &file.context(of.account, of.deployment)).await;
        let content = decrypted.map_err(|source| CompileFailed::Decrypt {
            deployment: of.deployment,
            file: file.name.clone(),
            source,
        })?;
        let context =
            SealContext { host: of.host, deployment: of.deployment, file: file.name.clone(), version: file.version };
        let ciphertext =
            key.seal(&context, &content).map_err(|source| CompileFailed::Seal { host: of.host, source })?;
        fresh.push((of, file, ciphertext));
    }
    Ok(fresh)
}

/// Everything again, in one transaction: what changed since it was sealed is found unsealed, and comes next round.
async fn publish(app: &App, tx: &mut Tx, mark: Mark) -> Result<bool, CompileFailed> {
    if meta::frozen(tx).await?.is_some() {
        return Ok(false);
    }
    let host = mark.host;
    let latest = specs::latest(tx, host).await?.as_ref().map(SpecOffer::accepted);
    let basis =
        Basis { host, incarnation: meta::incarnation(tx).await?, latest, floor: specs::floor(tx, host).await? };
    let (placed, tombstones) = (placed(tx, host).await?, tombstones::unburied(tx, host).await?);
    let Some(next) = next_spec(basis, placed, tombstones, upgrades::wish(tx, host).await?)? else {
        outbox::clear(tx, mark).await?;
        return Ok(false);
    };
    if next.bytes.len() > SPEC_MAX_BYTES {
        return Err(CompileFailed::TooLarge { host, bytes: next.bytes.len() });
    }
    let before = latest.map(|latest| latest.generation);
    let published = specs::publish(tx, host, before, &next, app.clock.wall()).await?;
    if published {
        outbox::clear(tx, mark).await?;
        tracing::debug!(%host, generation = %next.generation, bytes = next.bytes.len(), "a host has a newer spec");
    }
    Ok(published)
}

/// The deployments that belong into a host's spec.
async fn placed(tx: &mut Tx, host: HostId) -> Result<Vec<PlacedDeployment>, StoreError> {
    let mut blueprints = revisions::blueprints_on_host(tx, host).await?;
    let mut sealed = sealed::on_host(tx, host).await?;
    let mut operations: BTreeMap<DeploymentId, Vec<Operation>> = BTreeMap::new();
    for (deployment, operation) in operations::unanswered_on_host(tx, host).await? {
        operations.entry(deployment).or_default().push(operation);
    }
    let rows = deployments::on_host(tx, host).await?.into_iter().filter(|row| is_wished(row.state));
    rows.map(|row| {
        Ok(PlacedDeployment {
            blueprint: blueprints.remove(&row.id).ok_or(StoreError::Missing { what: "revision" })?,
            epoch: row.epoch,
            power: power(row.state),
            operations: operations.remove(&row.id).unwrap_or_default(),
            sealed: sealed.remove(&row.id).unwrap_or_default(),
        })
    })
    .collect()
}
