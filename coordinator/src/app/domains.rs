//! Domains that owners bring: claim, prove, let go.
//!
//! ```text
//!   claim ──► the records to set ──► (their owner sets them) ──► verify, or the job's next look
//!                                                                  │ DnsLookup: outside of any transaction
//!   remove, delete ──► released ◄── proof gone for long ◄── one transaction: domain::domains ─┴─► names of the next
//!                                                                                                 revision
//! ```
//! A claim is a row; what follows from it for the deployment is in `public_names.rs`.

use std::collections::BTreeSet;

use launchpad_pki::serial::NoEntropy;
use launchpad_protocol::limits::HOSTNAMES_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::deployments::{find, find_to_change, record};
use super::idempotency::Once;
use super::public_names::addresses;
use super::{App, AppError};
use crate::command::{DeploymentRef, DomainRef};
use crate::dns::Handled;
use crate::domain::actor::{Action, Actor, Scope, authorise};
use crate::domain::audit::AuditEntry;
use crate::domain::deployment::{Event, step};
use crate::domain::dns_record::{DnsRecord, leading, proof};
use crate::domain::domains::{Claim, Proof, ours, taken};
use crate::domain::public_name::PublicName;
use crate::domain::refusal::Refusal;
use crate::store::deployments::Deployment;
use crate::store::domains::Domain;
use crate::store::{Commit, StoreError, Tx, audit, deployments, domains};

/// Random bytes of a proof: nobody guesses it, and it stays short enough to type.
const TOKEN_BYTES: usize = 16;
/// What a proof starts with, so that people know later what the record is for.
const TOKEN_PREFIX: &str = "launchpad-proof-";

/// A public name as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainView {
    /// The name.
    pub name: String,
    /// How far it is its claimant's; none: it is the deployment's own, below the installation's domain.
    pub claim: Option<Claim>,
    /// The record that proves a claim.
    pub proof: Option<DnsRecord>,
    /// The records that lead it to the bot: the CNAME, or else the addresses.
    pub leading: Vec<DnsRecord>,
}

/// A domain that was just claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedDomain {
    /// The claim.
    pub domain: DomainView,
    /// Whether people have to set its records.
    pub by_hand: bool,
}

impl App {
    /// The public names of a deployment, its own first.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may see; or the store failed.
    pub async fn domains(&self, actor: &Actor, target: &DeploymentRef) -> Result<Vec<DomainView>, AppError> {
        let read = async |tx: &mut Tx| {
            let deployment = find(tx, actor, target).await?;
            authorise(actor, Action::ReadDeployments(deployment.account))?;
            let views = self.domain_views(tx, &deployment).await?;
            Ok::<_, AppError>((deployment, views))
        };
        let (deployment, views) = self.store.read(read).await?;
        self.note_view(actor, "domain.list", Some(deployment.account), deployment.id.to_string()).await?;
        Ok(views)
    }

    /// Claims a domain for a deployment. It leads there once its owner has set the records that the answer lists.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may change, the domain is another's or the installation's,
    /// or is claimed already, or there are too many; or the store failed.
    pub async fn claim_domain(
        &self,
        actor: &Actor,
        wanted: DomainRef,
        once: &Once,
    ) -> Result<ClaimedDomain, AppError> {
        let now = self.clock.wall();
        let token = token()?;
        let claim = async |tx: &mut Tx| {
            if let Some(view) = once.earlier(tx, actor.user, now).await? {
                return Ok(view);
            }
            let deployment = find_to_change(tx, actor, &wanted.deployment).await?;
            step(deployment.state, Event::Update)?;
            self.check_claim(tx, &deployment, &wanted.name).await?;
            let domain = Domain {
                name: wanted.name.clone(),
                account: deployment.account,
                deployment: deployment.id,
                claim: Claim::new(token.clone(), now),
            };
            if !domains::create(tx, &domain).await? {
                return Err(claimed_already(&wanted.name).into());
            }
            record(tx, actor, "domain.claim", &deployment, wanted.name.to_string(), now).await?;
            let view = self.domain_view(&deployment, domain, &addresses(tx, &deployment).await?);
            once.remember(tx, actor.user, now, &view).await?;
            Ok::<_, AppError>(view)
        };
        let view = self.store.write(Commit::ClaimDomain, claim).await?;
        let records: Vec<_> = view.proof.iter().chain(&view.leading).cloned().collect();
        let handled = self.dns_provider.set(&records).await.unwrap_or_else(|reason| {
            tracing::warn!(domain = view.name, code = reason.code, "cannot set records, its owner has to: {reason}");
            Handled::ByHand
        });
        Ok(ClaimedDomain { domain: view, by_hand: handled == Handled::ByHand })
    }

