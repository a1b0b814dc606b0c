//! A new deployment: its first revision is pinned, its files are encrypted, and the placer is woken.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_pki::envelope::{Envelope, EnvelopeContext};
use launchpad_pki::serial::NoEntropy;
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capacity;
use launchpad_protocol::spec::InstanceSpec;
use launchpad_protocol::time::Moment;
use zeroize::Zeroizing;

use super::deployments::DeploymentView;
use super::idempotency::Once;
use super::{App, AppError, candidates};
use crate::command::CreateDeployment;
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::amend::within_plan;
use crate::domain::deployment::State;
use crate::domain::lease::Policy;
use crate::domain::placement::{Wanted, fits_somewhere};
use crate::domain::plan_table::Plan;
use crate::domain::refusal::Refusal;
use crate::domain::revision::{Ingredients, blueprint};
use crate::domain::secrets::named_as_config;
use crate::store::audit::Deed;
use crate::store::deployments::Deployment;
use crate::store::revisions::{PinnedRevision, StoredFile};
use crate::store::timeline::TimelineEntry;
use crate::store::{Commit, Tx, accounts, audit, deployments, revisions, timeline};

/// Random bytes of a secret that nobody gave.
const GENERATED_SECRET_BYTES: usize = 32;

/// The files' contents by name; wiped when dropped.
type Contents = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// All that is known before the transaction.
struct Draft {
    deployment: Deployment,
    revision: PinnedRevision,
    files: Vec<StoredFile>,
}

impl App {
    /// Starts a new bot.
    ///
    /// # Errors
    /// A refusal: the name is taken, the plan is below the workload's needs or larger than any host or grants fewer
    /// egress rules, the account is not the actor's; or the store or the keyring failed.
    pub async fn create_deployment(
        &self,
        actor: &Actor,
        command: CreateDeployment,
        once: &Once,
    ) -> Result<DeploymentView, AppError> {
        let account = actor.acting_in(command.account)?;
        authorise(actor, Action::ChangeDeployments(account))?;
        let now = self.clock.wall();
        let draft = self.draft(account, command, now).await?;
        let create = async |tx: &mut Tx| {
            if let Some(view) = once.earlier(tx, actor.user, now).await? {
                return Ok(view);
            }
            let view = self.commit_draft(tx, actor, &draft, now).await?;
            once.remember(tx, actor.user, now, &view).await?;
            Ok::<_, AppError>(view)
        };
        let view = self.store.write(Commit::CreateDeployment, create).await?;
        self.signals.placer.notify();
        self.signals.timeline.ring();
        Ok(view)
    }

    async fn draft(&self, account: AccountId, command: CreateDeployment, now: Moment) -> Result<Draft, AppError> {
        let profile =
            self.profiles.get(&command.profile).ok_or_else(|| Refusal::not_found("profile", &command.profile))?;
        let plan = self.plans.get(&command.plan).ok_or_else(|| Refusal::not_found("plan", &command.plan))?;
        let id: DeploymentId = self.entropy.id(now);
        let contents = contents(profile, &command)?;
        let secrets: BTreeSet<_> = contents.keys().filter(|name| **name != profile.config.file).cloned().collect();
        let revision = Revision::default().next();
        let name = command.name.as_str();
        let image = &command.image;
        let (egress, hostnames) = (&command.egress, self.own_name(name, id).into_iter().collect());
        within_plan(egress, plan)?;
        command.policy.check(profile.state_path.is_some(), &profile.name)?;
        let blueprint = blueprint(Ingredients {
            deployment: id,
            account,
            name,
            revision,
            profile,
            plan,
            image,
            egress,
            hostnames: &hostnames,
            secrets: &secrets,
            lease: command.policy.lease(&self.patience),
        })?;
        let files = self.encrypt(account, id, revision, contents).await?;
        let deployment = requested(&blueprint, plan, (command.pool.as_str(), command.policy), now);
        let (profile, plan, egress) = (profile.clone(), plan.clone(), command.egress);
        let revision = PinnedRevision { profile, plan, egress, blueprint, created_at: now };
        Ok(Draft { deployment, revision, files })
    }

