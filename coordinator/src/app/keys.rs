//! The keys that wrap what the store holds: which wraps what, and changing them.
//!
//! Asking for another key is a commit; making it, and rewrapping everything with it, is the work of
//! `jobs::rotator`.

use std::collections::BTreeMap;

use launchpad_protocol::id::RotationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::idempotency::Once;
use super::{App, AppError};
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::refusal::Refusal;
use crate::store::audit::Deed;
use crate::store::keys::Rotation;
use crate::store::{Commit, StoreError, Tx, audit, keys};

/// The keys as they are shown: by name, for the keys themselves are shown to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// The one that wraps.
    pub current: String,
    /// How many files each wraps, those that wrap none and are still held included.
    pub wraps: BTreeMap<String, u64>,
    /// The latest change of the key that wraps, if there ever was one.
    pub rotation: Option<RotationView>,
}

/// A change of the key that wraps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationView {
    /// Its id.
    pub id: RotationId,
    /// When it was asked for.
    pub asked_at: Moment,
    /// When the old key was gone; none: it goes on.
    pub done_at: Option<Moment>,
    /// Why it does not come on.
    pub trouble: Option<Reason>,
}

impl From<Rotation> for RotationView {
    fn from(row: Rotation) -> Self {
        Self { id: row.id, asked_at: row.asked_at, done_at: row.done_at, trouble: row.trouble }
    }
}

impl App {
    /// Which key wraps what.
    ///
    /// # Errors
    /// A refusal when the actor may not see it; or the store failed.
    pub async fn keys(&self, actor: &Actor) -> Result<Keys, AppError> {
        authorise(actor, Action::ReadKeys)?;
        self.store.read(async |tx| Ok(self.shown(tx).await?)).await
    }

    /// Asks for another key that wraps. Answers at once: [`App::keys`] tells how far it is.
    ///
    /// # Errors
    /// A refusal when the actor may not, or an earlier one is under way; or the store failed.
    pub async fn rotate_keys(&self, actor: &Actor, once: &Once) -> Result<Keys, AppError> {
        authorise(actor, Action::RotateKeys)?;
        let now = self.clock.wall();
        let ask = async |tx: &mut Tx| {
            if let Some(shown) = once.earlier(tx, actor.user, now).await? {
                return Ok(shown);
            }
            if let Some(earlier) = keys::latest(tx).await?.filter(|earlier| earlier.done_at.is_none()) {
                return Err(under_way(&earlier).into());
            }
            let id: RotationId = self.entropy.id(now);
            keys::ask(tx, id, now).await?;
            let deed =
                Deed { action: "keys.rotate", target: id.to_string(), account: None, detail: self.keys.key_id() };
            audit::record(tx, actor, deed, now).await?;
            let shown = self.shown(tx).await?;
            once.remember(tx, actor.user, now, &shown).await?;
            Ok::<_, AppError>(shown)
        };
        let shown = self.store.write(Commit::RotateKeys, ask).await?;
        self.signals.rotator.notify();
        Ok(shown)
    }

    async fn shown(&self, tx: &mut Tx) -> Result<Keys, StoreError> {
        let current = self.keys.key_id();
        let mut wraps = keys::counts(tx).await?;
        for held in self.keys.older().into_iter().chain([current.clone()]) {
            wraps.entry(held).or_default();
        }
        Ok(Keys { current, wraps, rotation: keys::latest(tx).await?.map(RotationView::from) })
    }
}

fn under_way(earlier: &Rotation) -> Refusal {
    let reason = Reason::new("rotation-under-way", format!("the rotation {} is not done yet", earlier.id))
        .mend("wait for it; `launchpad key ls` shows how far it is");
    Refusal::conflict(match &earlier.trouble {
        Some(trouble) => reason.because(trouble.sentence.clone()),
        None => reason,
    })
}