    /// Looks for the proof of a claimed domain now.
    ///
    /// # Errors
    /// A refusal when there is no such claim that the actor may change; or the store failed. A proof that is not found
    /// is no error: the answer says what was found.
    pub async fn verify_domain(&self, actor: &Actor, wanted: &DomainRef) -> Result<DomainView, AppError> {
        let read = async |tx: &mut Tx| {
            let deployment = find_to_change(tx, actor, &wanted.deployment).await?;
            let claim = domains::get(tx, deployment.id, &wanted.name).await?;
            claim.map(drop).ok_or_else(|| AppError::from(Refusal::not_found("domain", &wanted.name)))
        };
        self.store.read(read).await?;
        let found = self.look_for_proof(&wanted.name).await;
        let now = self.clock.wall();
        let check = async |tx: &mut Tx| {
            let mut deployment = find_to_change(tx, actor, &wanted.deployment).await?;
            let domain = self.check(tx, &mut deployment, &wanted.name, found.clone(), now).await?;
            let domain = domain.ok_or_else(|| Refusal::not_found("domain", &wanted.name))?;
            let outcome = if domain.claim.is_verified() { "proved" } else { "not proved" };
            record(tx, actor, "domain.verify", &deployment, format!("{}: {outcome}", wanted.name), now).await?;
            let addresses = addresses(tx, &deployment).await?;
            Ok::<_, AppError>(self.domain_view(&deployment, domain, &addresses))
        };
        let view = self.store.write(Commit::CheckDomain, check).await?;
        self.wake_after_change();
        Ok(view)
    }

    /// Lets go of a domain: it does not lead there any more, and others may claim it. Answers the names that are left.
    ///
    /// # Errors
    /// A refusal when there is no such claim that the actor may change; or the store failed.
    pub async fn remove_domain(&self, actor: &Actor, wanted: &DomainRef) -> Result<Vec<DomainView>, AppError> {
        let now = self.clock.wall();
        let remove = async |tx: &mut Tx| {
            let mut deployment = find_to_change(tx, actor, &wanted.deployment).await?;
            let domain = domains::get(tx, deployment.id, &wanted.name).await?;
            let domain = domain.ok_or_else(|| Refusal::not_found("domain", &wanted.name))?;
            domains::remove(tx, deployment.id, &wanted.name).await?;
            self.settle(tx, &mut deployment, now).await?;
            record(tx, actor, "domain.remove", &deployment, wanted.name.to_string(), now).await?;
            let gone = self.domain_view(&deployment, domain, &addresses(tx, &deployment).await?);
            Ok::<_, AppError>((gone, self.domain_views(tx, &deployment).await?))
        };
        let (gone, left) = self.store.write(Commit::RemoveDomain, remove).await?;
        self.wake_after_change();
        let records: Vec<_> = gone.proof.into_iter().chain(gone.leading).collect();
        if let Err(reason) = self.dns_provider.remove(&records).await {
            tracing::warn!(
                domain = gone.name,
                code = reason.code,
                "cannot remove records, its owner has to: {reason}"
            );
        }
        Ok(left)
    }

    /// Claims whose proof is to be looked for now, at most that many. For the job.
    pub(crate) async fn due_domains(&self, most: u32) -> Result<Vec<Domain>, StoreError> {
        let now = self.clock.wall();
        self.store.read(async |tx| domains::due(tx, now, most).await).await
    }

