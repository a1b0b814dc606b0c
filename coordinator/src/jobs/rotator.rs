//! A rotation that was asked for, from the new key to the end of the old one.
//!
//! ```text
//! no key yet ─► the provider makes one ─► noted ─┐
//!                                                ▼
//!              a batch of files that another key wraps ─► rewrapped: outside of any transaction ─► one commit
//!                      ▲                                                                             │
//!                      └──────────────────────────── more of them ───────────────────────────────────┤
//!              each older key: retired by the commit that finds nothing wrapped with it ─► forgotten ◄┘
//!                      └─► done, when all are
//! ```
//! Every step can be repeated: a coordinator that is killed between two finds the next one in the store. One
//! that dies between making a key and noting it makes another, and the first goes with the old ones, because
//! nothing is wrapped with it. Values are never decrypted here, only their keys.

use launchpad_pki::envelope::{EnvelopeContext, EnvelopeError};
use launchpad_protocol::reason::Reason;

use crate::app::App;
use crate::store::keys::{FileRow, OwnedFile, Rotation};
use crate::store::{Commit, StoreError, Tx, issuers, keys};

/// Files that are rewrapped between two commits: with a provider that is far away, each takes two calls of
/// some milliseconds, and a killed coordinator repeats at most this many.
const BATCH: u32 = 64;

/// How far a rotation is, in this process: what could not be rewrapped is passed by, and comes again in the
/// next turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    after: FileRow,
    trouble: Option<Reason>,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
enum StepFailed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Provider(#[from] EnvelopeError),
}

/// Takes one step. Answers whether there is more to do at once.
pub(super) async fn round(app: &App, turn: &mut Turn) -> Result<bool, StoreError> {
    let latest = app.store.read(async |tx| keys::latest(tx).await).await?;
    let Some(rotation) = latest.filter(|latest| latest.done_at.is_none()) else { return Ok(false) };
    match step(app, &rotation, turn).await {
        Ok(more) => Ok(more),
        Err(StepFailed::Store(error)) => Err(error),
        Err(StepFailed::Provider(error)) => {
            *turn = Turn::default();
            let mend = "see whether keyring, identity and key provider are as they should be; it is tried again";
            tell(app, &rotation, Some(Reason::new("keys-unusable", error.to_string()).mend(mend))).await?;
            Ok(false)
        }
    }
}

async fn step(app: &App, rotation: &Rotation, turn: &mut Turn) -> Result<bool, StepFailed> {
    if rotation.key_id.is_none() {
        let made = app.keys.rotate().await?;
        let note = async |tx: &mut Tx| keys::made(tx, rotation.id, &made).await;
        app.store.write::<_, StoreError>(Commit::Rotation, note).await?;
        tracing::info!(rotation = %rotation.id, key = made, "another key wraps configs and secrets from now on");
        return Ok(true);
    }
    let current = app.keys.key_id();
    let batch = app.store.read(async |tx| keys::wrapped_otherwise(tx, &current, &turn.after, BATCH).await).await?;
    if let Some((last, _)) = batch.last() {
        let last = last.clone();
        rewrap(app, batch, turn).await?;
        turn.after = last;
        return Ok(true);
    }
    rewrap_cas(app, &current, turn).await?;
    let Turn { trouble, .. } = std::mem::take(turn);
    match trouble {
        Some(trouble) => tell(app, rotation, Some(trouble)).await?,
        None => end(app, rotation).await?,
    }
    Ok(false)
}

/// Rewraps what can be, and remembers the first that cannot: it keeps its key, and that key stays.
async fn rewrap(app: &App, batch: Vec<(FileRow, OwnedFile)>, turn: &mut Turn) -> Result<(), StepFailed> {
    let mut done = Vec::with_capacity(batch.len());
    for (at, OwnedFile { account, deployment, file }) in batch {
        match file.envelope.rewrap(&*app.keys, &file.context(account, deployment)).await {
            Ok(envelope) => done.push((at, file.envelope.key_id, envelope)),
            Err(error @ (EnvelopeError::Altered | EnvelopeError::OtherKey { .. })) => {
                turn.trouble.get_or_insert_with(|| unopened(&at, &error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let keep = async |tx: &mut Tx| {
        for (at, was, envelope) in &done {
            keys::rewrap(tx, at, was, envelope).await?;
        }
        Ok::<_, StoreError>(())
    };
    Ok(app.store.write(Commit::Rotation, keep).await?)
}

/// The keys of issuing CAs, of which there are two at the most.
async fn rewrap_cas(app: &App, current: &str, turn: &mut Turn) -> Result<(), StepFailed> {
    for (id, envelope) in app.store.read(async |tx| issuers::wrapped_otherwise(tx, current).await).await? {
        match envelope.rewrap(&*app.keys, &EnvelopeContext::of_issuer(id)).await {
            Ok(next) => {
                let keep = async |tx: &mut Tx| issuers::rewrap(tx, id, &envelope.key_id, &next).await;
                app.store.write::<_, StoreError>(Commit::Rotation, keep).await?;
            }
            Err(error @ (EnvelopeError::Altered | EnvelopeError::OtherKey { .. })) => {
                let told = Reason::new("ca-key-unopened", format!("the issuing CA {}: {error}", id.short())).mend(
                    "bring back the keyring that opens it, or let another CA take over (`launchpad pki status`)",
                );
                turn.trouble.get_or_insert(told);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Nothing is wrapped with another key than the current one, unless it came meanwhile: then the next turn
/// finds it.
async fn end(app: &App, rotation: &Rotation) -> Result<(), StepFailed> {
    for older in app.keys.older() {
        let now = app.clock.wall();
        let retire = async |tx: &mut Tx| keys::retire_unused(tx, &older, now).await;
        if !app.store.write::<_, StoreError>(Commit::Rotation, retire).await? {
            return Ok(());
        }
        app.keys.forget(&older).await?;
        tracing::info!(rotation = %rotation.id, key = older, "a key that wrapped configs and secrets is forgotten");
    }
    let now = app.clock.wall();
    let finish = async |tx: &mut Tx| keys::finish(tx, rotation.id, now).await;
    Ok(app.store.write::<_, StoreError>(Commit::Rotation, finish).await?)
}

/// Writes down why it does not come on. The same trouble again is no news.
async fn tell(app: &App, rotation: &Rotation, trouble: Option<Reason>) -> Result<(), StoreError> {
    if rotation.trouble == trouble {
        return Ok(());
    }
    if let Some(trouble) = &trouble {
        tracing::error!(rotation = %rotation.id, "cannot rotate the keys, trying again: {trouble}");
    }
    let keep = async |tx: &mut Tx| keys::keep_trouble(tx, rotation.id, trouble.as_ref()).await;
    app.store.write(Commit::Rotation, keep).await
}

fn unopened(at: &FileRow, error: &EnvelopeError) -> Reason {
    let FileRow { deployment, revision, name } = at;
    Reason::new("file-unopened", format!("{deployment}, revision {revision}, file `{name}`: {error}"))
        .because("its key stays as long as this file does")
        .mend("bring back the keyring that opens it, set that secret anew, or delete the deployment")
}
