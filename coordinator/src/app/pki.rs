//! Who signs for hosts, who holds what of it, and moving a rotation of the issuing CA on or back.
//!
//! A rotation begins on the machine that holds the root's key ([`super::ca_rotation`]); each further step is a commit
//! here, decided by [`crate::domain::rotation`]. The doors of every coordinator go by the store within a second, and
//! hosts ask every few minutes: what they answered is shown as progress.

use std::collections::BTreeMap;

use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::in_force_until;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{HostId, RotationId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::idempotency::Once;
use super::{App, AppError};
use crate::command::RotateCa;
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::host::HostState;
use crate::domain::refusal::Refusal;
use crate::domain::rotation::{BEGIN, Phase, Side, Users, step};
use crate::store::audit::Deed;
use crate::store::certificates::{self, Newest};
use crate::store::issuers::{self, CaRotation, Held, Standing};
use crate::store::{Commit, StoreError, Tx, audit, hosts};

/// What there is, and how far a rotation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pki {
    /// The roots that hosts are told to trust, by SHA-256, and until when each is in force.
    pub roots: Vec<(Digest, Option<Moment>)>,
    /// Every issuing CA that is remembered, the first one first.
    pub issuers: Vec<IssuerView>,
    /// The latest rotation, if there ever was one.
    pub rotation: Option<CaRotationView>,
    /// Every host that was not revoked.
    pub hosts: Vec<HostTrust>,
}

/// An issuing CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerView {
    /// The SHA-256 of its certificate.
    pub id: Digest,
    /// The SHA-256 of its root's.
    pub root: Digest,
    /// What it is for.
    pub role: IssuerRole,
    /// In force until here.
    pub not_after: Option<Moment>,
    /// When it came.
    pub added_at: Moment,
    /// When its hosts were shut out.
    pub ended_at: Option<Moment>,
}

/// What an issuing CA is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerRole {
    /// It signs.
    Signs,
    /// It does not sign; its hosts are let in.
    Accepted,
    /// Its hosts are shut out; whoever was away may renew for 30 days.
    Ended,
}

/// A rotation, and how far the fleet has followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRotationView {
    /// Its id.
    pub id: RotationId,
    /// Its phase.
    pub phase: String,
    /// The CA before.
    pub old: Digest,
    /// The CA after.
    pub new: Digest,
    /// When it began.
    pub begun_at: Moment,
    /// Since when it is in this phase.
    pub phase_at: Moment,
}

/// What one host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTrust {
    /// Its id.
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// Whether its session is open, at this coordinator.
    pub connected: bool,
    /// Who signed its certificate.
    pub issuer: Option<Digest>,
    /// Until when its newest certificate is in force.
    pub not_after: Option<Moment>,
    /// Whether its certificate is of the CA that signs.
    pub has_certificate: bool,
    /// Whether it has told that it trusts the roots that it should.
    pub has_roots: bool,
}

impl App {
    /// What there is.
    ///
    /// # Errors
    /// A refusal when the actor may not see it; or the store failed.
    pub async fn pki(&self, actor: &Actor) -> Result<Pki, AppError> {
        authorise(actor, Action::ReadPki)?;
        self.store.read(async |tx| Ok(self.shown_pki(tx).await?)).await
    }

    /// Moves a rotation on, or back, from the phase in which the asker saw it.
    ///
    /// # Errors
    /// A refusal when the actor may not, there is no rotation, it is in another phase, or a CA that would go is in use;
    /// or the store failed.
    pub async fn rotate_ca(&self, actor: &Actor, command: RotateCa, once: &Once) -> Result<Pki, AppError> {
        authorise(actor, Action::RotateCa)?;
        let now = self.clock.wall();
        let rotate = async |tx: &mut Tx| {
            if let Some(shown) = once.earlier(tx, actor.user, now).await? {
                return Ok(shown);
            }
            let rotation = Standing::read(tx).await?.rotation.ok_or_else(|| Refusal::conflict(never_begun()))?;
            if rotation.phase != command.from {
                return Err(Refusal::conflict(in_another(&rotation, command.from)).into());
            }
            let users = users(tx, &rotation, now).await?;
            let next = step(rotation.phase, command.direction, &users)
                .map_err(|refused| Refusal::conflict(refused.reason()))?;
            advance(tx, &rotation, next, now).await?;
            let detail = format!("{} → {next}", rotation.phase);
            let deed = Deed { action: "ca.rotate", target: rotation.id.to_string(), account: None, detail };
            audit::record(tx, actor, deed, now).await?;
            let shown = self.shown_pki(tx).await?;
            once.remember(tx, actor.user, now, &shown).await?;
            Ok::<_, AppError>(shown)
        };
        let shown = self.store.write(Commit::StepCaRotation, rotate).await?;
        self.fleet.ca_changed();
        Ok(shown)
    }