    /// Looks for one claim's proof, for the job. Answers whether the deployment's names have changed.
    pub(crate) async fn check_domain(&self, due: &Domain) -> Result<bool, AppError> {
        let found = self.look_for_proof(&due.name).await;
        let now = self.clock.wall();
        let check = async |tx: &mut Tx| {
            // It may be gone, or removed, by now: then there is nothing to check.
            let Some(mut deployment) = deployments::get(tx, Scope::Every, due.deployment).await? else {
                return Ok(false);
            };
            let before = deployment.revision;
            let Some(domain) = self.check(tx, &mut deployment, &due.name, found.clone(), now).await? else {
                return Ok(false);
            };
            if domain.claim.is_verified() != due.claim.is_verified() {
                let action = if domain.claim.is_verified() { "domain.verify" } else { "domain.lapse" };
                let (target, detail) = (due.deployment.to_string(), due.name.to_string());
                let entry = AuditEntry {
                    account: Some(due.account),
                    ..AuditEntry::by_coordinator(now, action, target, detail)
                };
                audit::append(tx, &entry).await?;
            }
            Ok::<_, AppError>(deployment.revision != before)
        };
        let changed = self.store.write(Commit::CheckDomain, check).await?;
        if changed {
            self.wake_after_change();
        }
        Ok(changed)
    }

    async fn look_for_proof(&self, name: &PublicName) -> Proof {
        match self.dns.texts(&name.proof_name()).await {
            Ok(texts) => Proof::Texts(texts),
            Err(reason) => Proof::Unknown(reason),
        }
    }

    /// Notes what was found, and gives the deployment the names that follow from it. Answers the claim; none: there is
    /// none any more.
    async fn check(
        &self,
        tx: &mut Tx,
        deployment: &mut Deployment,
        name: &PublicName,
        found: Proof,
        now: Moment,
    ) -> Result<Option<Domain>, AppError> {
        let Some(mut domain) = domains::get(tx, deployment.id, name).await? else { return Ok(None) };
        let other = domains::holder(tx, name).await?.filter(|holder| holder.deployment != deployment.id);
        let other = other.map(|holder| taken(name, holder.account == deployment.account).reason);
        let was_verified = domain.claim.is_verified();
        domain.claim = domain.claim.after(name, found, other, now);
        domains::update(tx, &domain).await?;
        if domain.claim.is_verified() != was_verified {
            self.settle(tx, deployment, now).await?;
        }
        Ok(Some(domain))
    }

    async fn check_claim(&self, tx: &mut Tx, deployment: &Deployment, name: &PublicName) -> Result<(), AppError> {
        if self.ingress_domain.as_ref().is_some_and(|domain| domain.covers(name)) {
            return Err(ours(name).into());
        }
        let holder = domains::holder(tx, name).await?.filter(|holder| holder.deployment != deployment.id);
        if let Some(holder) = holder {
            return Err(taken(name, holder.account == deployment.account).into());
        }
        // One place among the names is the deployment's own.
        let most = HOSTNAMES_MAX - 1;
        if domains::of_deployment(tx, deployment.id).await?.len() >= most {
            let reason = Reason::new("too-many-domains", format!("{most} domains are claimed for it already"));
            return Err(Refusal::impossible(reason.mend("remove one first")).into());
        }
        Ok(())
    }

    async fn domain_views(&self, tx: &mut Tx, deployment: &Deployment) -> Result<Vec<DomainView>, StoreError> {
        let claimed = domains::of_deployment(tx, deployment.id).await?;
        let addresses = addresses(tx, deployment).await?;
        let own = self.own_name(&deployment.name, deployment.id).map(|name| DomainView {
            leading: leading(&name, Some(&name), &addresses),
            name,
            claim: None,
            proof: None,
        });
        let claimed = claimed.into_iter().map(|domain| self.domain_view(deployment, domain, &addresses));
        Ok(own.into_iter().chain(claimed).collect())
    }

    fn domain_view(&self, deployment: &Deployment, domain: Domain, addresses: &BTreeSet<String>) -> DomainView {
        let own = self.own_name(&deployment.name, deployment.id);
        DomainView {
            proof: Some(proof(&domain.name, &domain.claim.token)),
            leading: leading(domain.name.as_str(), own.as_deref(), addresses),
            name: domain.name.to_string(),
            claim: Some(domain.claim),
        }
    }
}

fn token() -> Result<String, NoEntropy> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(format!("{TOKEN_PREFIX}{}", hex::encode(bytes)))
}

fn claimed_already(name: &PublicName) -> Refusal {
    let reason = Reason::new("domain-claimed", format!("{name} is claimed for this deployment already"));
    Refusal::conflict(reason.mend("set the records that GET …/domains lists, and verify it"))
}