    async fn encrypt(
        &self,
        account: AccountId,
        deployment: DeploymentId,
        revision: Revision,
        contents: Contents,
    ) -> Result<Vec<StoredFile>, AppError> {
        let mut files = Vec::with_capacity(contents.len());
        for (name, content) in contents {
            let context = EnvelopeContext { account, deployment, file: name.clone(), version: revision.0 };
            let envelope = Envelope::encrypt(&*self.keys, &context, &content).await?;
            let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
            files.push(StoredFile { name, version: revision.0, bytes, envelope });
        }
        Ok(files)
    }

    async fn commit_draft(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        draft: &Draft,
        now: Moment,
    ) -> Result<DeploymentView, AppError> {
        let Draft { deployment, revision, files } = draft;
        if accounts::get(tx, deployment.account).await?.is_none() {
            return Err(Refusal::not_found("account", deployment.account).into());
        }
        self.check_own_name(tx, deployment).await?;
        let sealed_bytes = files.iter().map(|file| file.bytes).sum();
        let wanted = self.wanted(&revision.blueprint, deployment, sealed_bytes);
        fits_somewhere(&wanted, &candidates(tx).await?).map_err(Refusal::impossible)?;
        if !deployments::create(tx, deployment).await? {
            return Err(name_taken(&deployment.name).into());
        }
        revisions::create(tx, revision, files).await?;
        let line = TimelineEntry::of(deployment, self.entropy.id(now), now, "deployment requested");
        timeline::append(tx, &line).await?;
        let deed = Deed {
            action: "deployment.create",
            target: deployment.id.to_string(),
            account: Some(deployment.account),
            detail: format!("{} from {}, plan {}", deployment.name, deployment.image, deployment.plan),
        };
        audit::record(tx, actor, deed, now).await?;
        Ok(self.reached(DeploymentView::of(deployment, vec![line], None)))
    }
}

impl App {
    /// What placement must find for a deployment whose files have so many bytes.
    pub(crate) fn wanted(&self, blueprint: &InstanceSpec, deployment: &Deployment, sealed_bytes: u64) -> Wanted {
        Wanted {
            pool: self.pools.get(&deployment.pool),
            account: deployment.account,
            size: deployment.size,
            sealed_bytes,
            requires: blueprint.requires.clone(),
        }
    }
}

fn requested(blueprint: &InstanceSpec, plan: &Plan, (pool, policy): (&str, Policy), now: Moment) -> Deployment {
    Deployment {
        id: blueprint.deployment,
        account: blueprint.account,
        name: blueprint.name.clone(),
        profile: blueprint.profile.clone(),
        plan: plan.name.clone(),
        image: blueprint.image.clone(),
        pool: pool.to_owned(),
        policy,
        state: State::Requested,
        reason: None,
        revision: blueprint.revision,
        epoch: Epoch::default(),
        host: None,
        size: Capacity { storage_bytes: blueprint.volume.as_ref().map_or(0, |volume| volume.bytes), ..plan.size() },
        created_at: now,
        changed_at: now,
        deleted_at: None,
        version: 1,
    }
}

/// The config, the customer's secrets, and those that the profile wants made.
fn contents(profile: &Profile, command: &CreateDeployment) -> Result<Contents, AppError> {
    let mut contents = Contents::new();
    for (name, secret) in &command.secrets {
        contents.insert(name.as_str().to_owned(), Zeroizing::new(secret.expose().as_bytes().to_vec()));
    }
    if contents.contains_key(&profile.config.file) {
        return Err(named_as_config(&profile.config.file).into());
    }
    for name in &profile.secrets.generated {
        if !contents.contains_key(name) {
            contents.insert(name.clone(), generated()?);
        }
    }
    let config = command.config.as_ref().unwrap_or(&profile.config.default);
    contents.insert(profile.config.file.clone(), Zeroizing::new(config.clone().into_bytes()));
    Ok(contents)
}

/// Random bytes in hex.
fn generated() -> Result<Zeroizing<Vec<u8>>, NoEntropy> {
    let mut bytes = Zeroizing::new([0_u8; GENERATED_SECRET_BYTES]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| NoEntropy)?;
    Ok(Zeroizing::new(hex::encode(bytes.as_slice()).into_bytes()))
}

fn name_taken(name: &str) -> Refusal {
    let reason = Reason::new("name-taken", format!("the name `{name}` is taken in this account"))
        .because("a deleted deployment keeps its name until its data is gone")
        .mend("choose another name, or delete the other one with `--purge`");
    Refusal::conflict(reason)
}