    async fn shown_pki(&self, tx: &mut Tx) -> Result<Pki, StoreError> {
        let standing = Standing::read(tx).await?;
        let (held, newest) = (issuers::held(tx).await?, certificates::newest(tx).await?);
        let signer = standing.signer().map(|issuer| issuer.id);
        let roots = standing.roots();
        let bundle = TrustBundle::new(roots.clone()).ok().map(|bundle| bundle.digest());
        let hosts = hosts::all(tx).await?.into_iter().filter(|host| host.state != HostState::Retired).map(|host| {
            let issuer = issuer_of(host.id, &held, &newest);
            HostTrust {
                connected: self.fleet.connected(host.id).is_some(),
                not_after: newest.get(&host.id).map(|newest| newest.not_after),
                has_certificate: issuer.is_some() && issuer == signer,
                has_roots: bundle.is_some() && held.get(&host.id).map(|held| held.bundle) == bundle,
                id: host.id,
                name: host.name,
                issuer,
            }
        });
        Ok(Pki {
            roots: roots.iter().map(|root| (Digest::of(root), in_force_until(root))).collect(),
            hosts: hosts.collect(),
            issuers: issuer_views(&standing),
            rotation: standing.rotation.map(CaRotationView::from),
        })
    }
}

impl From<CaRotation> for CaRotationView {
    fn from(rotation: CaRotation) -> Self {
        let CaRotation { id, old, new, phase, begun_at, phase_at } = rotation;
        Self { id, phase: phase.as_str().to_owned(), old, new, begun_at, phase_at }
    }
}

fn issuer_views(standing: &Standing) -> Vec<IssuerView> {
    let signer = standing.signer().map(|issuer| issuer.id);
    let view = |issuer: &issuers::Issuer| IssuerView {
        id: issuer.id,
        root: Digest::of(&issuer.root),
        role: match issuer.ended_at {
            Some(_) => IssuerRole::Ended,
            None if Some(issuer.id) == signer => IssuerRole::Signs,
            None => IssuerRole::Accepted,
        },
        not_after: in_force_until(&issuer.certificate),
        added_at: issuer.added_at,
        ended_at: issuer.ended_at,
    };
    standing.issuers.iter().map(view).collect()
}

/// The host's own word counts before what was issued to it: an answer may have been lost on its way.
fn issuer_of(host: HostId, held: &BTreeMap<HostId, Held>, newest: &BTreeMap<HostId, Newest>) -> Option<Digest> {
    held.get(&host).map(|held| held.issuer).or_else(|| newest.get(&host).and_then(|newest| newest.issuer))
}

/// Hosts that would be shut out if one of the two CAs went.
async fn users(tx: &mut Tx, rotation: &CaRotation, now: Moment) -> Result<Users, StoreError> {
    let (held, newest) = (issuers::held(tx).await?, certificates::newest(tx).await?);
    let mut users = Users::default();
    for host in hosts::all(tx).await?.into_iter().filter(|host| host.state != HostState::Retired) {
        if newest.get(&host.id).is_none_or(|newest| newest.not_after <= now) {
            continue;
        }
        let issuer = issuer_of(host.id, &held, &newest);
        if issuer == Some(rotation.new) {
            users.new.push(host.name);
        } else {
            users.old.push(host.name);
        }
    }
    Ok(users)
}

async fn advance(tx: &mut Tx, rotation: &CaRotation, next: Phase, now: Moment) -> Result<(), StoreError> {
    issuers::advance(tx, rotation, next, now).await?;
    for side in [Side::Old, Side::New] {
        if !next.accepts(side) {
            issuers::end(tx, rotation.issuer(side), now).await?;
        }
    }
    Ok(())
}

fn never_begun() -> Reason {
    Reason::new("no-ca-rotation", "no rotation of the CA is under way").mend(BEGIN)
}

fn in_another(rotation: &CaRotation, seen: Phase) -> Reason {
    Reason::new("ca-rotation-moved", format!("the rotation is in phase `{}`, not in `{seen}`", rotation.phase))
        .because("somebody else moved it, or this step was taken already")
        .mend("look at `launchpad pki status`, then step from there")
}
